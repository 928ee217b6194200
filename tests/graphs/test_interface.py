"""Feeds are drawn from the ranges that an interface describes, and checked against them."""

import numpy
import pytest

from zoo.errors import InputError
from zoo.graphs import interface

DESCRIBED = {
    "axes": interface.AXES,
    "inputs": {
        "image": {"type": "float32", "axes": ["batch", 1, 2, 3], "range": [-2, 3]},
        "words": {"type": "int64", "axes": ["batch", "time"], "range": [4, 6]},
        "state": {"type": "float32", "axes": ["batch", 5]},
    },
}


def drawn(batch=500, time=20):
    return interface.draw(DESCRIBED["inputs"], {"batch": batch, "time": time})


def test_draws_are_of_the_described_ranges():
    feeds = drawn()
    interface.check(DESCRIBED, feeds, "it")
    assert set(feeds["words"].flat) == {4, 5, 6}
    assert -2 <= feeds["image"].min() < -1.9 < 2.9 < feeds["image"].max() <= 3
    assert abs(feeds["state"].mean()) < 0.1
    assert feeds["state"].std() == pytest.approx(1, abs=0.1)
    assert all(numpy.array_equal(value, drawn()[name]) for name, value in feeds.items())


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf, 99])
def test_floats_may_have_any_value(value):
    """A network computes them too, and a diverged one's codes and states are not finite."""
    feeds = drawn(2, 2)
    feeds["image"][0] = feeds["state"][0] = value
    interface.check(DESCRIBED, feeds, "it")


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("words", lambda value: value + 2, "it: input words has the value 7: it takes 4 to 6"),
        ("words", lambda value: value[:1],
         "it: input words is int64[1, 3]: it takes int64[batch, time], batch 1 or more and equal in all inputs, "
         "time 1 or more and equal in all inputs"),
        ("state", lambda value: value.tolist(),
         "it: input state is list[]: it takes float32[batch, 5], batch 1 or more and equal in all inputs"),
        ("state", lambda value: value.astype(">f4"),
         "it: input state is >f4[2, 5]: it takes float32[batch, 5], batch 1 or more and equal in all inputs"),
        ("other", lambda value: 1, "it: input other is unknown: it takes image, words, state"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_input_its_value_and_what_is_allowed(name, change, line):
    feeds = drawn(2, 3)
    feeds["words"][:] = 5
    feeds[name] = change(feeds.get(name))
    with pytest.raises(InputError) as caught:
        interface.check(DESCRIBED, feeds, "it")
    assert str(caught.value) == line


def test_an_axis_without_a_size():
    with pytest.raises(ValueError, match=r"input words.*no size for time"):
        interface.draw(DESCRIBED["inputs"], {"batch": 2})
