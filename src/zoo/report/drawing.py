"""The charts of a report: rows -> PNG files, drawn as `zoo.evaluate.pictures` draws."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import matplotlib
import numpy as np
import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from zoo.evaluate.pictures import COLOURS, DOTS_PER_INCH, INK, MARKERS, STYLE, save, single_axes

LATENCY_AXES = ("provider", "verb", "mode", "batch")
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
MODES = {"host": "-", "bound": "--", "graph": ":"}
# Where a point's name may stand, in points from it, nearest first.
PLACES = [
    (round(reach * math.cos(angle), 1), round(reach * math.sin(angle), 1))
    for reach in (5, 10, 16, 24, 34, 46, 60)
    for angle in np.linspace(0, 2 * math.pi, 16, endpoint=False)
]


def three_confusions(counts: Mapping[str, Sequence[Sequence[int]]], path: Path) -> None:
    """Draw confusion matrices of the first tenth of the test images, of all, and of answers drawn evenly at random.

    counts: {"tenth", "all"}, each integer [classes, classes], actual by predicted.
    """
    tenth, whole = (np.asarray(counts[part]) for part in ("tenth", "all"))
    classes = len(whole)
    guessed = np.random.default_rng(0).multinomial(whole.sum(1), [1 / classes] * classes)
    panels = [(tenth, ""), (whole, ""), (guessed, ", random answers")]
    with matplotlib.rc_context({**STYLE, "axes.spines.right": True, "axes.spines.top": True}):
        figure = Figure(figsize=(10.4, 3.7), layout="constrained")
        for axes, (panel, name) in zip(figure.subplots(1, 3), panels, strict=True):
            share = panel / np.maximum(panel.sum(axis=1, keepdims=True), 1)
            picture = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
            axes.set_title(f"{panel.sum():,} images{name}", fontsize=9.5, loc="left")
            axes.set(xticks=range(classes), yticks=range(classes), xlabel="predicted class", ylabel="actual class")
            axes.tick_params(length=0)
        bar = figure.colorbar(picture, ax=figure.axes, fraction=0.02, pad=0.02, ticks=[0, 0.5, 1])
        bar.set_label("share of the actual class")
        bar.outline.set_visible(False)
        save(figure, path, colours=128)


def curves(frame: pandas.DataFrame, path: Path, published: Mapping[str, Mapping[int, float]] = MappingProxyType({})):
    """Plot loss against step from columns seed, step, split, player, loss: a colour a player.

    Training is solid, validation dashed; losses that are not finite leave a gap. The y axis is logarithmic
    when every finite loss is positive. `published` are points {source: {step: loss}}, drawn as crosses.
    """
    frame = frame.assign(loss=pandas.to_numeric(frame["loss"], errors="coerce").replace([np.inf, -np.inf], np.nan))
    players = list(dict.fromkeys(frame["player"]))
    seeds = frame["seed"].nunique()
    width = 1.6 if seeds == 1 else 0.9
    with matplotlib.rc_context(STYLE):
        figure, axes = single_axes(7.4, 3.6)
        named = set()
        for (_seed, player, split), part in frame.groupby(["seed", "player", "split"], sort=True):
            part, held_out = part.sort_values("step"), split == "validation"
            name = f"{player}, {split}" if len(players) > 1 else str(split)
            axes.plot(
                part["step"], part["loss"], "--" if held_out else "-", linewidth=width, markersize=3,
                color=_shade(players.index(player), held_out, len(players)), alpha=0.95 if seeds == 1 else 0.7,
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
            _plain_numbers(axes.yaxis, decades=math.log10(finite.max() / finite.min()))
        axes.set(xlabel="step", ylabel="loss")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(True)
        title = f"a line a seed ({seeds} seeds)" if seeds > 1 else None
        if named:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=title, alignment="left")
        if not len(finite):
            axes.text(0.5, 0.5, "no finite loss was recorded", transform=axes.transAxes, ha="center", va="center")
        save(figure, path)


def latency(rows: Sequence[dict], path: Path) -> None:
    """Plot p50 with its interval against batch, a line a verb and mode, a panel a provider.

    rows: dicts with keys provider, verb, mode, batch, p50_us (None: left out; at least one is a number), p50_low_us and
    p50_high_us (None: no interval), one a provider, verb, mode and batch.
    """
    rows = [row for row in rows if row["p50_us"] is not None]
    providers, verbs, modes, batches = (sorted({row[key] for row in rows}) for key in LATENCY_AXES)
    modes.sort(key=list(MODES).index)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(providers) + 1.4, 3.0), layout="constrained")
        grid = figure.subplots(1, len(providers), squeeze=False, sharey=True)[0]
        for axes, provider in zip(grid, providers, strict=True):
            for (index, verb), mode in itertools.product(enumerate(verbs), modes):
                line = [row for row in rows if (row["provider"], row["verb"], row["mode"]) == (provider, verb, mode)]
                line.sort(key=lambda row: row["batch"])
                bounds = [_reach(row["p50_us"], row["p50_low_us"], row["p50_high_us"]) for row in line]
                axes.errorbar(
                    [row["batch"] for row in line], [row["p50_us"] for row in line], **_style(index),
                    yerr=np.transpose(bounds) if line else None, linestyle=MODES[mode], linewidth=1.4, capsize=2.5,
                    markersize=4.5, markerfacecolor="white" if mode != modes[0] else None,
                    label=f"{verb}, {mode}" if len(modes) > 1 else verb,
                )  # fmt: skip
            axes.set_title(provider, fontsize=9.5, loc="left")
            axes.set(xscale="log", yscale="log", xlabel="batch")
            axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.grid(True)
        times = [row["p50_us"] for row in rows]
        _plain_numbers(grid[0].yaxis, decades=math.log10(max(times) / min(times)))
        grid[0].set_ylabel("p50 of a call (µs)")
        grid[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        save(figure, path)


def latency_overview(rows: Sequence[dict], path: Path) -> None:
    """Dot plot of p50, a line a graph: filled as the runtime comes, hollow in the best configuration found.

    rows: dicts with keys name, provider, verb, default_us, best_us, one a graph and provider.
    """
    graphs = list(dict.fromkeys((row["name"], row["verb"]) for row in rows))
    times = [row[key] for row in rows for key in ("default_us", "best_us")]
    with matplotlib.rc_context(STYLE):
        figure, axes = single_axes(7.4, 0.24 * len(graphs) + 1.0)
        for index, provider in enumerate(sorted({row["provider"] for row in rows})):
            of_provider = [row for row in rows if row["provider"] == provider]
            places = [graphs.index((row["name"], row["verb"])) for row in of_provider]
            ends = [[row[key] for row in of_provider] for key in ("best_us", "default_us")]
            style = _style(index) | {"s": 30}
            axes.hlines(places, *ends, color=style["color"], linewidth=1.0, zorder=2)
            axes.scatter(ends[0], places, **style | {"facecolors": "white"}, zorder=3, label=f"{provider}, best found")
            axes.scatter(ends[1], places, **style, zorder=4, label=f"{provider}, default")
        _name_rows(axes, [f"{name} · {verb}" for name, verb in graphs])
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis, decades=math.log10(max(times) / min(times)))
        axes.set_xlabel("p50 of a call at the smallest batch (µs, logarithmic)")
        figure.legend(loc="outside upper left", ncols=4, handletextpad=0.1)
        save(figure, path)


def peers(rows: Sequence[dict], path: Path, runtimes: Sequence[str]) -> None:
    """Dot plot of every runtime's time over the reference's, with its interval: a row a graph, a panel a batch.

    rows: dicts with keys name, batch, ratios {runtime: (ratio, low, high)}, low and high None without an interval. The
    place of a runtime among `runtimes` gives its colour, whether or not the others are there.
    """
    names, batches = list(dict.fromkeys(row["name"] for row in rows)), sorted({row["batch"] for row in rows})
    shown = {runtime for row in rows for runtime in row["ratios"]}
    ratios = [1.0, *(ratio for row in rows for ratio, _, _ in row["ratios"].values())]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(batches) + 2.6, 0.24 * len(names) + 1.1), layout="constrained")
        grid = figure.subplots(1, len(batches), squeeze=False, sharex=True, sharey=True)[0]
        for axes, batch in zip(grid, batches, strict=True):
            axes.axvline(1, color=INK, linewidth=1.0, zorder=1)
            for index, runtime in enumerate(runtimes):
                if runtime not in shown:
                    continue
                found = [
                    (names.index(row["name"]), *row["ratios"][runtime])
                    for row in rows
                    if row["batch"] == batch and runtime in row["ratios"]
                ]
                axes.errorbar(
                    [ratio for _, ratio, _, _ in found], [place for place, *_ in found], **_style(index), linestyle="",
                    xerr=np.transpose([_reach(*bounds) for _, *bounds in found]) if found else None, markersize=5,
                    capsize=2, label=runtime, zorder=3,
                )  # fmt: skip
            axes.set_title(f"batch {batch:,}", fontsize=9.5, loc="left")
            axes.set_xscale("log")
        _name_rows(grid[0], names)
        for axes in grid:
            axes.tick_params(axis="y", length=0)
            axes.grid(True)
        _plain_numbers(grid[0].xaxis, decades=math.log10(max(ratios) / min(ratios)))
        figure.supxlabel("times ONNX Runtime's with one thread (logarithmic; right of 1 is slower)", fontsize=9.5)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, handletextpad=0.1)
        save(figure, path)


def quality_against_latency(points: Sequence[dict], path: Path, quality: str, share: bool = False) -> None:
    """Scatter `quality` (the axis's name) against latency, a named point an experiment.

    points: dicts with keys name, p50_us, quality, partial (drawn hollow: trained for less than planned). An axis is
    logarithmic where its values are all positive and span a factor of ten; where quality is a `share`, its axis is
    stretched towards 0 and 1 (logit), unless a value is one of them.
    """
    stretched = share and all(0 < point["quality"] < 1 for point in points)
    with matplotlib.rc_context(STYLE):
        figure, axes = single_axes(7.4, 5.6)
        for partial in (False, True):
            chosen = [point for point in points if point["partial"] == partial]
            axes.scatter(
                [point["p50_us"] for point in chosen], [point["quality"] for point in chosen], s=26, zorder=3,
                color=COLOURS[0], facecolors="white" if partial else COLOURS[0],
                label="partial budget" if partial else "whole budget",
            )  # fmt: skip
        for axis, scale, key in ((axes.xaxis, axes.set_xscale, "p50_us"), (axes.yaxis, axes.set_yscale, "quality")):
            low, high = (bound(point[key] for point in points) for bound in (min, max))
            if low > 0 and high / low > 10 and not (share and key == "quality"):
                scale("log")
                _plain_numbers(axis, decades=math.log10(high / low))
        if stretched:
            axes.set_yscale("logit")
            axes.yaxis.set_major_locator(FixedLocator(SHARES))
            axes.yaxis.set_major_formatter(FuncFormatter(_number))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.margins(0.12)
        axes.set(
            xlabel="p50 of a call at the smallest batch (µs)", ylabel=f"{quality} (logit)" if stretched else quality
        )
        axes.grid(True)
        if len({point["partial"] for point in points}) > 1:
            figure.legend(loc="outside upper left", ncols=2, handletextpad=0.1)
        _name_points(axes, [(point["p50_us"], point["quality"], point["name"]) for point in points])
        save(figure, path)


def _style(index: int) -> dict:
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _reach(value: float, low: float | None, high: float | None) -> tuple[float, float]:
    return (0.0, 0.0) if low is None or high is None else (value - low, high - value)


def _name_rows(axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(True)


def _name_points(axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write each point's name beside it, at the nearest of a few places where it covers no point and no other name."""
    canvas = FigureCanvasAgg(axes.figure)
    axes.figure.set_dpi(DOTS_PER_INCH)
    canvas.draw()  # settles the layout: from here on, where a point lies in pixels stays
    axes.figure.set_layout_engine("none")
    inside, renderer = axes.get_window_extent(), canvas.get_renderer()
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform([xy[:2] for xy in points])]
    for x, y, name in sorted(points):
        best = None
        for offset in PLACES:
            across = "left" if offset[0] > 0 else "right" if offset[0] < 0 else "center"
            along = "bottom" if offset[1] > 0 else "top" if offset[1] < 0 else "center"
            text = axes.annotate(
                name, (x, y), offset, textcoords="offset points", ha=across, va=along, fontsize=7.5,
                arrowprops={"arrowstyle": "-", "color": "#8c959f", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3}
                if math.hypot(*offset) > 8 else None,
            )  # fmt: skip
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # of the words alone, without the line that leads to them
            outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1)
            covered = box.count_overlaps(taken) + 3 * outside
            if best is None or covered < best[0]:
                if best is not None:
                    best[1].remove()
                best = covered, text, box
            else:
                text.remove()
            if not covered:
                break
        taken.append(best[2].padded(2))


def _shade(player: int, held_out: bool, players: int) -> str:
    # One player alone shows its two splits in two colours; several players have a colour each.
    return COLOURS[player % len(COLOURS)] if players > 1 else COLOURS[1 if held_out else 0]


def _plain_numbers(axis, decades: float) -> None:
    # Powers of ten alone are too few to read a short axis by, all their multiples too many for a longer one.
    multiples = range(2, 10) if decades < 0.4 else (2, 5) if decades < 2 else ()

    def between(value, _place):
        return _number(value) if round(value / 10 ** math.floor(math.log10(value))) in multiples else ""

    axis.set_major_formatter(FuncFormatter(_number))
    axis.set_minor_formatter(FuncFormatter(between))


def _number(value: float, _place=None) -> str:
    return f"{value:,.0f}" if 1000 <= value < 1e9 else f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
