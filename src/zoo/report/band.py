"""The picture at the top of README.md, composed of pictures from a report."""

import numpy as np
from PIL import Image

from zoo import files
from zoo.errors import InputError
from zoo.evaluate.pictures import CLOSED, RULE, drawn

PATH = files.report("full", "band.png")
AUTOENCODER = files.figures("full", "cae_denoise") / "reconstruct.png"  # rows: clean, input, output
GENERATOR = files.figures("full", "cgan_tuned") / "generate.png"  # a row per digit
CLASSIFIER = files.figures("full", "deep_conv_bn") / "classify.png"
LATENCY = files.report("full", "charts") / "deep_conv_bn-latency.png"
SOURCES = (AUTOENCODER, GENERATOR, CLASSIFIER, LATENCY)
LAYOUT = [["input", "input", "output", "output"], ["samples", "confusion", "latency", "latency"]]
SIZE = {"height_ratios": [1, 5]}


def draw():
    """Write PATH. Raises InputError if one of SOURCES is missing."""
    for path in SOURCES:
        if not path.exists():
            raise InputError(f"{path} is missing: `git restore {path}`, or `zoo repro full/dvc.yaml`, which draws it")
    rows = _digits(AUTOENCODER, 3)
    shown = {"input": rows[1:2], "output": rows[2:], "samples": _digits(GENERATOR, 10)}
    titles = {
        "input": "real digits with noise", "output": "reconstructed by cae_denoise",
        "samples": "drawn by cgan_tuned, a row per digit", "confusion": "deep_conv_bn on the test images",
        "latency": "deep_conv_bn: time per call against batch size",
    }  # fmt: skip
    with files.replacing(PATH) as temporary, drawn(temporary, 13.3, 5.2, colours=64, rc=CLOSED) as axes:
        figure = axes.figure
        axes.remove()
        panels = figure.subplot_mosaic(LAYOUT, gridspec_kw=SIZE)
        for name, axes in panels.items():
            axes.set_title(titles[name], fontsize=12, loc="left")
            axes.set(xticks=[], yticks=[], anchor="NW")
            for spine in axes.spines.values():
                spine.set(visible=name == "confusion", color=RULE)
        for name, digits in shown.items():
            panels[name].imshow(np.block([list(row) for row in digits]), cmap="gray")
        panels["confusion"].imshow(_cells(CLASSIFIER))
        panels["confusion"].set_xlabel("predicted class", fontsize=12)
        panels["confusion"].set_ylabel("actual class", fontsize=12)
        panels["latency"].imshow(Image.open(LATENCY).convert("RGB"))


def _digits(path, rows, columns=10, size=28):
    """The images of a grid that `pictures.image_rows` drew, uint8 [rows, columns, size, size]."""
    inside = _inside(path, (0xD0, 0xD7, 0xDE)).convert("L")
    step = size + 2  # two pixels between images
    pixels = np.asarray(inside.resize((columns * step + 2, rows * step + 2), Image.Resampling.NEAREST))
    return pixels[2:, 2:].reshape(rows, step, columns, step).swapaxes(1, 2)[..., :size, :size]


def _cells(path, classes=10):
    """The colours of a confusion matrix that `pictures.confusion_matrix` drew, uint8 [classes, classes, 3]."""
    pixels = np.asarray(_inside(path, (0x8C, 0x95, 0x9F)))
    places = ((np.arange(classes) + 0.15) * len(pixels) / classes).astype(int)  # beside the counts
    return pixels[np.ix_(places, places)]


def _inside(path, colour):
    """The part of a picture within the frame of that colour."""
    picture = Image.open(path).convert("RGB")
    frame = (np.abs(np.asarray(picture).astype(int) - colour) < 12).all(axis=2)
    rows, columns = (np.flatnonzero(frame.mean(axis=axis) > 0.5) for axis in (1, 0))
    return picture.crop((columns[0] + 1, rows[0] + 1, columns[-1], rows[-1]))
