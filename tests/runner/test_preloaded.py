"""A forked program is, to itself and to whoever runs it, what a new process would be; it only begins sooner."""

import contextlib
import os
import signal
import sys
import time

import pytest

from zoo.runner import processes
from zoo.runner.preloaded import Preloaded, program
from zoo.runner.processes import Local, Spawned

ENVIRONMENT = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin", "OF_THE_STAGE": "1"}
SCRIPTS = {
    "prints": "import sys\nprint('out')\nprint('err', file=sys.stderr)",
    "sees": """
        import os, sys
        print(__name__, __file__, sys.argv, sys.path[0], os.getcwd(), sys.stdin.read())
        print(sorted(set(os.environ) - {"PWD", "OLDPWD", "SHLVL", "_"}))  # those are a shell's
        print(os.getpgid(0) == os.getsid(0) == os.getpid(), len(os.listdir("/proc/self/fd")))
    """,
    "exits": "raise SystemExit(3)",
    "says_why": "import sys\nsys.exit('not so')",
    "raises": "raise ValueError('no')",
    "is_killed": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
    "leaves_by_atexit": "import atexit\natexit.register(print, 'last')",
    "starts_another": "import subprocess\nprint(subprocess.run(['sh', '-c', 'echo $OF_THE_STAGE; exit 4']).returncode)",
}


@pytest.fixture(scope="module")
def preloaded():
    process = Preloaded(["colorsys"])
    wait_for(process.ready)
    yield process
    process.close()


def wait_for(condition):
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def write(folder, text):
    lines = text.strip("\n").splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    (folder / "script.py").write_text("\n".join(line[indent:] for line in lines))


def ended(child, log):
    """(status, output) of a child that is let go."""
    child.go()
    child.join()
    return child.wait(), log.read_text()


def forked(preloaded, folder, *arguments):
    with open(folder / "forked.log", "wb") as output:
        options = {"cwd": str(folder), "env": ENVIRONMENT}
        return preloaded.start(["script.py", *arguments], options, output)


def spawned(folder, *arguments):
    with open(folder / "spawned.log", "wb") as output:
        options = {"args": ["python", "script.py", *arguments], "cwd": str(folder), "env": ENVIRONMENT}
        return Spawned(options, output)


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_new_process_would_do(name, preloaded, tmp_path):
    write(tmp_path, SCRIPTS[name])
    expected = ended(spawned(tmp_path, "quick", "it"), tmp_path / "spawned.log")
    status, output = ended(forked(preloaded, tmp_path, "quick", "it"), tmp_path / "forked.log")
    if name == "raises":  # the traceback begins where the program was begun
        output, expected = output.splitlines()[-1], (expected[0], expected[1].splitlines()[-1])
    assert (status, output) == expected


def test_modules_are_there_before_the_program_begins_but_none_of_ours(preloaded, tmp_path):
    write(tmp_path, "import sys\nprint('colorsys' in sys.modules, 'zoo' in sys.modules)")
    assert ended(forked(preloaded, tmp_path), tmp_path / "forked.log") == (0, "True False\n")


def test_scripts_run_before_the_program_begins(tmp_path):
    """Named by their path. Where one starts a thread, which a fork would lose, nothing is forked."""
    script = tmp_path / "before.py"
    script.write_text("import colorsys\nif __name__ == '__main__': colorsys.warm = True")
    write(tmp_path, "import colorsys, sys\nprint(colorsys.warm, 'before' in sys.modules)")
    with contextlib.closing(Preloaded([str(script)])) as process:
        wait_for(process.ready)
        assert ended(forked(process, tmp_path), tmp_path / "forked.log") == (0, "True False\n")
    script.write_text("import threading, time\nthreading.Thread(target=time.sleep, args=[60], daemon=True).start()")
    with contextlib.closing(Preloaded([str(script)])) as process:
        assert process.ready() is None
        process._process.wait()
        assert process.ready() is False


def test_the_code_that_lies_there_runs(preloaded, tmp_path):
    write(tmp_path, "import beside\nprint(beside.VALUE)")
    for value in (1, 22):
        (tmp_path / "beside.py").write_text(f"VALUE = {value}")
        assert ended(forked(preloaded, tmp_path), tmp_path / "forked.log") == (0, f"{value}\n")


def test_nothing_begins_before_it_is_let_go(preloaded, tmp_path):
    write(tmp_path, "print('begun')")
    child = forked(preloaded, tmp_path)
    os.killpg(child.pid, signal.SIGKILL)
    assert ended(child, tmp_path / "forked.log") == (-signal.SIGKILL, "")


def test_nothing_begins_when_who_asked_is_gone(preloaded, tmp_path):
    write(tmp_path, "print('begun')")
    child = forked(preloaded, tmp_path)
    child._connection.close()
    wait_for(lambda: not os.path.exists(f"/proc/{child.pid}"))
    assert (tmp_path / "forked.log").read_text() == ""


def test_the_number_is_its_own_until_its_end_was_seen(preloaded, tmp_path):
    write(tmp_path, "print('begun')")
    child = forked(preloaded, tmp_path)
    child.go()
    child.join()
    assert os.path.exists(f"/proc/{child.pid}")
    assert child.wait() == 0
    assert not os.path.exists(f"/proc/{child.pid}")


def commands(folder, text="python script.py", count=1):
    options = {"args": ["/bin/sh", "-c", text], "cwd": str(folder), "env": ENVIRONMENT}
    return [(text, options)] * count


@pytest.fixture
def runner(tmp_path):
    """Of stages of which `many` finds a module imported, and others do not."""
    logs = dict.fromkeys(["many", "other"], tmp_path / "log")
    with contextlib.closing(Local(1, logs, {"many": ("colorsys",)})) as local:
        yield local


def test_a_run_of_many_forks_them(runner, tmp_path):
    """They wait for the process that imports their modules, unless it is gone."""
    write(tmp_path, "import sys\nprint('colorsys' in sys.modules)")
    log = tmp_path / "log"
    assert runner.run("many", commands(tmp_path, count=2)) is None
    assert log.read_text() == "> python script.py\nTrue\n" * 2
    assert runner.run("other", commands(tmp_path)) is None
    assert log.read_text() == "> python script.py\nFalse\n"
    (process,) = runner._preloaded.values()
    process._process.kill()
    process._process.wait()
    assert runner.run("many", commands(tmp_path)) is None
    assert log.read_text() == "> python script.py\nFalse\n"


def test_each_list_of_modules_has_a_process(tmp_path):
    write(tmp_path, "import sys\nprint(*({'colorsys', 'stringprep'} & {*sys.modules}))")
    log, imports = tmp_path / "log", {"a": ("colorsys",), "b": ("stringprep",), "c": ("colorsys",)}
    with contextlib.closing(Local(1, dict.fromkeys(imports, log), imports)) as runner:
        for name in imports:
            assert runner.run(name, commands(tmp_path)) is None
            assert log.read_text() == f"> python script.py\n{imports[name][0]}\n"
        assert len(runner._preloaded) == 2


def test_a_stage_without_modules_starts_when_nothing_is_imported(tmp_path):
    """It may measure the time."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1)\nopen('imported', 'w')")
    write(tmp_path, "import os\nprint(os.path.exists('imported'))")
    log, imports = tmp_path / "log", {"many": ("colorsys",), "never": (str(tmp_path / "slow.py"),)}
    with (
        contextlib.chdir(tmp_path),
        contextlib.closing(Local(1, dict.fromkeys(["many", "other"], log), imports)) as runner,
    ):
        for name in ("many", "many", "many", "other"):
            assert runner.run(name, commands(tmp_path)) is None
        assert log.read_text() == "> python script.py\nTrue\n"


def test_a_module_that_is_not_there_is_no_failure(tmp_path):
    write(tmp_path, "print('done')")
    with contextlib.closing(Local(1, {"many": tmp_path / "log"}, {"many": ("no_such_module",)})) as runner:
        assert runner.run("many", commands(tmp_path, count=2)) is None
        assert (tmp_path / "log").read_text().count("done") == 2


def test_no_program_waits_forever_for_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "IMPORT_SECONDS", 0.2)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)")
    write(tmp_path, "print('done')")
    with contextlib.closing(Local(1, {"many": tmp_path / "log"}, {"many": (str(tmp_path / "slow.py"),)})) as runner:
        assert runner.run("many", commands(tmp_path)) is None
        assert (tmp_path / "log").read_text().count("done") == 1
        (process,) = runner._preloaded.values()
    assert process._process.returncode == -signal.SIGKILL  # nor does the end of the run wait


def test_the_end_of_all_ends_what_was_forked(runner, tmp_path):
    write(tmp_path, "import time\nprint('begun', flush=True)\ntime.sleep(60)")
    log = tmp_path / "log"
    stage = runner.start("many", commands(tmp_path))
    wait_for(lambda: "begun" in log.read_text() if log.exists() else False)
    runner.close()
    assert runner.collect("many", stage) == "`python script.py` was ended by SIGINT"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python stages/train.py quick gan", ["stages/train.py", "quick", "gan"]),
        ("python -m zoo", None),
        ("python3 stages/train.py", None),
        ("python stages/train.py > log", None),
        ("python stages/train.py $HOME", None),
        ("A=1 python stages/train.py", None),
        ("echo python", None),
        ("python", None),
        ("", None),
    ],
)
def test_what_is_a_program(command, words):
    assert program(command, {"env": ENVIRONMENT}) == words


def test_another_python_is_not_ours():
    assert program("python stages/train.py", {"env": {"PATH": "/usr/bin:/bin"}}) is None
