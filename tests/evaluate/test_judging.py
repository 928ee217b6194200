"""The judge, on generators made by hand: what it must say of a perfect one, a stuck one, a broken one."""

import math

import numpy
import pytest
import scipy.linalg
from sample_graphs import FLAT, IMAGE, SQUARE, save

from zoo.evaluate import judging
from zoo.graphs import sessions

SAMPLES, BATCH = 50, 8
DIGITS = numpy.zeros((10, 784), numpy.float32)
for digit, row in enumerate(DIGITS):
    row[28 * digit : 28 * digit + 28] = 1  # digit d lights row d of the image


def drawing(folder, of_label, name="generate"):
    """A generator that ignores its noise and draws `of_label[label]`, [classes, 784]."""
    return sessions.open_session(save(
        folder / f"{name}.onnx",
        f"(float[batch,3] noise, int64[batch] label) => ({IMAGE} image)",
        f"pixels = Gather(table, label) {SQUARE}",
        table=numpy.float32(of_label),
    ))  # fmt: skip


def unconditional(folder, weights):
    """Noise [batch, 3] times `weights` [3, 784]."""
    return sessions.open_session(save(
        folder / "unconditional.onnx",
        f"(float[batch,3] noise) => ({IMAGE} image)",
        f"pixels = MatMul(noise, weights) {SQUARE}",
        weights=numpy.float32(weights),
    ))  # fmt: skip


@pytest.fixture
def classifier(tmp_path):
    """Logits and features are the ink in each of the image's first ten rows."""
    return {
        verb: sessions.open_session(save(
            tmp_path / f"{verb}.onnx",
            f"({IMAGE} image) => (float[batch,10] {name})",
            f"{FLAT} {name} = MatMul(flat, weights)",
            weights=DIGITS.T / 28,
        ))
        for verb, name in (("classify", "logits"), ("encode", "code"))
    }  # fmt: skip


def real(n=200, wrong=0, noise=0.0):
    """Images of digits drawn faithfully, the first `wrong` of them labelled as the next digit."""
    labels = numpy.arange(n) % 10
    images = DIGITS[labels] + noise * numpy.random.default_rng(0).random((n, 784))
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return numpy.float32(images).reshape(-1, 1, 28, 28), labels


def test_a_perfect_generator(tmp_path, classifier):
    judged = judging.judge(drawing(tmp_path, DIGITS), classifier, *real(), SAMPLES, BATCH)
    assert judged["agreement"] == 1
    assert judged["agreement_by_class"] == dict.fromkeys(range(10), 1)
    assert judged["matched_agreement"] == 1
    assert judged["coverage"] == pytest.approx(10)
    assert judged["judge_accuracy"] == 1


def test_a_generator_stuck_on_one_digit(tmp_path, classifier):
    judged = judging.judge(drawing(tmp_path, DIGITS[[3] * 10]), classifier, *real(), SAMPLES, BATCH)
    assert judged["agreement"] == judged["matched_agreement"] == pytest.approx(0.1)
    assert judged["agreement_by_class"] == {digit: digit == 3 for digit in range(10)}
    assert judged["coverage"] == 1


def test_a_generator_that_mixes_up_two_digits(tmp_path, classifier):
    order = [1, 0, *range(2, 10)]
    judged = judging.judge(drawing(tmp_path, DIGITS[order]), classifier, *real(), SAMPLES, BATCH)
    assert judged["agreement"] == pytest.approx(0.8)
    assert [judged["agreement_by_class"][digit] for digit in (0, 1, 2)] == [0, 0, 1]
    assert judged["matched_agreement"] == 1
    assert judged["coverage"] == pytest.approx(10)


def test_one_digit_cannot_stand_for_two_labels(tmp_path, classifier):
    """Labels 0 to 4 all draw a 0, the others each another digit: one of the five can be called 0, the four not."""
    judged = judging.judge(drawing(tmp_path, DIGITS[[0] * 5 + [9, 8, 7, 6, 5]]), classifier, *real(), SAMPLES, BATCH)
    assert judged["agreement"] == pytest.approx(0.2)
    assert judged["matched_agreement"] == pytest.approx(0.6)


def test_without_a_label_nothing_was_asked_for(tmp_path, classifier):
    weights = numpy.random.default_rng(2).random((3, 784))
    judged = judging.judge(unconditional(tmp_path, weights), classifier, *real(), SAMPLES, BATCH)
    assert judged.keys() == {"coverage", "frechet_distance", "frechet_floor", "judge_accuracy"}


def test_the_judges_own_accuracy_is_on_real_images(tmp_path, classifier):
    for samples in (10, 50):
        judged = judging.judge(drawing(tmp_path, DIGITS), classifier, *real(wrong=30), samples, BATCH)
        assert judged["judge_accuracy"] == pytest.approx(1 - 30 / 200)


def test_the_floor_does_not_depend_on_the_generator(tmp_path, classifier):
    pictures = real()
    perfect, stuck = (
        judging.judge(drawing(tmp_path, table, name), classifier, *pictures, samples, BATCH)
        for table, name, samples in ((DIGITS, "perfect", 50), (DIGITS[[3] * 10], "stuck", 70))
    )
    assert perfect["frechet_floor"] == stuck["frechet_floor"] > 0
    assert perfect["frechet_distance"] < stuck["frechet_distance"] / 10


def test_batches_change_nothing(tmp_path, classifier):
    one, other = (
        judging.judge(drawing(tmp_path, DIGITS, f"of{batch}"), classifier, *real(noise=0.5), SAMPLES, batch)
        for batch in (3, 1000)
    )
    assert one["frechet_distance"] == pytest.approx(other["frechet_distance"])
    assert one["frechet_floor"] == pytest.approx(other["frechet_floor"])


def test_frechet_distance_in_closed_form(tmp_path, classifier):
    """All real images alike: the floor is 0, drawing others costs the squared difference of features."""
    images = numpy.full((200, 1, 28, 28), 0.25, numpy.float32)
    table = numpy.full((10, 784), 0.75)
    judged = judging.judge(drawing(tmp_path, table), classifier, images, real()[1], SAMPLES, BATCH)
    assert judged["frechet_floor"] == pytest.approx(0, abs=1e-9)
    assert judged["frechet_distance"] == pytest.approx(10 * 0.5**2)


def test_noise_is_standard_normal(tmp_path, classifier):
    """Images linear in the noise have features N(0, A'A): their distance to images of 0 is trace(A'A)."""
    weights = numpy.random.default_rng(2).normal(size=(3, 784))
    images, features = numpy.zeros((200, 1, 28, 28), numpy.float32), weights @ DIGITS.T / 28
    judged = judging.judge(unconditional(tmp_path, weights), classifier, images, real()[1], 20_000, 1000)
    assert judged["frechet_distance"] == pytest.approx(scipy.linalg.norm(features) ** 2, rel=0.05)


def test_a_diverged_generator_is_judged(tmp_path, classifier):
    judged = judging.judge(drawing(tmp_path, DIGITS * math.nan), classifier, *real(), SAMPLES, BATCH)
    assert judged["agreement"] == judged["matched_agreement"] == 0
    assert math.isnan(judged["coverage"])
    assert math.isnan(judged["frechet_distance"])
    assert judged["judge_accuracy"] == 1


def test_a_diverged_judge_says_nothing(tmp_path, classifier):
    broken = {
        verb: sessions.open_session(save(
            tmp_path / "broken" / f"{verb}.onnx",
            f"({IMAGE} image) => (float[batch,10] {name})",
            f"{FLAT} {name} = MatMul(flat, weights)",
            weights=numpy.full((784, 10), math.nan, numpy.float32),
        ))
        for verb, name in (("classify", "logits"), ("encode", "code"))
    }  # fmt: skip
    judged = judging.judge(drawing(tmp_path, DIGITS), broken, *real(), SAMPLES, BATCH)
    assert judged["judge_accuracy"] == judged["agreement"] == 0
    assert math.isnan(judged["frechet_floor"])
    assert math.isnan(judged["frechet_distance"])
