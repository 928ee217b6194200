"""An output appears whole or not at all; JSON of equal values has equal bytes."""

import decimal
import json
import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import files
from zoo.errors import InputError
from zoo.records import cost, curve, judged, latency, metrics, parity, peers, run


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Failure(Exception):
    pass


def write(path, kind, content):
    """A file, or a folder with one file, called `content` and holding it."""
    if kind == "folder":
        path.mkdir()
        path = path / content
    path.write_text(content)


def fail_halfway(path, kind, error):
    with files.replacing(path) as temporary:
        write(temporary, kind, "half")
        raise error


def content(path):
    """{relative path: text} of everything below, hidden files too."""
    return {str(one.relative_to(path)): one.read_text() for one in sorted(path.rglob("*")) if one.is_file()}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_new_output_appears_at_the_end(tmp_path, kind):
    path = tmp_path / "a" / "b"
    with files.replacing(path) as temporary:
        write(temporary, kind, "new")
        assert temporary.parent == path.parent  # a rename across file systems would copy
        assert not path.exists()
    assert content(tmp_path) == {"a/b" if kind == "file" else "a/b/new": "new"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_earlier_output_stands_until_the_end(tmp_path, kind):
    write(tmp_path / "out", kind, "old")
    before = content(tmp_path)
    with files.replacing(tmp_path / "out") as temporary:
        write(temporary, kind, "new")
        assert before.items() <= content(tmp_path).items()
    assert content(tmp_path) == {"out" if kind == "file" else "out/new": "new"}


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [Failure, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_what_stood_there(tmp_path, kind, error):
    write(tmp_path / "out", kind, "old")
    before = content(tmp_path)
    with pytest.raises(error):
        fail_halfway(tmp_path / "out", kind, error)
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_before_anything_was_written(tmp_path):
    with pytest.raises(Failure), files.replacing(tmp_path / "out"):
        raise Failure
    assert not list(tmp_path.iterdir())


def test_two_outputs_appear_together_or_not_at_all(tmp_path):
    write(tmp_path / "folder", "folder", "old")
    write(tmp_path / "file", "file", "old")
    before = content(tmp_path)

    def both(fail):
        with files.replacing(tmp_path / "folder") as folder, files.replacing(tmp_path / "file") as file:
            write(folder, "folder", "new")
            write(file, "file", "new")
            if fail:
                raise Failure

    with pytest.raises(Failure):
        both(fail=True)
    assert content(tmp_path) == before
    both(fail=False)
    assert content(tmp_path) == {"folder/new": "new", "file": "new"}


def test_an_output_inside_an_output(tmp_path):
    with files.replacing(tmp_path / "out") as folder:
        files.write_json(folder / "0" / "a.json", 1)
        with pytest.raises(Failure):
            fail_halfway(folder / "b", "folder", Failure)
    assert content(tmp_path) == {"out/0/a.json": "1\n"}


# ---- JSON


def test_json_is_sorted_plain_and_ends_with_a_newline(tmp_path):
    value = {"b": (1, numpy.float32(0.1), numpy.int64(7), numpy.bool_(True)), "a": {2: "é", 1: None}}
    files.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == (
        '{\n  "a": {\n    "1": null,\n    "2": "é"\n  },\n  "b": [\n    1,\n    0.1,\n    7,\n    true\n  ]\n}\n'
    )
    files.write_json(tmp_path / "b.json", {"a": {1: None, 2: "é"}, "b": [1, 0.1, 7, True]})
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, numpy.float32("nan"), numpy.float64("inf")], ids=repr)
def test_what_is_not_finite_is_null(tmp_path, bad):
    files.write_json(tmp_path / "a.json", {"x": [bad, {"y": bad}], "z": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [None, {"y": None}], "z": 1.5}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_have_six_digits(value):
    """Rounded as decimal arithmetic rounds the float's exact value."""
    files.write_json("float.json", value)
    assert files.read_json("float.json") == float(decimal.Context(prec=6).create_decimal_from_float(value))


def test_integers_keep_all_digits(tmp_path):
    files.write_json(tmp_path / "a.json", [123456789012, numpy.int64(2**60)])
    assert files.read_json(tmp_path / "a.json") == [123456789012, 2**60]


def test_what_json_cannot_hold_leaves_the_earlier_file(tmp_path):
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(AttributeError):
        files.write_json(tmp_path / "a.json", {"x": object()})
    assert content(tmp_path) == {"a.json": "1\n"}


@pytest.mark.parametrize("damage", [b"", b'{"a": ', b"[1, 2", b"\xff\xfe\x00"])
def test_damaged_json_is_named(tmp_path, damage):
    (tmp_path / "a.json").write_bytes(damage)
    with pytest.raises(InputError, match=r"a\.json is damaged .*delete it and run `dvc repro` again") as caught:
        files.read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_missing_json_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json is missing: run `dvc repro`, which makes it"):
        files.read_json(tmp_path / "none.json")


# ---- paths


def test_every_output_has_a_place_of_its_own_below_its_profile():
    def all_of(profile):
        by_name = [files.checkpoints, files.graphs, files.predictions, files.figures, files.data, files.report]
        by_name += [record.path for record in (cost, curve, judged, latency, metrics, parity, peers, run)]
        return [place(profile, "name") for place in by_name]

    quick, full = all_of("quick"), all_of("full")
    assert len({*quick, *full}) == 2 * len(quick)
    assert all(path.parts[1] == "quick" and path.parts[0] in ("artifacts", "reports") for path in quick)
    assert files.checkpoint("quick", "name", 3).parent == files.checkpoints("quick", "name")
    assert files.graph("quick", "name", 3, "encode").parents[1] == files.graphs("quick", "name")


def test_a_row_of_a_table_has_one_line(tmp_path):
    """What is in a list of dictionaries reads, and is compared, line by line."""
    value = {"rows": [{"b": [1, 2], "a": 0.5}, {"a": {}}], "none": [], "empty": {}, "each": [[1], {"x": None}]}
    files.write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == value
    assert '  "rows": [\n    {"a": 0.5, "b": [1, 2]},\n    {"a": {}}\n  ]\n' in text
