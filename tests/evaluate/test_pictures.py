"""Pictures: equal arrays give equal bytes, nothing in the file but pixels, and gaps do not stop a plot."""

import numpy as np
import pandas
import pytest
from matplotlib.text import Text
from PIL import Image

from zoo.evaluate import pictures

IMAGES = np.linspace(0, 1, 3 * 28 * 28).reshape(3, 28, 28)
MAPS = np.ones((2, 20, 4, 4)) * np.arange(20)[:, None, None]
POINTS = np.stack([np.arange(20.0), np.arange(20.0) ** 2], axis=1)
LATENCY = [
    {
        "provider": provider, "verb": verb, "mode": mode, "batch": batch, "p50_us": p50,
        "p50_low_us": None if p50 is None else 0.8 * p50, "p50_high_us": None if p50 is None else 1.5 * p50,
    }
    for provider, batch, p50 in (("CPU", 64, 80.0), ("CPU", 1, 12.0), ("CUDA", 1, 31.0), ("CUDA", 64, None))
    for verb in ("decode", "encode")
    for mode in ("bound", "host")
]  # fmt: skip
OVERVIEW = [
    {"name": name, "provider": provider, "verb": "encode", "default_us": default, "best_us": best}
    for name, provider, default, best in (
        ("one", "CPU", 20.0, 10.0),
        ("one", "CUDA", 30.0, 5.0),
        ("two", "CPU", 9.0, 9),
    )
]
PEERS = [
    {"name": "one · encode", "batch": 1, "ratios": {"torch": (4.0, 3.5, 4.5), "OpenVINO": (0.8, None, None)}},
    {"name": "two · encode", "batch": 1, "ratios": {"torch": (2.0, 1.0, 4.0)}},
    {"name": "one · encode", "batch": 64, "ratios": {"OpenVINO": (1.5, 1.4, 1.6)}},
]
MODELS = [
    {"name": f"experiment {index}", "p50_us": 10.0 + index % 3, "quality": 0.9 + index / 1e3, "partial": index == 3}
    for index in range(8)
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
    "image_rows": lambda path: pictures.image_rows([IMAGES, IMAGES[:2] * 9 - 4], ["input", "output"], path),
    "image_rows_with_nan": lambda path: pictures.image_rows([np.full((2, 28, 28), np.nan)], [0], path),
    "image_rows_of_two_sizes": lambda path: pictures.image_rows([IMAGES, IMAGES.repeat(2, 1).repeat(2, 2)], "ab", path),
    "feature_maps": lambda path: pictures.feature_maps(MAPS, path),
    "latent_map": lambda path: pictures.latent_map(POINTS, np.arange(20) % 3, path),
    "confusion_matrix": lambda path: pictures.confusion_matrix(np.diag([5, 0, 7]), path),
    "three_confusions": lambda path: pictures.three_confusions(np.arange(200) % 4, path, np.arange(200) % 3 - 1),
    "curves": lambda path: pictures.curves(curve(), path),
    "curves_published": lambda path: pictures.curves(curve(), path, {"a log": {0: 2.0, 25: 0.5}, "another": {10: 1.0}}),
    "curves_negative": lambda path: pictures.curves(curve(loss=-1.0), path),
    "curves_gap": lambda path: pictures.curves(curve(loss=[1.0, np.nan, np.inf, 0.5] * 10), path),
    "curves_nothing_finite": lambda path: pictures.curves(curve(loss=np.nan), path),
    "latency": lambda path: pictures.latency(LATENCY, path),
    "latency_overview": lambda path: pictures.latency_overview(OVERVIEW, path),
    "peers": lambda path: pictures.peers(PEERS, path, ["gone", "torch", "OpenVINO"]),
    "quality_of_shares": lambda path: pictures.quality_against_latency(MODELS, path, "accuracy", share=True),
    "quality_of_all": lambda path: pictures.quality_against_latency(
        [MODELS[0] | {"quality": 1}], path, "it", share=True
    ),
    "quality_against_latency": lambda path: pictures.quality_against_latency(MODELS, path, "accuracy"),
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
    pictures.feature_maps(MAPS, tmp_path / "twenty.png")
    pictures.feature_maps(MAPS[:, :16], tmp_path / "sixteen.png")
    assert (tmp_path / "twenty.png").read_bytes() == (tmp_path / "sixteen.png").read_bytes()


def test_a_point_that_is_not_finite_is_left_out(tmp_path):
    holed = POINTS.copy()
    holed[7] = np.nan
    keep = np.arange(20) != 7
    pictures.latent_map(holed, np.arange(20) % 3, tmp_path / "holed.png")
    pictures.latent_map(POINTS[keep], (np.arange(20) % 3)[keep], tmp_path / "fewer.png")
    assert (tmp_path / "holed.png").read_bytes() == (tmp_path / "fewer.png").read_bytes()


def drawn_axes(monkeypatch, draw):
    """The axes of the figure that `draw` would save."""
    figures_saved = []
    monkeypatch.setattr(pictures, "_save", lambda figure, *_, **__: figures_saved.append(figure))
    draw()
    return figures_saved[0].axes


def test_a_loss_of_many_digits_is_marked_by_powers_of_ten(monkeypatch):
    losses = np.geomspace(10, 1e24, 40)
    (axes,) = drawn_axes(monkeypatch, lambda: pictures.curves(curve(loss=losses), "unused"))
    marks = [axes.yaxis.get_major_formatter()(value) for value in (10, 1e6, 1e9, 1e24)]
    assert marks == ["10", "1,000,000", "1e9", "1e24"]


def test_three_confusions_show_a_tenth_of_the_images_all_of_them_and_random_answers(monkeypatch):
    """Shares of each actual class; of 400 random answers each of four classes is about a quarter."""
    actual = np.arange(400) % 4
    predicted = np.where(actual == 3, 0, actual)
    predicted[40:80] = -1  # said nothing: left out
    axes = drawn_axes(monkeypatch, lambda: pictures.three_confusions(actual, "unused", predicted))
    assert [one.get_title(loc="left") for one in axes[:3]] == ["40 images", "400 images", "400 images, random answers"]
    tenth, whole, random = (np.asarray(one.images[0].get_array()) for one in axes[:3])
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert tenth.tolist() == whole.tolist() == expected
    assert np.abs(random - 0.25).max() < 0.15
    assert random.sum(1) == pytest.approx(np.ones(4))


def test_published_losses_are_marks_at_their_steps_and_are_named(monkeypatch):
    published = {"a log": {0: 2.0, 25: 0.5}, "another": {10: 1.0}}
    (axes,) = drawn_axes(monkeypatch, lambda: pictures.curves(curve(), "unused", published))
    marks = {
        line.get_label(): line for line in axes.lines if line.get_linestyle() == "None" or line.get_marker() in "x+"
    }
    assert marks.keys() == published.keys()
    for source, points in published.items():
        assert dict(zip(*marks[source].get_data(), strict=True)) == points
    assert {text.get_text() for text in axes.get_legend().get_texts()} > published.keys()


def bars(container):
    """[x, y, x, y] of the two ends of each error bar of a plot."""
    return np.array([segment for bar in container.lines[2] for segment in bar.get_segments()]).reshape(-1, 4)


def test_latency_is_a_line_a_verb_and_mode_with_its_interval_in_a_panel_a_provider(monkeypatch):
    cpu, cuda = drawn_axes(monkeypatch, lambda: pictures.latency(LATENCY, "unused"))
    assert [axes.get_title(loc="left") for axes in (cpu, cuda)] == ["CPU", "CUDA"]
    lines = {container.get_label(): container for container in cpu.containers}
    assert lines.keys() == {f"{verb}, {mode}" for verb in ("decode", "encode") for mode in ("host", "bound")}
    assert {line.lines[0].get_linestyle() for name, line in lines.items() if "host" in name} == {"-"}
    assert {line.lines[0].get_linestyle() for name, line in lines.items() if "bound" in name} == {"--"}
    for line in lines.values():
        assert line.lines[0].get_xydata().tolist() == [[1, 12], [64, 80]]
        assert bars(line) == pytest.approx(np.array([[1, 9.6, 1, 18], [64, 64, 64, 120]]))
    assert all(container.lines[0].get_xydata().tolist() == [[1, 31]] for container in cuda.containers)


def test_peers_are_dots_at_their_ratios_with_their_intervals_in_a_panel_a_batch(monkeypatch):
    one, many = drawn_axes(monkeypatch, lambda: pictures.peers(PEERS, "unused", ["gone", "torch", "OpenVINO"]))
    assert [axes.get_title(loc="left") for axes in (one, many)] == ["batch 1", "batch 64"]
    assert [label.get_text() for label in one.get_yticklabels()] == ["one · encode", "two · encode"]
    dots = {container.get_label(): container for container in one.containers}
    assert dots.keys() == {"torch", "OpenVINO"}
    assert dots["torch"].lines[0].get_color() == pictures.COLOURS[1]
    assert dots["torch"].lines[0].get_xydata().tolist() == [[4, 0], [2, 1]]
    assert bars(dots["torch"]) == pytest.approx(np.array([[3.5, 0, 4.5, 0], [1, 1, 4, 1]]))
    assert bars(dots["OpenVINO"]) == pytest.approx(np.array([[0.8, 0, 0.8, 0]]))
    assert {container.get_label(): container.lines[0].get_xydata().tolist() for container in many.containers} == {
        "torch": [], "OpenVINO": [[1.5, 0]]}  # fmt: skip


def test_no_name_of_a_point_covers_another_or_leaves_the_plot(monkeypatch):
    (axes,) = drawn_axes(monkeypatch, lambda: pictures.quality_against_latency(MODELS, "unused", "accuracy"))
    assert sorted(text.get_text() for text in axes.texts) == [point["name"] for point in MODELS]
    figure, inside = axes.figure, axes.get_window_extent()
    boxes = [Text.get_window_extent(text, figure.canvas.get_renderer()) for text in axes.texts]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def test_what_had_a_partial_budget_is_hollow(monkeypatch):
    (axes,) = drawn_axes(monkeypatch, lambda: pictures.quality_against_latency(MODELS, "unused", "accuracy"))
    whole, partial = axes.collections
    assert (len(whole.get_offsets()), len(partial.get_offsets())) == (7, 1)
    assert partial.get_facecolor().tolist() == [[1, 1, 1, 1]]
    assert whole.get_facecolor().tolist() != [[1, 1, 1, 1]]


def test_matplotlibs_settings_are_left_as_they_were(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    pictures.confusion_matrix(np.eye(2, dtype=int), tmp_path / "matrix.png")
    assert dict(matplotlib.rcParams) == before
