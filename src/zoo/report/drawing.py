"""The charts of a report: rows -> PNG files, drawn as `zoo.evaluate.pictures` draws."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from zoo.evaluate.pictures import CLOSED, COLOURS, DOTS_PER_INCH, INK, class_shares, drawn, series_style

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
MODES = {"host": "-", "bound": "--", "graph": ":"}
# Where a point's name may stand, in points from it, nearest first.
REACHES, ANGLES = np.meshgrid([5, 10, 16, 24, 34, 46, 60], np.linspace(0, 2 * np.pi, 16, endpoint=False), indexing="ij")
PLACES = np.stack([REACHES * np.cos(ANGLES), REACHES * np.sin(ANGLES)], axis=-1).round(1).reshape(-1, 2)


def three_confusions(counts: Mapping[str, Sequence[Sequence[int]]], path: Path) -> None:
    """Draw confusion matrices of the first tenth of the test images, of all, and of answers drawn evenly at random.

    counts: {"tenth", "all"}, each integer [classes, classes], actual by predicted.
    """
    tenth, whole = (np.asarray(counts[part]) for part in ("tenth", "all"))
    guessed = np.random.default_rng(0).multinomial(whole.sum(1), [1 / len(whole)] * len(whole))
    panels = [tenth, whole, guessed]
    with drawn(path, 10.4, 3.7, colours=128, rc=CLOSED, ncols=3) as grid:
        class_shares(grid, panels, fraction=0.02, pad=0.02)
        for axes, panel, name in zip(grid, panels, ("", "", ", random answers"), strict=True):
            axes.set_title(f"{panel.sum():,} images{name}", fontsize=9.5, loc="left")


def curves(frame: pandas.DataFrame, path: Path, published: Mapping[str, Mapping[int, float]] = MappingProxyType({})):
    """Plot loss against step from columns seed, step, split, player, loss: a colour a player.

    Training is solid, validation dashed; losses that are not finite leave a gap. The y axis is logarithmic
    when every finite loss is positive. `published` are points {source: {step: loss}}, drawn as crosses.
    """
    frame = frame.assign(loss=pandas.to_numeric(frame["loss"], errors="coerce").replace([np.inf, -np.inf], np.nan))
    players = list(dict.fromkeys(frame["player"]))
    seeds = frame["seed"].nunique()
    width = 1.6 if seeds == 1 else 0.9
    with drawn(path, 7.4, 3.6) as axes:
        named = set()
        for (_seed, player, split), part in frame.groupby(["seed", "player", "split"], sort=True):
            part, held_out = part.sort_values("step"), split == "validation"
            name = f"{player}, {split}" if len(players) > 1 else str(split)
            # One player alone shows its two splits in two colours; several players have a colour each.
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
        title = f"a line a seed ({seeds} seeds)" if seeds > 1 else None
        if named:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=title, alignment="left")
        if not len(finite):
            axes.text(0.5, 0.5, "no finite loss was recorded", transform=axes.transAxes, ha="center", va="center")


def latency(rows: pandas.DataFrame, path: Path) -> None:
    """Plot p50 with its interval against batch, a line a verb and mode, a panel a provider.

    rows: columns provider, verb, mode, batch, p50_us (NaN: left out; at least one is a number), p50_low_us and
    p50_high_us (NaN: no interval), one a provider, verb, mode and batch.
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
    """Dot plot of p50, a line a graph: filled as the runtime comes, hollow in the best configuration found.

    rows: columns name, provider, default_us, best_us, one a graph and provider.
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
    """Dot plot of every runtime's time over the reference's, with its interval: a row a graph, a panel a batch.

    rows: columns name, batch, runtime, ratio, low, high; low and high NaN without an interval. The place of a runtime
    among `runtimes` gives its colour, whether or not the others are there.
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
        figure.supxlabel("times ONNX Runtime's with one thread (logarithmic; right of 1 is slower)", fontsize=9.5)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, handletextpad=0.1)


def quality_against_latency(points: pandas.DataFrame, path: Path, quality: str, share: bool = False) -> None:
    """Scatter `quality` (the axis's name) against latency, a named point an experiment.

    points: columns name, p50_us, quality, partial (drawn hollow: trained for less than planned). An axis is
    logarithmic where its values are all positive and span a factor of ten; where quality is a `share`, its axis is
    stretched towards 0 and 1 (logit), unless a value is one of them.
    """
    stretched = share and points["quality"].between(0, 1, inclusive="neither").all()
    with drawn(path, 7.4, 5.6) as axes:
        for partial, label in ((False, "whole budget"), (True, "partial budget")):
            part, fill = points[points["partial"] == partial], "white" if partial else COLOURS[0]
            axes.scatter(
                part["p50_us"], part["quality"], s=26, zorder=3, color=COLOURS[0], facecolors=fill, label=label
            )
        axes.set(xlabel="p50 of a call at the smallest batch (µs)", ylabel=quality)
        for axis, scale, key in ((axes.xaxis, axes.set_xscale, "p50_us"), (axes.yaxis, axes.set_yscale, "quality")):
            low, high = points[key].agg(["min", "max"])
            if low > 0 and high / low > 10 and not (share and key == "quality"):
                scale("log")
                _plain_numbers(axis, points[key])
        if stretched:
            axes.set(yscale="logit", ylabel=f"{quality} (logit)")
            axes.yaxis.set(major_locator=FixedLocator(SHARES), minor_locator=NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(_number))
        axes.margins(0.12)
        axes.grid(True)
        if points["partial"].nunique() > 1:
            axes.figure.legend(loc="outside upper left", ncols=2, handletextpad=0.1)
        _name_points(axes, list(points[["p50_us", "quality", "name"]].itertuples(index=False, name=None)))


def _reach(rows: pandas.DataFrame, value: str, low: str, high: str) -> list[pandas.Series]:
    bounds = rows[value] - rows[low].astype(float), rows[high].astype(float) - rows[value]
    return [bound.fillna(0.0) for bound in bounds]


def _name_rows(axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(True)


def _name_points(axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's name beside it, at the nearest of a few places where it covers no point and no other name."""
    canvas, scale = FigureCanvasAgg(axes.figure), DOTS_PER_INCH / 72
    axes.figure.set_dpi(DOTS_PER_INCH)
    canvas.draw()  # settles the layout: from here on, where a point lies in pixels stays
    axes.figure.set_layout_engine("none")
    inside, points = axes.get_window_extent(), sorted(points)
    pixels = axes.transData.transform([xy for *xy, _ in points])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    for (*xy, name), pixel in zip(points, pixels, strict=True):
        text = axes.annotate(
            name, xy, (0, 0), textcoords="offset points", va="bottom", fontsize=7.5,
            arrowprops={"arrowstyle": "-", "color": "#8c959f", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        size = Text.get_window_extent(text, canvas.get_renderer()).size / scale  # of the words, without the line
        corners = PLACES - size * (1 - np.sign(PLACES)) / 2
        boxes = [Bbox.from_bounds(*(pixel + corner * scale), *(size * scale)) for corner in corners]
        outside = [not (inside.contains(*box.min) and inside.contains(*box.max)) for box in boxes]
        best = np.argmin([box.count_overlaps(taken) + 3 * out for box, out in zip(boxes, outside, strict=True)])
        text.set_position(corners[best])
        text.arrow_patch.set_visible(math.hypot(*PLACES[best]) > 8)
        taken.append(boxes[best].padded(2))


def _plain_numbers(axis, values) -> None:
    # Powers of ten alone are too few to read a short axis by, all their multiples too many for a longer one.
    decades = math.log10(np.max(values) / np.min(values))
    multiples = range(2, 10) if decades < 0.4 else (2, 5) if decades < 2 else ()

    def between(value, _place):
        return _number(value) if round(value / 10 ** math.floor(math.log10(value))) in multiples else ""

    axis.set_major_formatter(FuncFormatter(_number))
    axis.set_minor_formatter(FuncFormatter(between))


def _number(value: float, _place=None) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e9 else f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
