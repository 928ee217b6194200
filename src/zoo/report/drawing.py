"""Draw the charts of a report as PNG files, in the style of `zoo.evaluate.pictures`."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image, ImageOps

from zoo.evaluate.pictures import CLOSED, COLOURS, INK, class_shares, drawn, series_style

MODES = {"host": "-", "bound": "--", "graph": ":"}


def three_confusions(counts: Mapping[str, Sequence[Sequence[int]]], path: Path) -> None:
    """Draw confusion matrices of the first tenth of the test images, of all of them, and of random predictions.

    counts: {"tenth", "all"}, each integer [classes, classes], actual by predicted.
    """
    tenth, whole = (np.asarray(counts[part]) for part in ("tenth", "all"))
    guessed = np.random.default_rng(0).multinomial(whole.sum(1), [1 / len(whole)] * len(whole))
    panels = [tenth, whole, guessed]
    with drawn(path, 10.4, 3.7, colours=128, rc=CLOSED, ncols=3) as grid:
        class_shares(grid, panels, fraction=0.02, pad=0.02)
        for axes, panel, name in zip(grid, panels, ("", "", ", random predictions"), strict=True):
            axes.set_title(f"{panel.sum():,} images{name}", fontsize=9.5, loc="left")


def curves(frame: pandas.DataFrame, path: Path, published: Mapping[str, Mapping[int, float]] = MappingProxyType({})):
    """Plot loss against step from columns seed, step, split, player, loss: one colour per player.

    Training is solid, validation dashed; losses that are not finite leave a gap. The y axis is logarithmic
    when every finite loss is positive. `published` are points {source: {step: loss}}, drawn as crosses.
    """
    frame = frame.assign(loss=pandas.to_numeric(frame["loss"], errors="coerce").replace([np.inf, -np.inf], np.nan))
    players = list(dict.fromkeys(frame["player"]))
    seeds = frame["seed"].nunique()
    width = 1.6 if seeds == 1 else 0.9
    with drawn(path, 5.4, 3.0, around=(0.9, 0.7, 3.0, 0.2)) as axes:
        named = set()
        for (_seed, player, split), part in frame.groupby(["seed", "player", "split"], sort=True):
            part, held_out = part.sort_values("step"), split == "validation"
            name = f"{player}, {split}" if len(players) > 1 else str(split)
            # A single player has one colour per split; several players have one colour each.
            shade = players.index(player) if len(players) > 1 else int(held_out)
            axes.plot(
                part["step"], part["loss"], "--" if held_out else "-", linewidth=width, markersize=3,
                color=COLOURS[shade % len(COLOURS)], alpha=0.95 if seeds == 1 else 0.7,
                marker="o" if held_out or len(part) < 3 else None, label="_" if name in named else name,
                zorder=3 if held_out else 2,
            )  # fmt: skip
            named.add(name)
        for index, (source, points) in enumerate(published.items()):
            axes.plot(points.keys(), points.values(), "x+"[index % 2], color=INK, markersize=6, label=source, zorder=4)
            named.add(source)
        finite = frame["loss"].dropna()
        if len(finite) and (finite > 0).all():
            axes.set_yscale("log")
            _plain_numbers(axes.yaxis, finite)
        axes.set(xlabel="step", ylabel="loss")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(True)
        title = f"one line per seed ({seeds} seeds)" if seeds > 1 else None
        if named:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=title, alignment="left")
        if not len(finite):
            axes.text(0.5, 0.5, "no finite loss was recorded", transform=axes.transAxes, ha="center", va="center")


def latency(rows: pandas.DataFrame, path: Path) -> None:
    """Plot p50 with its interval against batch size, one line per verb and mode, one panel per provider.

    rows: columns provider, verb, mode, batch, p50_us (NaN: left out; at least one is a number), p50_low_us and
    p50_high_us (NaN: no interval), one row per provider, verb, mode and batch.
    """
    rows = rows.dropna(subset="p50_us").sort_values("batch")
    providers, verbs, batches = (sorted(rows[key].unique()) for key in ("provider", "verb", "batch"))
    modes = sorted(rows["mode"].unique(), key=list(MODES).index)
    with drawn(path, 3.6 * len(providers) + 1.4, 3.0, ncols=len(providers), squeeze=False, sharey=True) as (grid,):
        for axes, provider in zip(grid, providers, strict=True):
            for (index, verb), mode in itertools.product(enumerate(verbs), modes):
                line = rows[(rows["provider"] == provider) & (rows["verb"] == verb) & (rows["mode"] == mode)]
                axes.errorbar(
                    line["batch"], line["p50_us"], _reach(line, "p50_us", "p50_low_us", "p50_high_us"),
                    **series_style(index), linestyle=MODES[mode], linewidth=1.4, capsize=2.5, markersize=4.5,
                    markerfacecolor="white" if mode != modes[0] else None,
                    label=f"{verb}, {mode}" if len(modes) > 1 else verb,
                )  # fmt: skip
            axes.set_title(provider, fontsize=9.5, loc="left")
            axes.set(xscale="log", yscale="log", xlabel="batch")
            axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(True)
        _plain_numbers(grid[0].yaxis, rows["p50_us"])
        grid[0].set_ylabel("p50 of a call (µs)")
        grid[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def latency_overview(rows: pandas.DataFrame, path: Path) -> None:
    """Dot plot of p50, one line per graph: filled in the default, hollow in the best configuration found.

    rows: columns name, provider, default_us, best_us, one row per graph and provider.
    """
    names = list(rows["name"].unique())
    with drawn(path, 7.4, 0.24 * len(names) + 1.0) as axes:
        for index, (provider, part) in enumerate(rows.groupby("provider")):
            places, style = part["name"].map(names.index), series_style(index) | {"s": 30}
            axes.hlines(places, part["best_us"], part["default_us"], color=style["color"], linewidth=1.0, zorder=2)
            hollow = style | {"facecolors": "white"}
            axes.scatter(part["best_us"], places, **hollow, zorder=3, label=f"{provider}, best found")
            axes.scatter(part["default_us"], places, **style, zorder=4, label=f"{provider}, default")
        _name_rows(axes, names)
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis, rows[["default_us", "best_us"]])
        axes.set_xlabel("p50 of a call at the smallest batch (µs, logarithmic)")
        axes.figure.legend(loc="outside upper left", ncols=4, handletextpad=0.1)


def peers(rows: pandas.DataFrame, path: Path, runtimes: Sequence[str]) -> None:
    """Dot plot of times relative to the reference, with intervals: one row per graph, one panel per batch size.

    rows: columns name, batch, runtime, ratio, low, high; low and high NaN without an interval. The index of a runtime
    in `runtimes` determines its colour.
    """
    names, batches = list(rows["name"].unique()), sorted(rows["batch"].unique())
    size, panels = (3.1 * len(batches) + 2.6, 0.24 * len(names) + 1.1), {"ncols": len(batches), "squeeze": False}
    with drawn(path, *size, **panels, sharex=True, sharey=True) as (grid,):
        for axes, batch in zip(grid, batches, strict=True):
            axes.axvline(1, color=INK, linewidth=1.0, zorder=1)
            for runtime in (runtime for runtime in runtimes if (rows["runtime"] == runtime).any()):
                part = rows[(rows["batch"] == batch) & (rows["runtime"] == runtime)]
                axes.errorbar(
                    part["ratio"], part["name"].map(names.index), xerr=_reach(part, "ratio", "low", "high"),
                    **series_style(runtimes.index(runtime)), label=runtime, linestyle="", markersize=5, capsize=2,
                    zorder=3,
                )  # fmt: skip
            axes.set_title(f"batch {batch:,}", fontsize=9.5, loc="left")
            axes.set_xscale("log")
            _name_rows(axes, names)
        _plain_numbers(grid[0].xaxis, [1.0, *rows["ratio"]])
        figure = grid[0].figure
        figure.supxlabel(
            "time relative to ONNX Runtime with one thread (logarithmic; right of 1 is slower)", fontsize=9.5
        )
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, handletextpad=0.1)


def thumbnail(picture: Path, path: Path) -> None:
    """Draw a PNG file with 160 x 120 pixels: the middle of a grid, a few images, and the whole confusion matrix."""
    with Image.open(picture) as image:
        pixels = image.convert("RGB")
    if picture.stem == "classify":
        small = ImageOps.pad(pixels, (160, 120), color="white")
    else:
        left, top = (max(0, (side - most) // 2) for side, most in zip(pixels.size, (360, 270), strict=True))
        small = ImageOps.fit(pixels.crop((left, top, pixels.width - left, pixels.height - top)), (160, 120))
    small.quantize(32, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)


def _reach(rows: pandas.DataFrame, value: str, low: str, high: str) -> list[pandas.Series]:
    bounds = rows[value] - rows[low].astype(float), rows[high].astype(float) - rows[value]
    return [bound.fillna(0.0) for bound in bounds]


def _name_rows(axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(True)


def _plain_numbers(axis, values) -> None:
    # Powers of ten alone are too few labels for a short axis; all their multiples are too many for a long one.
    decades = math.log10(np.max(values) / np.min(values))
    multiples = range(1, 10) if decades < 0.4 else (1, 2, 5) if decades < 2 else (1,)
    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_number))


def _number(value: float, _place=None) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e9 else f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
