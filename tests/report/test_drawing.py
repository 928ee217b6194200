"""Charts: equal rows give equal bytes, every row is drawn where it belongs, and gaps do not stop a plot."""

import numpy as np
import pandas
import pytest
from PIL import Image

from zoo.evaluate import pictures
from zoo.report import drawing

LATENCY = pandas.DataFrame([
    {
        "provider": provider, "verb": verb, "mode": mode, "batch": batch, "p50_us": p50,
        "p50_low_us": 0.8 * p50, "p50_high_us": 1.5 * p50,
    }
    for provider, batch, p50 in (("CPU", 64, 80.0), ("CPU", 1, 12.0), ("CUDA", 1, 31.0), ("CUDA", 64, np.nan))
    for verb in ("decode", "encode")
    for mode in ("bound", "host")
])  # fmt: skip
OVERVIEW = pandas.DataFrame(
    [("one", "CPU", 20.0, 10.0), ("one", "CUDA", 30.0, 5.0), ("two", "CPU", 9.0, 9)],
    columns=["name", "provider", "default_us", "best_us"],
)
PEERS = pandas.DataFrame([
    ("one · encode", 1, "torch", 4.0, 3.5, 4.5),
    ("one · encode", 1, "OpenVINO", 0.8, None, None),
    ("two · encode", 1, "torch", 2.0, 1.0, 4.0),
    ("one · encode", 64, "OpenVINO", 1.5, 1.4, 1.6),
], columns=["name", "batch", "runtime", "ratio", "low", "high"])  # fmt: skip


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
    "three_confusions": lambda path: drawing.three_confusions(
        {"tenth": np.eye(3, dtype=int), "all": np.diag([5, 0, 7])}, path
    ),
    "curves": lambda path: drawing.curves(
        curve(loss=[1.0, np.nan, np.inf, 0.5] * 10), path, {"a log": {0: 2.0, 25: 0.5}, "another": {10: 1.0}}
    ),
    "latency": lambda path: drawing.latency(LATENCY, path),
    "latency_overview": lambda path: drawing.latency_overview(OVERVIEW, path),
    "peers": lambda path: drawing.peers(PEERS, path, ["gone", "torch", "OpenVINO"]),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_equal_arrays_give_equal_small_files_of_pixels_alone(name, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / ".second.123"
    DRAWINGS[name](first)
    DRAWINGS[name](second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 60_000
    with Image.open(first) as picture:
        assert picture.format == "PNG"
        assert picture.info.keys() <= {"transparency", "Description"}
        assert len(picture.convert("RGB").getcolors(10_000)) > 1


@pytest.mark.parametrize("size", [(944, 189), (880, 874), (200, 100), (60, 700)])
def test_a_thumbnail_is_the_middle_of_a_picture(size, tmp_path):
    """White but for a grey square in the middle, 60 pixels wide: a twelfth of 270 x 360 pixels or more."""
    picture = Image.new("L", size, 255)
    picture.paste(80, tuple(side // 2 + edge for edge in (-30, 30) for side in size))
    picture.save(tmp_path / "picture.png")
    drawing.thumbnail(tmp_path / "picture.png", tmp_path / "thumbnail.png")
    drawn = Image.open(tmp_path / "thumbnail.png").convert("L")
    assert drawn.size == (160, 120)
    pixels = np.asarray(drawn)
    assert pixels[60, 80] < 100
    dark = np.argwhere(pixels < 160)
    assert dark.mean(axis=0) == pytest.approx([59.5, 79.5], abs=1)
    height = min(size[1], 270, size[0] * 3 / 4, 360 * 3 / 4)
    assert np.ptp(dark, axis=0) + 1 == pytest.approx(np.minimum([120, 160], 60 * 120 / height), abs=3)


def test_a_thumbnail_of_a_confusion_matrix_is_the_whole_one(tmp_path):
    """Of which the middle can be empty: all images may be given the last class."""
    picture = Image.new("L", (720, 630), 255)
    picture.paste(0, (648, 0, 720, 630))
    picture.save(tmp_path / "classify.png")
    drawing.thumbnail(tmp_path / "classify.png", tmp_path / "thumbnail.png")
    dark = np.argwhere(np.asarray(Image.open(tmp_path / "thumbnail.png").convert("L")) < 128)
    width = 120 * 720 / 630
    assert np.ptp(dark, axis=0) + 1 == pytest.approx([120, width / 10], abs=2)
    assert dark[:, 1].max() == pytest.approx(80 + width / 2, abs=2)


def drawn_axes(monkeypatch, draw):
    """The axes of the figure that `draw` would save."""
    figures_saved = []
    monkeypatch.setattr(pictures, "_save", lambda figure, *_: figures_saved.append(figure))
    draw()
    return figures_saved[0].axes


def test_a_loss_of_many_digits_is_marked_by_powers_of_ten(monkeypatch):
    losses = np.geomspace(10, 1e24, 40)
    (axes,) = drawn_axes(monkeypatch, lambda: drawing.curves(curve(loss=losses), "unused"))
    marks = [axes.yaxis.get_major_formatter()(value) for value in (10, 1e6, 1e9, 1e24)]
    assert marks == ["10", "1,000,000", "1e9", "1e24"]


@pytest.mark.parametrize(
    ("losses", "scale", "words"),
    [
        ([1.0, np.nan, np.inf, 0.5] * 10, "log", []), (-1.0, "linear", []),
        (np.nan, "linear", ["no finite loss was recorded"]),
    ],
    ids=["gaps", "negative", "nothing"],
)  # fmt: skip
def test_losses_that_are_all_positive_are_drawn_on_a_logarithmic_axis(losses, scale, words, monkeypatch):
    (axes,) = drawn_axes(monkeypatch, lambda: drawing.curves(curve(loss=losses), "unused"))
    assert axes.get_yscale() == scale
    assert [text.get_text() for text in axes.texts] == words
    drawn = [value for line in axes.lines for value in line.get_ydata() if np.isfinite(value)]
    assert set(drawn) == set(np.ravel(losses)[np.isfinite(np.ravel(losses))])


def test_three_confusions_show_a_tenth_of_the_images_all_of_them_and_random_answers(monkeypatch):
    """Shares of each actual class; of 400 random predictions each of four classes is about a quarter."""
    answers = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    counts = {"tenth": np.multiply(answers, 10), "all": np.multiply(answers, 100)}
    axes = drawn_axes(monkeypatch, lambda: drawing.three_confusions(counts, "unused"))
    titles = [one.get_title(loc="left") for one in axes[:3]]
    assert titles == ["40 images", "400 images", "400 images, random predictions"]
    tenth, whole, random = (np.asarray(one.images[0].get_array()) for one in axes[:3])
    assert tenth.tolist() == whole.tolist() == answers
    assert np.abs(random - 0.25).max() < 0.15
    assert random.sum(1) == pytest.approx(np.ones(4))


def test_published_losses_are_marks_at_their_steps_and_are_named(monkeypatch):
    published = {"a log": {0: 2.0, 25: 0.5}, "another": {10: 1.0}}
    (axes,) = drawn_axes(monkeypatch, lambda: drawing.curves(curve(), "unused", published))
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
    cpu, cuda = drawn_axes(monkeypatch, lambda: drawing.latency(LATENCY, "unused"))
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
    one, many = drawn_axes(monkeypatch, lambda: drawing.peers(PEERS, "unused", ["gone", "torch", "OpenVINO"]))
    assert [axes.get_title(loc="left") for axes in (one, many)] == ["batch 1", "batch 64"]
    assert [label.get_text() for label in one.get_yticklabels()] == ["one · encode", "two · encode"]
    dots = {container.get_label(): container for container in one.containers}
    assert dots.keys() == {"torch", "OpenVINO"}
    assert dots["torch"].lines[0].get_color() == drawing.COLOURS[1]
    assert dots["torch"].lines[0].get_xydata().tolist() == [[4, 0], [2, 1]]
    assert bars(dots["torch"]) == pytest.approx(np.array([[3.5, 0, 4.5, 0], [1, 1, 4, 1]]))
    assert bars(dots["OpenVINO"]) == pytest.approx(np.array([[0.8, 0, 0.8, 0]]))
    assert {container.get_label(): container.lines[0].get_xydata().tolist() for container in many.containers} == {
        "torch": [], "OpenVINO": [[1.5, 0]]}  # fmt: skip
