"""Pictures: equal arrays give equal bytes, nothing in the file but pixels, and gaps do not stop a plot."""

import numpy as np
import pytest
from PIL import Image

from zoo.evaluate import pictures

IMAGES = np.linspace(0, 1, 3 * 28 * 28).reshape(3, 28, 28)
MAPS = np.ones((2, 20, 4, 4)) * np.arange(20)[:, None, None]
POINTS = np.stack([np.arange(20.0), np.arange(20.0) ** 2], axis=1)


DRAWINGS = {
    "image_rows": lambda path: pictures.image_rows([IMAGES, IMAGES[:2] * 9 - 4], ["input", "output"], path),
    "image_rows_with_nan": lambda path: pictures.image_rows([np.full((2, 28, 28), np.nan)], [0], path),
    "image_rows_of_two_sizes": lambda path: pictures.image_rows([IMAGES, IMAGES.repeat(2, 1).repeat(2, 2)], "ab", path),
    "feature_maps": lambda path: pictures.feature_maps(MAPS, path),
    "latent_map": lambda path: pictures.latent_map(POINTS, np.arange(20) % 3, path),
    "confusion_matrix": lambda path: pictures.confusion_matrix(np.diag([5, 0, 7]), path),
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


def test_what_lies_outside_the_range_of_grey_is_drawn_as_its_ends(tmp_path):
    for name, images in {"inside": IMAGES.round(), "outside": IMAGES.round() * 4 - 2}.items():
        pictures.image_rows([images], ["row"], tmp_path / f"{name}.png")
    assert (tmp_path / "inside.png").read_bytes() == (tmp_path / "outside.png").read_bytes()


def test_an_image_is_drawn_as_dark_ink_on_white(tmp_path):
    path = tmp_path / "half.png"
    image = np.zeros((1, 28, 28))
    image[0, :, :14] = 1.0
    pictures.image_rows([image], [""], path)
    pixels = np.asarray(Image.open(path).convert("L"))
    across = pixels[pixels.shape[0] // 2]
    black, white = np.flatnonzero(across < 40), np.flatnonzero(across > 250)
    assert len(black) > 20
    assert white.max() > black.max() > black.min()


def test_images_of_two_sizes_are_drawn_in_one_scale_each_in_the_middle_of_its_column(tmp_path):
    """Black images of 10 and of 20 pixels: the ink of the small ones is half as wide, and centred below the large."""
    path = tmp_path / "sizes.png"
    pictures.image_rows([np.ones((3, 20, 20)), np.ones((3, 10, 10))], ["", ""], path)
    ink = np.asarray(Image.open(path).convert("L")) < 40
    large, small = (ink[round(ink.shape[0] * place)] for place in (1 / 3, 0.8))

    def edges(line):
        return np.flatnonzero(np.diff(np.r_[False, line, False].astype(int))).reshape(-1, 2)

    assert (len(edges(large)), len(edges(small))) == (3, 3)
    widths = [np.diff(edges(line)).mean() for line in (large, small)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=2)
    assert edges(large).mean(1) == pytest.approx(edges(small).mean(1), abs=2)


def test_only_the_first_sixteen_feature_maps_are_drawn(tmp_path):
    pictures.feature_maps(MAPS[:1], tmp_path / "twenty.png")
    pictures.feature_maps(MAPS[:1, :16], tmp_path / "sixteen.png")
    assert (tmp_path / "twenty.png").read_bytes() == (tmp_path / "sixteen.png").read_bytes()


def test_a_point_that_is_not_finite_is_left_out(tmp_path):
    holed = POINTS.copy()
    holed[7] = np.nan
    keep = np.arange(20) != 7
    pictures.latent_map(holed, np.arange(20) % 3, tmp_path / "holed.png")
    pictures.latent_map(POINTS[keep], (np.arange(20) % 3)[keep], tmp_path / "fewer.png")
    assert (tmp_path / "holed.png").read_bytes() == (tmp_path / "fewer.png").read_bytes()


def test_matplotlibs_settings_are_left_as_they_were(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    pictures.confusion_matrix(np.eye(2, dtype=int), tmp_path / "matrix.png")
    assert dict(matplotlib.rcParams) == before
