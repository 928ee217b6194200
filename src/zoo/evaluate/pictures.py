"""Figures as PNG files. Equal arrays give equal bytes: no time stamp, no software name, a fixed palette.

Each function that takes a `path` writes one file. If a figure needs an explanation, the file has it as `Description`
(a PNG text chunk), which the report prints. Images are float in [0, 1], drawn dark on white. The colours are those of
Okabe and Ito (2008), which are distinguishable to colour-blind readers.
"""

import contextlib

import matplotlib
import numpy as np
import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31", "#444444", "#A6CE39")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
INK = "#24292f"
RULE = "#d0d7de"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "text.color": INK, "figure.facecolor": "white",
    "axes.facecolor": "white", "axes.edgecolor": "#8c959f", "axes.labelcolor": INK, "axes.linewidth": 0.8,
    "axes.axisbelow": True, "axes.spines.right": False, "axes.spines.top": False, "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8, "xtick.color": "#57606a", "ytick.color": "#57606a", "legend.frameon": False,
    "legend.fontsize": 8.5,
}  # fmt: skip
CLOSED = {**STYLE, "axes.spines.right": True, "axes.spines.top": True}
DOTS_PER_INCH = 120
MARGIN = 6

FEATURE_MAPS = (
    "The first 16 feature maps of the code, one row per input; darker is larger. "
    "A map that is zero for all of these inputs is labelled dead."
)
LATENT_MAP = "One point per test image, coloured by class: classes in separate clusters can be told apart by the code."
CONFUSION_MATRIX = (
    "Rows are actual classes, columns predicted classes. Each cell has the number of test images, coloured by its "
    "share of the row. All cells off the diagonal are errors."
)
LOSS_BY_PLACE = (
    "Mean loss by the position of the word in its line (the end of the line counts as a word). "
    "A falling curve shows that the preceding words help."
)
MIN_WORDS = 30


def image_rows(rows, labels, path):
    """Draw a grid: row i shows the images of rows[i], float [n, h, w], and is labelled labels[i].

    Rows may differ in image size; the scale is the same, and narrower images are centred in their column.
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
    with drawn(path, *(side * inches for side in canvas.shape[::-1]), colours=32, around=(2.5, 0.1, 0.1, 0.1)) as axes:
        axes.imshow(canvas, cmap="gray_r", vmin=0.0, vmax=1.0, interpolation="nearest")
        axes.set(xticks=[], yticks=centres, yticklabels=[str(label) for label in labels])
        axes.tick_params(length=0)
        _framed(axes, STYLE["axes.linewidth"])


def feature_maps(maps, path):
    """Draw the first 16 feature maps of each example, float [maps, h, w], one example per row.

    A map that is 0 in all examples is labelled "dead". The maps of an example share one colour scale.
    """
    blocks = [np.nan_to_num(np.asarray(block, dtype=np.float64)[:16]) for block in maps]
    count, dead = len(blocks[0]), ~np.any(blocks, axis=(0, 2, 3))
    size = 0.62 * count, 0.62 * len(blocks)
    with drawn(path, *size, colours=64, description=FEATURE_MAPS, around=(1.0, 0.1, 0.1, 0.4)) as axes:
        for row, block in enumerate(blocks):
            scale = {"vmin": min(0.0, float(block.min())), "vmax": max(float(block.max()), 1e-12)}
            for column in range(count):
                edges = column - 0.46, column + 0.46, row + 0.46, row - 0.46
                axes.imshow(block[column], cmap="Blues", interpolation="nearest", extent=edges, **scale)
                frame = {"edgecolor": RULE, "linewidth": 0.6, "fill": False}
                axes.add_patch(Rectangle((edges[0], edges[3]), 0.92, 0.92, **frame))
        axes.set(xlim=(-0.5, count - 0.5), ylim=(len(blocks) - 0.5, -0.5))
        axes.set_xticks(range(count), ["dead" if dead[column] else str(column + 1) for column in range(count)])
        axes.set_yticks(range(len(blocks)), [f"input {row + 1}" for row in range(len(blocks))])
        axes.tick_params(length=0, pad=1, labelsize=8.5, labelcolor=INK, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)


def latent_map(points, labels, path, axis_names=("code 1", "code 2")):
    """Scatter points, float [n, 2], coloured by labels, integer [n]; points that are not finite are left out."""
    points, labels = np.asarray(points, dtype=np.float64), np.asarray(labels)
    finite = np.isfinite(points).all(axis=1)
    with drawn(path, 4.9, 4.4, description=LATENT_MAP, around=(1.0, 0.7, 1.2, 0.2)) as axes:
        for index, label in enumerate(sorted(set(labels.tolist()))):
            x, y = points[finite & (labels == label)].T
            axes.scatter(x, y, s=9, alpha=0.75, linewidths=0, label=str(label), **series_style(index))
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
        axes.grid(True)
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        legend = axes.legend(title="class", markerscale=2, handletextpad=0.2, **place)
        for handle in legend.legend_handles:
            handle.set_alpha(1.0)


def confusion_matrix(counts, path):
    """Draw counts, integer [actual class, predicted class]; the colour is the share of the row."""
    counts = np.asarray(counts)
    size, around = (0.46 * len(counts) + 0.7, 0.44 * len(counts) + 0.3), (0.8, 0.7, 0.8, 0.2)
    with drawn(path, *size, colours=128, description=CONFUSION_MATRIX, rc=CLOSED, around=around) as axes:
        share = class_shares([axes], [counts], fraction=0.046, pad=0.03)[0]
        for row, column in np.ndindex(counts.shape):
            if counts[row, column]:
                colour = "white" if share[row, column] > 0.55 else INK
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color=colour)


def class_shares(grid, panels, **bar_options):
    """Draw counts, integer [actual, predicted], as shares of the actual class, one panel per axes; return these."""
    shares = [counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for counts in panels]
    for axes, share in zip(grid, shares, strict=True):
        picture = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
        classes = range(len(share))
        axes.set(xticks=classes, yticks=classes, xlabel="predicted class", ylabel="actual class")
        axes.tick_params(length=0)
    bar = axes.figure.colorbar(picture, ax=grid, ticks=[0, 0.5, 1], **bar_options)
    bar.set_label("share of the actual class")
    bar.outline.set_visible(False)
    return shares


def loss_by_place(places, losses, path):
    """Plot the mean of `losses`, float [n] in nats, by the position of the word in its line, `places`, int [n] from 1.

    Positions with fewer than 30 words are left out.
    """
    frame = pandas.DataFrame({"place": places, "loss": losses}).groupby("place")["loss"].agg(["mean", "size"])
    frame = frame[frame["size"] >= MIN_WORDS]
    with drawn(path, 6.6, 2.4, description=LOSS_BY_PLACE, around=(0.8, 0.7, 0.2, 0.2)) as axes:
        axes.plot(frame.index, frame["mean"], color=COLOURS[0], marker="o", markersize=3.5, linewidth=1.6)
        axes.set(xlabel="position of the word in its line", ylabel="nats per word")
        axes.grid(True)


@contextlib.contextmanager
def drawn(path, width, height, colours=96, description="", rc=STYLE, around=None, **panels):
    """Yield the axes of a figure of `width` x `height` inches, then save it at `path` with at most `colours` colours.

    `description` is stored in the file; `rc` are matplotlib's rcParams; `panels` are options of `Figure.subplots`. With
    `around`, the room for labels in inches (left, below, right, above), the size is that of one axes, and nothing is
    fitted, which takes as long as drawing. What stays white is trimmed.
    """
    with matplotlib.rc_context(rc):
        if around:
            left, below, right, above = around
            whole, high = left + width + right, below + height + above
            figure = Figure(figsize=(whole, high))
            figure.subplots_adjust(left / whole, below / high, 1 - right / whole, 1 - above / high)
        else:
            figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.subplots(**panels)
        _save(figure, path, colours, description)


def series_style(index):
    """The colour and marker of series number `index`."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _framed(axes, width):
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE, linewidth=width)


def _save(figure, path, colours, description):
    figure.set_dpi(DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = _trimmed(np.asarray(canvas.buffer_rgba())[:, :, :3])
    texts = PngInfo()
    if description:
        texts.add_text("Description", description)
    picture.quantize(colours, dither=Image.Dither.NONE).save(path, "PNG", optimize=True, pnginfo=texts)


def _trimmed(pixels):
    drawn = (pixels < 255).any(axis=2)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    box = (slice(max(edge[0] - MARGIN, 0), edge[-1] + MARGIN + 1) for edge in (rows, columns))
    return Image.fromarray(np.ascontiguousarray(pixels[tuple(box)]))
