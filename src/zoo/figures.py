"""Arrays -> PNG files: equal arrays give equal bytes (no time stamp, no software name, a fixed palette).

Every function writes one file at `path` and returns nothing; where a picture needs reading instructions they
stand in the file as its `Description` (a PNG text), which the report prints. Images are float in [0, 1], dark
ink on white. Colours are Okabe and Ito's (2008), which the colour-blind can tell apart.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import matplotlib
import numpy as np
import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image
from PIL.PngImagePlugin import PngInfo

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7A5195",
    "#8C6D31",
    "#444444",
    "#A6CE39",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
INK = "#24292f"
RULE = "#d0d7de"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#8c959f",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}
DOTS_PER_INCH = 120
MARGIN = 6

FEATURE_MAPS = (
    "A row is an input, a column one feature map of the code (the first 16), darker is larger; "
    "a map that answers to none of these inputs is named dead."
)
LATENT_MAP = "A point is a test image, coloured by its class: classes that lie apart can be told from the code."
CONFUSION_MATRIX = (
    "Rows are actual classes, columns predicted ones; a number counts test images, "
    "the colour is its share of the row. Everything off the diagonal is an error."
)
LOSS_BY_PLACE = (
    "Mean loss by the place of the word in its line (the end of the line counts as a word): "
    "where it falls, what came before in the line helps."
)
FEWEST_WORDS = 30


def image_rows(rows: Sequence[np.ndarray], labels: Sequence[str], path: Path) -> None:
    """Draw a grid: row i shows the images of rows[i], float [n, h, w], and is called labels[i].

    Rows may differ in size, all in one scale: narrower images stand in the middle of a column.
    """
    blocks = [np.clip(np.nan_to_num(np.asarray(row, dtype=np.float64)), 0.0, 1.0) for row in rows]
    width, columns = max(block.shape[2] for block in blocks), max(len(block) for block in blocks)
    tops = np.cumsum([2, *(block.shape[1] + 2 for block in blocks)])
    canvas = np.zeros((tops[-1], columns * (width + 2) + 2))
    for top, block in zip(tops, blocks, strict=False):
        for column, image in enumerate(block):
            left = column * (width + 2) + 2 + (width - image.shape[1]) // 2
            canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    centres = [top - 0.5 + block.shape[1] / 2 for top, block in zip(tops, blocks, strict=False)]
    inches = min(1.0, 30 / (width + 2)) / 42
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(canvas.shape[1] * inches + 1.0, canvas.shape[0] * inches + 0.1)
        axes.imshow(canvas, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
        axes.set_yticks(centres, [str(label) for label in labels])
        _only_labels(axes)
        _save(figure, path, colours=32)


def feature_maps(maps: Sequence[np.ndarray], path: Path) -> None:
    """Draw the first 16 maps of each example, float [maps, h, w], a row an example.

    A map that is 0 in all the examples is named dead. The colour scale is shared by the maps of an example.
    """
    blocks = [np.nan_to_num(np.asarray(block, dtype=np.float64)[:16]) for block in maps]
    count = len(blocks[0])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.62 * count + 0.9, 0.62 * len(blocks) + 0.45), layout="constrained")
        grid = figure.subplots(len(blocks), count, squeeze=False)
        dead = [not any(block[column].any() for block in blocks) for column in range(count)]
        for index, block in enumerate(blocks):
            low, high = min(0.0, float(block.min())), max(float(block.max()), 1e-12)
            for column in range(count):
                axes = grid[index, column]
                axes.imshow(block[column], cmap="Blues", vmin=low, vmax=high, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                for spine in axes.spines.values():
                    spine.set(visible=True, color=RULE, linewidth=0.6)
            grid[index, 0].set_ylabel(f"input {index + 1}", rotation=0, ha="right", va="center", fontsize=8.5)
        for column in range(count):
            grid[0, column].set_title("dead" if dead[column] else str(column + 1), fontsize=8, color=INK, pad=3)
        _save(figure, path, colours=64, description=FEATURE_MAPS)


def latent_map(
    points: np.ndarray, labels: np.ndarray, path: Path, axis_names: Sequence[str] = ("code 1", "code 2")
) -> None:
    """Scatter points, float [n, 2], coloured by labels, integer [n]; what is not finite is left out."""
    points, labels = np.asarray(points, dtype=np.float64), np.asarray(labels)
    finite = np.isfinite(points).all(axis=1)
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(6.2, 5.0)
        for index, label in enumerate(sorted(set(labels.tolist()))):
            chosen = points[finite & (labels == label)]
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=9,
                alpha=0.75,
                linewidths=0,
                label=str(label),
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
            )
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        axes.grid(True)
        legend = axes.legend(
            title="class", loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2, handletextpad=0.2
        )
        for handle in legend.legend_handles:
            handle.set_alpha(1.0)
        _save(figure, path, description=LATENT_MAP)


def confusion_matrix(counts: np.ndarray, path: Path) -> None:
    """Draw counts, integer [classes, classes], actual by predicted; colour is the share of the row."""
    counts = np.asarray(counts)
    size = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with matplotlib.rc_context({**STYLE, "axes.spines.right": True, "axes.spines.top": True}):
        figure, axes = _axes(0.46 * size + 1.5, 0.44 * size + 0.9)
        picture = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                colour = "white" if share[row, column] > 0.55 else INK
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=colour)
        axes.set(xticks=range(size), yticks=range(size), xlabel="predicted class", ylabel="actual class")
        axes.tick_params(length=0)
        bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03, ticks=[0, 0.5, 1])
        bar.set_label("share of the actual class")
        bar.outline.set_visible(False)
        _save(figure, path, colours=128, description=CONFUSION_MATRIX)


def three_confusions(actual: np.ndarray, path: Path, predicted: np.ndarray) -> None:
    """Draw confusion matrices of the first tenth of the test images, of all, and of answers drawn evenly at random.

    actual, predicted: integer classes [n]; what was predicted as nothing (-1) is left out.
    """
    classes = int(actual.max()) + 1
    guessed = np.random.default_rng(0).integers(classes, size=len(actual))
    tenth = len(actual) // 10
    panels = [(actual[:tenth], predicted[:tenth]), (actual, predicted), (actual, guessed)]
    with matplotlib.rc_context({**STYLE, "axes.spines.right": True, "axes.spines.top": True}):
        figure = Figure(figsize=(10.4, 3.7), layout="constrained")
        for axes, (known, said), name in zip(figure.subplots(1, 3), panels, ("", "", ", random answers"), strict=True):
            counts = np.zeros((classes, classes), int)
            np.add.at(counts, (known[said >= 0], said[said >= 0]), 1)
            share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            picture = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
            axes.set_title(f"{len(known):,} images{name}", fontsize=9.5, loc="left")
            axes.set(xticks=range(classes), yticks=range(classes), xlabel="predicted class", ylabel="actual class")
            axes.tick_params(length=0)
        bar = figure.colorbar(picture, ax=figure.axes, fraction=0.02, pad=0.02, ticks=[0, 0.5, 1])
        bar.set_label("share of the actual class")
        bar.outline.set_visible(False)
        _save(figure, path, colours=128)


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
        figure, axes = _axes(7.4, 3.6)
        named = set()
        for (_seed, player, split), part in frame.groupby(["seed", "player", "split"], sort=True):
            part, held_out = part.sort_values("step"), split == "validation"
            name = f"{player}, {split}" if len(players) > 1 else str(split)
            axes.plot(
                part["step"],
                part["loss"],
                color=_shade(players.index(player), held_out, len(players)),
                linestyle="--" if held_out else "-",
                linewidth=width,
                alpha=0.95 if seeds == 1 else 0.7,
                marker="o" if held_out or len(part) < 3 else None,
                markersize=3,
                label="_" if name in named else name,
                zorder=3 if held_out else 2,
            )
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
        _save(figure, path)


def loss_by_place(places: np.ndarray, losses: np.ndarray, path: Path) -> None:
    """Plot the mean loss, float [n] in nats, of the words that stand at each place of a line, integer [n] from 1.

    Places with fewer than 30 words are left out.
    """
    frame = pandas.DataFrame({"place": places, "loss": losses}).groupby("place")["loss"].agg(["mean", "size"])
    frame = frame[frame["size"] >= FEWEST_WORDS]
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(7.4, 3.0)
        axes.plot(frame.index, frame["mean"], color=COLOURS[0], marker="o", markersize=3.5, linewidth=1.6)
        axes.set(xlabel="place of the word in its line", ylabel="nats per word")
        axes.grid(True)
        _save(figure, path, description=LOSS_BY_PLACE)


def latency(rows: Sequence[dict], path: Path) -> None:
    """Plot p50 against batch, a line a verb, a panel a provider.

    rows: dicts with keys provider, verb, batch, p50_us (None: left out; at least one is a number).
    """
    frame = pandas.DataFrame([row for row in rows if row["p50_us"] is not None])
    providers, verbs = sorted(set(frame["provider"])), sorted(set(frame["verb"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(providers) + 1.4, 3.0), layout="constrained")
        grid = figure.subplots(1, len(providers), squeeze=False, sharey=True)[0]
        for axes, provider in zip(grid, providers, strict=True):
            for index, verb in enumerate(verbs):
                part = frame[(frame["provider"] == provider) & (frame["verb"] == verb)]
                line = part.groupby("batch")["p50_us"].median()
                axes.plot(
                    line.index,
                    line,
                    marker=MARKERS[index % 10],
                    ms=4.5,
                    lw=1.6,
                    color=COLOURS[index % 10],
                    label=verb,
                )
            axes.set_title(provider, fontsize=9.5, loc="left")
            axes.set(xscale="log", yscale="log", xlabel="batch")
            batches = sorted(set(frame["batch"]))
            axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.grid(True)
        _plain_numbers(grid[0].yaxis, decades=math.log10(frame["p50_us"].max() / frame["p50_us"].min()))
        grid[0].set_ylabel("p50 of a call (µs)")
        grid[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        _save(figure, path)


def latency_overview(rows: Sequence[dict], path: Path) -> None:
    """Dot plot of p50 at each graph's smallest batch, a line a graph.

    rows: dicts with keys name, provider, verb, batch, p50_us (None: left out; at least one is a number).
    """
    frame = pandas.DataFrame([row for row in rows if row["p50_us"] is not None])
    frame = frame[frame["batch"] == frame.groupby(["name", "verb"])["batch"].transform("min")]
    graphs = list(dict.fromkeys(zip(frame["name"], frame["verb"], strict=True)))
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(7.4, 0.24 * len(graphs) + 1.0)
        for index, provider in enumerate(sorted(set(frame["provider"]))):
            median = frame[frame["provider"] == provider].groupby(["name", "verb"])["p50_us"].median()
            places = [place for place, graph in enumerate(graphs) if graph in median.index]
            axes.scatter(
                [median[graphs[place]] for place in places],
                places,
                s=30,
                label=provider,
                zorder=3,
                color=COLOURS[index],
                marker=MARKERS[index],
            )
        axes.set_yticks(range(len(graphs)), [f"{name} · {verb}" for name, verb in graphs])
        axes.set_ylim(len(graphs) - 0.4, -0.6)
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis, decades=math.log10(frame["p50_us"].max() / frame["p50_us"].min()))
        axes.set_xlabel("p50 of a call at the smallest batch (µs, logarithmic)")
        axes.tick_params(axis="y", length=0)
        axes.grid(True)
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.1)
        _save(figure, path)


def _axes(width: float, height: float):
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _only_labels(axes) -> None:
    axes.set_xticks([])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)


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
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _save(figure: Figure, path: Path, colours: int = 96, description: str = "") -> None:
    figure.set_dpi(DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = _trimmed(np.asarray(canvas.buffer_rgba())[:, :, :3])
    texts = PngInfo()
    if description:
        texts.add_text("Description", description)
    picture.quantize(colours, dither=Image.Dither.NONE).save(path, "PNG", optimize=True, pnginfo=texts)


def _trimmed(pixels: np.ndarray) -> Image.Image:
    drawn = (pixels < 255).any(axis=2)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    box = (slice(max(edge[0] - MARGIN, 0), edge[-1] + MARGIN + 1) for edge in (rows, columns))
    return Image.fromarray(np.ascontiguousarray(pixels[tuple(box)]))
