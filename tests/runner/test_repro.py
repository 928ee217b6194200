"""`zoo repro`: what runs beside what, what stands after a failure or a signal, what it says."""

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import threading
import time

import dvc.lock
import dvc_projects
import psutil
import pytest
from dvc.exceptions import ReproductionError
from dvc.repo import Repo
from dvc_projects import inside, lock, wait_for, write_stages, zoo
from rich.console import Console

from zoo.errors import InputError
from zoo.runner import dvc_graph, live_view
from zoo.runner.repro import reproduce

CHAIN = {
    "first": {"cmd": "cat source > first", "deps": ["source"], "outs": ["first"]},
    "second": {"cmd": "cat first > second", "deps": ["first"], "outs": ["second"]},
    "other": {"cmd": "cat source > other", "deps": ["source"], "outs": ["other"]},
}


@pytest.fixture
def chain(tmp_path):
    return dvc_projects.project(tmp_path / "chain", CHAIN, source="text\n")


def noted(name, *more):
    """A command that notes its start and its end in .notes."""
    return " && ".join([f"echo start {name} >> .notes", *more, f"echo end {name} >> .notes"])


def is_settled(folder):
    """Whether DVC has nothing to do and nobody holds its lock."""
    with inside(folder), contextlib.closing(Repo()) as repo:
        return repo.status() == {} and is_free(folder)


def is_free(folder):
    """Whether DVC's lock on the files is held by nobody."""
    held = json.loads((folder / ".dvc/tmp/rwlock").read_text())
    holders = [*held.get("write", {}).values(), *(one for many in held.get("read", {}).values() for one in many)]
    return not any(psutil.pid_exists(holder["pid"]) for holder in holders)


# ---- who runs beside whom


def test_what_runs_alone_overlaps_with_nothing(tmp_path):
    stages = {}
    for number in range(4):
        stages[f"alone{number}"] = {
            "cmd": noted(f"alone{number}", "sleep 0.05", f"echo > alone{number}"), "meta": {"alone": True},
            "outs": [f"alone{number}"], "deps": ["made0" if number % 2 else "source"],
        }  # fmt: skip
        stages[f"made{number}"] = {
            "cmd": noted(f"made{number}", "sleep 0.05", f"echo > made{number}"),
            "outs": [f"made{number}"], "deps": ["source"],
        }  # fmt: skip
    stages["last"] = {"cmd": noted("last", "echo > last"), "deps": ["alone0", "made3"], "outs": ["last"]}
    folder = dvc_projects.project(tmp_path / "project", stages, source="")
    with inside(folder):
        assert reproduce(jobs=4) == 0
    running, most = set(), 0
    for line in (folder / ".notes").read_text().splitlines():
        what, name = line.split()
        if what == "start":
            assert not running or not any(other.startswith("alone") for other in (*running, name))
            running.add(name)
        else:
            running.remove(name)
        most = max(most, len(running))
    assert most > 1
    assert is_settled(folder)


def test_foreach_stages_keep_their_meta(tmp_path):
    each = {"foreach": ["a", "b"], "do": {"cmd": "true", "meta": {"alone": True, "imports": ["json"]}}}
    folder = dvc_projects.project(tmp_path / "project", {"each": each, "together": {"cmd": "true"}})
    with inside(folder), dvc_graph.open_pipeline() as pipeline:
        found = {name: (step.group, step.alone, step.imports) for name, step in pipeline.steps.items()}
    assert found == {
        "each@a": ("each", True, ("json",)), "each@b": ("each", True, ("json",)), "together": ("together", False, ()),
    }  # fmt: skip


# ---- two runs at a time


def waiting(name):
    """A command that notes that it has begun, and ends when there is a file .go."""
    return f"echo > {name} && until [ -e .go ]; do sleep 0.02; done"


@pytest.fixture
def profiles(tmp_path):
    """Two pipelines that read files of one folder, made by a stage that runs first."""
    write = "sleep 0.5 && mkdir code && for unit in a b; do cat source > code/$unit; done"
    first = {"cmd": write, "meta": {"first": True}, "deps": ["source"], "outs": [{"code": {"cache": False}}]}
    quick = {"cmd": waiting("of_quick"), "deps": ["code/a"], "outs": ["of_quick"]}
    folder = dvc_projects.project(tmp_path / "profiles", {"code": first, "quick": quick}, source="1\n")
    full = {"wdir": "..", "cmd": waiting("of_full"), "deps": ["code/a", "code/b"], "outs": ["of_full"]}
    (folder / "full").mkdir()
    write_stages(folder / "full", {"full": full})
    yield folder
    (folder / ".go").touch()


def finish(*runs):
    """The statuses and what was printed on either channel."""
    outcomes = [(*run.communicate(timeout=60), run.returncode) for run in runs]
    return [status for *_, status in outcomes], [printed for printed, *_ in outcomes], [each for _, each, _ in outcomes]


def test_two_runs_share_what_runs_first(profiles):
    """Started at once: one of them runs `code`, the other waits for that, then both go on side by side."""
    runs = [zoo(profiles, "repro"), zoo(profiles, "repro", "full/dvc.yaml")]
    for name in ("of_quick", "of_full"):
        wait_for(profiles / name)
    (profiles / ".go").touch()
    statuses, printed, errors = finish(*runs)
    assert (statuses, errors) == ([0, 0], ["", ""])
    assert "".join(printed).count("code ran in") == 1
    assert is_settled(profiles)


def test_what_runs_first_does_not_change_under_another_run(profiles):
    """The code is edited while quick runs: quick goes on, full stops with one line, and may start afterwards."""
    quick = zoo(profiles, "repro")
    wait_for(profiles / "of_quick")
    (profiles / "source").write_text("2\n")
    assert finish(zoo(profiles, "repro", "full/dvc.yaml", "--dry"))[1][0].startswith("code: would run\n")
    statuses, _, errors = finish(zoo(profiles, "repro", "full/dvc.yaml"))
    assert statuses == [1]
    assert errors[0].startswith(f"zoo: process {quick.pid} (zoo repro) is running these stages: wait ")
    assert errors[0].count("\n") == 1
    assert (profiles / "code" / "a").read_text() == "1\n"
    (profiles / ".go").touch()
    assert finish(quick)[0] == [0]
    assert finish(zoo(profiles, "repro", "full/dvc.yaml"))[0] == [0]
    assert (profiles / "code" / "a").read_text() == "2\n"


def test_force_leaves_to_another_run_what_it_reads(profiles):
    quick = zoo(profiles, "repro")
    wait_for(profiles / "of_quick")
    full = zoo(profiles, "repro", "full/dvc.yaml", "--force")
    wait_for(profiles / "of_full")
    (profiles / ".go").touch()
    statuses, printed, _ = finish(quick, full)
    assert statuses == [0, 0]
    assert "code" not in printed[1]


def test_up_to_date_is_said_of_all(profiles):
    (profiles / ".go").touch()
    with inside(profiles) as printed:
        assert reproduce() == reproduce() == 0
    assert printed.getvalue().endswith("\nAll stages are up to date.\n")


def test_commands_find_the_python_that_runs_them(chain, monkeypatch):
    """The environment is not activated: another `python`, or none, is what the shell would find."""
    write_stages(chain, {"which": {"cmd": "command -v python > which", "outs": ["which"]}})
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with inside(chain):
        assert reproduce() == 0
    assert (chain / "which").read_text().strip() == os.path.join(os.path.dirname(sys.executable), "python")


# ---- what is asked for


@pytest.mark.parametrize(
    ("targets", "made"),
    [
        ([], {"first", "second", "other"}),
        (["second"], {"first", "second"}),
        (["dvc.yaml:other"], {"other"}),
        (["first", "other"], {"first", "other"}),
        (["sub/dvc.yaml"], {"first", "sub/made"}),
        (["sub/dvc.yaml:each"], {"first", "sub/made"}),
        (["sub/dvc.yaml:each@made", "other"], {"first", "sub/made", "other"}),
    ],
)
def test_targets(chain, targets, made):
    (chain / "sub").mkdir()
    each = {"foreach": ["made"], "do": {"cmd": "cat ../first > ${item}", "deps": ["../first"], "outs": ["${item}"]}}
    write_stages(chain / "sub", {"each": each})
    with inside(chain):
        assert reproduce(targets) == 0
    assert {str(path.relative_to(chain)) for path in chain.rglob("*")} & {
        "first", "second", "other", "sub/made"} == made  # fmt: skip


@pytest.mark.parametrize("target", ["third", "dvc.yaml:third", "first@x", "elsewhere/dvc.yaml"])
def test_unknown_target(chain, target):
    with inside(chain), pytest.raises(InputError, match="no stage"):
        reproduce([target])


def test_force_runs_what_has_not_changed(chain):
    write_stages(chain, {"only": {"cmd": noted("only", "echo > only"), "deps": ["source"], "outs": ["only"]}})
    with inside(chain):
        for force in (False, False, True):
            assert reproduce(force=force) == 0
    assert (chain / ".notes").read_text().count("start") == 2


def test_dry_changes_nothing_and_says_what_would_run(chain):
    with inside(chain):
        reproduce()
    (chain / "source").write_text("other text\n")
    before = {path: path.read_bytes() for path in chain.glob("*") if path.is_file()}
    with inside(chain) as printed:
        assert reproduce(dry=True) == 0
    lines = printed.getvalue().splitlines()
    assert lines[:2] == ["first: would run", "  > cat source > first"]
    assert any(line.startswith("second: runs if") for line in lines)
    assert before == {path: path.read_bytes() for path in chain.glob("*") if path.is_file()}
    assert is_free(chain)


def test_pull_fetches_instead_of_running(chain, tmp_path):
    """After `dvc push --run-cache` elsewhere and with an empty cache here, with and without the lock."""
    (chain / ".dvc" / "config").write_text(
        f"[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = {tmp_path / 'shelf'}\n"
    )
    with inside(chain), contextlib.closing(Repo()) as repo:
        assert reproduce() == 0
        repo.push(run_cache=True)
    expected = lock(chain)
    for lost in (["first", "second", "other"], ["first", "second", "other", "dvc.lock"]):
        shutil.rmtree(chain / ".dvc" / "cache")
        for name in lost:
            (chain / name).unlink()
        with inside(chain) as printed:
            assert reproduce(pull=True) == 0
        assert "started" not in printed.getvalue()
        assert lock(chain) == expected
        assert (chain / "second").read_text() == "text\n"
        assert is_settled(chain)


# ---- failures


def failing(folder, command):
    stages = {"bad": {"cmd": command, "deps": ["source"], "outs": ["bad"]}} | CHAIN
    stages["after"] = {"cmd": "cat bad > after", "deps": ["bad"], "outs": ["after"]}
    write_stages(folder, stages)


def test_a_failure_shows_the_end_of_the_log(chain):
    failing(chain, "seq 100 && echo reason >&2 && exit 3")
    with inside(chain) as printed:
        assert reproduce(jobs=1) == 1
    text = printed.getvalue()
    assert "bad failed" in text
    assert "status 3" in text
    assert "| reason" in text
    assert "| 100" in text
    assert "| 10\n" not in text
    assert not (chain / "first").exists()


def test_keep_going_leaves_out_what_needs_the_failed_stage(chain):
    failing(chain, "exit 3")
    with inside(chain):
        assert reproduce(keep_going=True) == 1
    assert (chain / "second").exists()
    assert (chain / "other").exists()
    assert not (chain / "after").exists()


def test_a_missing_output_is_a_failure(chain):
    failing(chain, "true")
    with inside(chain) as printed:
        assert reproduce() == 1
    assert "bad' does not exist" in printed.getvalue()


def test_a_killed_command_names_the_signal(chain):
    failing(chain, "kill -9 $$")
    with inside(chain) as printed:
        assert reproduce() == 1
    assert "SIGKILL" in printed.getvalue()


# ---- stopped and killed

SLOW = "echo $$ > .pid; echo half > slow; for i in $(seq 600); do sleep 0.1; done; echo whole > slow"


@pytest.fixture
def started(chain):
    """A project where `first` and `other` have run and `slow` (between them in the file) is in the middle."""
    slow = {"slow": {"cmd": SLOW, "deps": ["source"], "outs": ["slow"]}}
    write_stages(chain, {"first": CHAIN["first"]} | slow | {"other": CHAIN["other"], "second": CHAIN["second"]})
    process = zoo(chain, "repro", "-j2")
    child = psutil.Process(int(wait_for(chain / ".pid")))
    wait_for(chain / "second")
    for name in ("first", "other"):
        wait_for_entry(chain, name)
    yield chain, process, child
    process.kill()
    process.communicate()


def wait_for_entry(folder, name):
    give_up = time.monotonic() + 30
    while name + ":" not in wait_for(folder / "dvc.lock"):
        assert time.monotonic() < give_up
        time.sleep(0.02)


def finish_quickly(folder):
    """Run again, where the slow command is quick, and compare with plain `dvc repro` on a copy that nobody stopped."""
    plain = folder.with_name("plain")
    text = (folder / "dvc.yaml").read_text().replace("seq 600", "seq 0")
    (folder / "dvc.yaml").write_text(text)
    shutil.copytree(folder, plain, ignore=shutil.ignore_patterns("dvc.lock", "first", "second", "other", "slow"))
    shutil.rmtree(plain / ".dvc" / "cache")
    with inside(folder):
        assert reproduce() == 0
    with inside(plain), contextlib.closing(Repo()) as repo:
        repo.reproduce()
    assert lock(folder) == lock(plain)
    assert is_settled(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_children_and_keeps_what_has_finished(started, number):
    folder, process, child = started
    process.send_signal(number)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number, errors
    assert "slow stopped" in printed
    assert not child.is_running()
    assert not (folder / "slow").exists()
    assert "slow:" not in lock(folder)
    assert all(f"{name}:" in lock(folder) for name in ("first", "second", "other"))
    assert is_free(folder)
    finish_quickly(folder)


def test_kill_9_leaves_no_child_and_the_next_run_recovers(started):
    folder, process, child = started
    process.kill()
    process.communicate()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()
    finish_quickly(folder)


def test_started_twice_the_second_names_the_first(started):
    folder, process, _ = started
    second = zoo(folder, "repro")
    _, errors = second.communicate(timeout=30)
    assert second.returncode == 1
    assert len(errors.splitlines()) == 1, errors
    assert f"process {process.pid} " in errors
    with inside(folder), contextlib.closing(Repo()) as repo, pytest.raises(ReproductionError) as refused:
        repo.reproduce()
    assert f"PID {process.pid}" in str(refused.value.__cause__)


def test_dvcs_lock_held_for_long_by_another_names_it(chain, monkeypatch):
    monkeypatch.setattr(dvc_graph, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(dvc.lock, "DEFAULT_TIMEOUT", 0.05)
    refused = pytest.raises(InputError, match=f"process {os.getpid()} ")
    with inside(chain), contextlib.closing(Repo()) as repo, repo.lock, refused:
        reproduce()


def test_dvcs_lock_held_for_a_moment_is_waited_for(chain, monkeypatch):
    monkeypatch.setattr(dvc.lock, "DEFAULT_TIMEOUT", 0.05)
    with inside(chain) as printed, contextlib.closing(Repo()) as repo:
        repo.lock.lock()
        let_go = threading.Timer(0.5, repo.lock.unlock)  # longer than DVC waits
        let_go.start()
        assert reproduce() == 0
        let_go.join()
    assert "3 ran" in printed.getvalue()


# ---- the command


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_jobs_that_are_none(chain, jobs):
    done = zoo(chain, "repro", f"--jobs={jobs}")
    _, errors = done.communicate()
    assert done.returncode == 2
    assert f"{jobs} is not a number of stages" in errors


def test_outside_a_project(tmp_path):
    done = zoo(tmp_path, "repro")
    _, errors = done.communicate()
    assert done.returncode == 1
    assert len(errors.splitlines()) == 1, errors
    assert "DVC repository" in errors


# ---- the view


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (7.34, "7.3 s"), (59.99, "60.0 s"), (65, "1 min 05 s"), (3600, "1 h 00 min"), (7620, "2 h 07 min")],
)
def test_duration(seconds, text):
    assert live_view.duration(seconds) == text


def test_the_estimate_counts_what_runs_alone_apart():
    """Two places: 4 stages of 10 s take 20 s, then 2 alone of 3 s take 6 s."""
    step = dvc_graph.Step
    steps = {f"train@{n}": step(f"train@{n}", "train", False, frozenset()) for n in range(4)}
    steps |= {f"time@{n}": step(f"time@{n}", "time", True, frozenset()) for n in range(2)}
    view = live_view.LiveView(steps, 2, {"train@0": 8, "train@1": 12, "time@9": 3})
    view.refresh(dict.fromkeys(steps, "waiting"))
    assert view.left() == pytest.approx(26, abs=0.01)
    view.refresh(dict.fromkeys(steps, "waiting") | {"train@0": "ran", "train@1": "ran", "time@0": "unchanged"})
    assert view.left() == pytest.approx(13, abs=0.01)
    assert live_view.LiveView(steps, 2, {}).left() == 0


def test_a_terminal_shows_what_runs_and_what_is_left():
    steps = {name: dvc_graph.Step(name, name, False, frozenset()) for name in ("one", "two", "three")}
    states = dict.fromkeys(steps, "waiting")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    with live_view.LiveView(steps, 2, {"one": 60, "two": 60, "three": 60}, console) as view:
        for name, state in (("one", "running"), ("two", "running"), ("one", "ran"), ("two", "failed")):
            states[name] = state
            view.note(name, state, states)
            view.refresh(states)
        shown = screen.getvalue()
        assert "2 running, 1 waiting" in shown
        assert "about 1 min 30 s to go" in shown
        assert "[1/3]" in shown
    states["three"] = "skipped"
    view.note("three", "skipped", states)
    view.summarise({"two": "`[red]` ended with status 1"}, lambda name: ["[bold]last words"])
    shown = screen.getvalue()
    assert "two failed: `[red]` ended with status 1" in shown
    assert "| [bold]last words" in shown
    assert "3 stages: 1 ran, 1 failed, 1 skipped" in shown
    assert view.seconds.keys() == {"one"}
