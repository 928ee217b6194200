"""Pictures: equal arrays give equal bytes, nothing in the file but pixels, and gaps do not stop a plot."""

import numpy as np
import pandas
import pytest
from PIL import Image

from zoo import figures

IMAGES = np.linspace(0, 1, 3 * 28 * 28).reshape(3, 28, 28)
MAPS = np.ones((2, 20, 4, 4)) * np.arange(20)[:, None, None]
POINTS = np.stack([np.arange(20.0), np.arange(20.0) ** 2], axis=1)
LATENCY = [
    {"name": name, "provider": provider, "verb": "encode", "batch": batch, "p50_us": p50}
    for name in ("one", "two")
    for provider, batch, p50 in (("CPU", 1, 12.0), ("CPU", 64, 80.0), ("CUDA", 1, 31.0), ("CUDA", 64, None))
]


def curve(**changes):
    steps = np.arange(0, 50, 10)
    rows = [
        {"seed": seed, "step": step, "split": split, "player": player, "loss": np.exp(-step / 20) + seed}
        for seed in (0, 1)
        for split in ("training", "validation")
        for player in ("generator", "discriminator")
        for step in steps
    ]
    return pandas.DataFrame(rows).assign(**changes)


DRAWINGS = {
    "image_rows": lambda path: figures.image_rows([IMAGES, IMAGES[:2] * 9 - 4], ["input", "output"], path),
    "image_rows_with_nan": lambda path: figures.image_rows([np.full((2, 28, 28), np.nan)], [0], path),
    "feature_maps": lambda path: figures.feature_maps(MAPS, path),
    "latent_map": lambda path: figures.latent_map(POINTS, np.arange(20) % 3, path),
    "confusion_matrix": lambda path: figures.confusion_matrix(np.diag([5, 0, 7]), path),
    "curves": lambda path: figures.curves(curve(), path),
    "curves_negative": lambda path: figures.curves(curve(loss=-1.0), path),
    "curves_gap": lambda path: figures.curves(curve(loss=[1.0, np.nan, np.inf, 0.5] * 10), path),
    "curves_nothing_finite": lambda path: figures.curves(curve(loss=np.nan), path),
    "latency": lambda path: figures.latency(LATENCY, path),
    "latency_overview": lambda path: figures.latency_overview(LATENCY, path),
}


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_equal_arrays_give_equal_small_files_of_pixels_alone(drawing, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / ".second.123"
    DRAWINGS[drawing](first)
    DRAWINGS[drawing](second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 60_000
    picture = Image.open(first)
    assert picture.format == "PNG"
    assert picture.info.keys() <= {"transparency", "Description"}
    assert len(picture.convert("RGB").getcolors(10_000)) > 1


def test_an_image_is_drawn_as_dark_ink_on_white(tmp_path):
    path = tmp_path / "half.png"
    image = np.zeros((1, 28, 28))
    image[0, :, :14] = 1.0
    figures.image_rows([image], [""], path)
    pixels = np.asarray(Image.open(path).convert("L"))
    across = pixels[pixels.shape[0] // 2]
    black, white = np.flatnonzero(across < 40), np.flatnonzero(across > 250)
    assert len(black) > 20
    assert white.max() > black.max() > black.min()


def test_only_the_first_sixteen_feature_maps_are_drawn(tmp_path):
    figures.feature_maps(MAPS, tmp_path / "twenty.png")
    figures.feature_maps(MAPS[:, :16], tmp_path / "sixteen.png")
    assert (tmp_path / "twenty.png").read_bytes() == (tmp_path / "sixteen.png").read_bytes()


def test_a_point_that_is_not_finite_is_left_out(tmp_path):
    holed = POINTS.copy()
    holed[7] = np.nan
    keep = np.arange(20) != 7
    figures.latent_map(holed, np.arange(20) % 3, tmp_path / "holed.png")
    figures.latent_map(POINTS[keep], (np.arange(20) % 3)[keep], tmp_path / "fewer.png")
    assert (tmp_path / "holed.png").read_bytes() == (tmp_path / "fewer.png").read_bytes()


def test_matplotlibs_settings_are_left_as_they_were(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.confusion_matrix(np.eye(2, dtype=int), tmp_path / "matrix.png")
    assert dict(matplotlib.rcParams) == before
