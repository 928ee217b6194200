"""What a stage computes is a matter of its code, not of its text; and the code that is hashed is the code that runs."""

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo
from dvc_projects import inside, keep_experiments, write_stages

from zoo import code
from zoo.errors import InputError

SMALL = """x = f(1.0)\n"""
# The same module, with all that a digest leaves alone.
REWORDED = '"""A module."""\n\n# Why.\nx = f(\n    1.0,\n)\n'
# Written down by hand from the grammar of Python's `ast`: fields in their order, but for the empty ones.
SYNTAX = (
    "Module(body=[Assign(targets=[Name(id='x', ctx=Store())], "
    "value=Call(func=Name(id='f', ctx=Load()), args=[Constant(value=float 1.0)]))])"
)
STAGE = """
import _checkout
from zoo import code, files
from zoo.stage import run

def small():
    '''Make a file.'''
    {before}
    with files.replacing("made") as temporary:
        temporary.write_text("new")
        {during}

if __name__ == "__main__":
    run(small)
"""
EDIT = "files.Path('src/zoo/helper.py').write_text({!r})"


# ---- digests


def digest(text):
    return code.examine(text)[0]


def test_a_digest_has_a_fixed_value():
    """sha256 of the syntax tree as text: printf %s "$SYNTAX" | sha256sum."""
    expected = "6b42c4fa790b7491ace24f732d3b7a2203dc9d4a8baa946d4006bac15296dc7f"
    assert code.hashlib.sha256(SYNTAX.encode()).hexdigest() == expected
    assert digest(SMALL) == expected


@pytest.mark.parametrize(
    "text",
    [
        REWORDED,
        "x = f(1.0)  # why\n",
        "'other docstring'\nx = f(1.00)\n",
        "x=f(1e0);\n",
    ],
)
def test_a_digest_leaves_the_text_alone(text):
    assert digest(text) == digest(SMALL)


@pytest.mark.parametrize(
    "text",
    ["x = f(1)\n", "x = f(None)\n", "x = f()\n", "y = f(1.0)\n", "x = f(1.0)\nf\n", "x = f(1.0)\n'not a docstring'\n"],
)
def test_a_digest_sees_what_is_computed(text):
    assert digest(text) != digest(SMALL)


def test_docstrings_of_classes_and_functions():
    """Also where a function is a docstring and nothing else."""
    bare = "class A:\n    def f(self):\n        return 1\n\n    async def g(self):\n        {}\n"
    documented = bare.replace("A:\n", "A:\n    'doc'\n").replace("        return", "        'doc'\n        return")
    assert digest(bare.format("'one'")) == digest(documented.format("'two'"))


@pytest.mark.parametrize("python", ["python3.12", "python3.13"])
def test_other_pythons_find_the_same(python, root):
    """Every record of this repository, on the other versions that are supported."""
    path = shutil.which(python)
    if not path or subprocess.run([path, "-c", ""], capture_output=True).returncode:  # pyenv's stand-in for what is not
        pytest.skip(f"{python} is not on PATH")
    texts = ["f'{x:{width}}'", "f'{x!r:>{width}.{digits}f} {y=}'", "f'{x:}{{}}'", "f'a' 'b' f'{x:\\n}'"]
    program = "import json; from zoo import code; units = {name: code.unit(name) for name in code.units()}; "
    program += f"print(json.dumps([units, [code.examine(text)[0] for text in {texts}]]))"
    done = subprocess.run([path, "-c", program], env={"PYTHONPATH": root / "src"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    units = {name: code.unit(name) for name in code.units()}
    assert json.loads(done.stdout) == [units, [digest(text) for text in texts]]


# ---- units


@pytest.fixture
def checkout(tmp_path, root):
    """A checkout of a small project, with this one's own checks: two stages, a model and the block that it shares."""
    folder = tmp_path / "checkout"
    texts = {
        "src/zoo/__init__.py": "'''A package.'''",
        "src/zoo/helper.py": "VALUE = 1\n",
        "src/zoo/table.py": "TEXT = Path(__file__).with_name('table.yaml')\nPAGES = Path(__file__).with_name('pages')",
        "src/zoo/table.yaml": "a: 1\n",
        "src/zoo/pages/inner/page.html": "<p>\n",
        "src/zoo/models/__init__.py": "",
        "src/zoo/models/layers.py": "import torch\n",
        "src/zoo/models/gan.py": "from zoo.models import layers\nclass Network:\n    pass\n",
        "src/zoo/models/probe.py": "class Network:\n    pass\n",
        "stages/small.py": "import _checkout\nimport zoo.table\nfrom zoo import helper\nimport os.path, numpy",
        "constraints.txt": "numpy==1.0 ; python_version < '4'\ntorch==2.0\nrich==3.0\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("stages/_checkout.py", "src/zoo/code.py", "src/zoo/errors.py", "src/zoo/files.py", "src/zoo/stage.py"):
        shutil.copy(root / name, folder / name)
    return folder


def test_a_unit_lists_modules_data_and_packages(checkout):
    """Packages' own files, what is imported through others, folders of data, and pins of what decides numbers."""
    unit = code.unit("small", checkout)
    own = {"src/zoo/__init__.py", "src/zoo/helper.py", "src/zoo/table.py", "stages/small.py"}
    assert unit["modules"].keys() == own | {"stages/_checkout.py", "src/zoo/code.py", "src/zoo/errors.py"}
    assert unit["data"].keys() == {"src/zoo/table.yaml", "src/zoo/pages/inner/page.html"}
    assert unit["packages"] == {"numpy": "1.0"}
    assert code.unit("models/gan", checkout)["packages"] == {"torch": "2.0"}
    assert code.units(checkout) == ["small", "models/gan", "models/probe"]


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("src/zoo/models/layers.py", "'''Reworded.'''\nimport torch  # all of it\n", set()),
        ("src/zoo/models/layers.py", "import torch\nX = 1\n", {"models/gan"}),
        ("src/zoo/helper.py", "VALUE = 2\n", {"small"}),
        ("src/zoo/table.yaml", "a: 2\n", {"small"}),
        ("src/zoo/pages/other.html", "<p>\n", {"small"}),
        ("src/zoo/__init__.py", "import os\n", {"small", "models/gan", "models/probe"}),
        ("constraints.txt", "numpy==1.0\ntorch==2.1\n", {"models/gan"}),
        ("constraints.txt", "numpy==1.0\ntorch==2.0\nrich==4.0\n", set()),
    ],
)
def test_an_edit_changes_the_units_that_it_concerns(checkout, file, text, changed):
    before = {name: code.unit(name, checkout) for name in code.units(checkout)}
    (checkout / file).write_text(text)
    assert {name for name in before if code.unit(name, checkout) != before[name]} == changed


def test_a_file_that_is_not_python(checkout):
    (checkout / "src/zoo/helper.py").write_text("def :\n")
    with pytest.raises(InputError, match=r"^src/zoo/helper\.py, line 1: "):
        code.unit("small", checkout)


def test_no_import_is_relative(root):
    """Units follow absolute imports alone."""
    for path in [*(root / "src").rglob("*.py"), *(root / "stages").glob("*.py")]:
        assert not re.search(r"^\s*from \.", path.read_text(), re.MULTILINE), path


def read(path):
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def units():
    return {name: code.unit(name) for name in code.units()}


@pytest.fixture
def edited(monkeypatch, units):
    """A function: the units that differ where one file of this repository has another text."""

    def differing(file, old, new):
        text = read(code.ROOT / file)
        assert old in text
        with monkeypatch.context() as patch:
            content = functools.partial(replaced, Path.read_text, code.ROOT / file, text.replace(old, new, 1))
            patch.setattr(Path, "read_text", lambda path, *arguments, **options: content(path, *arguments, **options))
            return {name for name, unit in units.items() if code.unit(name) != unit}

    return differing


def replaced(read_text, file, text, path, *arguments, **options):
    return text if path == file else read_text(path, *arguments, **options)


def test_a_statement_in_layers_changes_the_models_that_import_it(edited, units):
    path = "src/zoo/models/layers.py"
    using = {
        name for name in units if name.startswith("models/") and "layers" in read(code.ROOT / f"src/zoo/{name}.py")
    }
    assert 0 < len(using) < len([name for name in units if name.startswith("models/")])
    assert edited(path, "\n\n\n", "\n\n\nUNUSED = 1\n\n\n") == using
    assert edited(path, "\n\n\n", "\n\n\n# Unused.\n\n\n") == set()


def test_a_colour_of_a_chart_changes_the_report_alone(edited):
    assert edited("src/zoo/report/drawing.py", "alpha=0.95", "alpha=0.94") == {"report"}


# For each line of JSON, [modules to import first, [modules of each unit]]: a process for every unit, forked after those
# imports, imports the unit, has it read its data files, and prints [whether torch was imported, the files of src and
# stages that were opened or imported].
OPENED = """
import contextlib, importlib, json, os, sys
folders, opened = (f"{sys.argv[1]}/src/", f"{sys.argv[1]}/stages/"), set()
def note(event, arguments):
    if event == "open":
        opened.add(str(arguments[0]))
def look(names):
    sys.addaudithook(note)
    sys.path[:0] = folders
    for name in names:
        importlib.import_module(name)
    if "zoo.evaluate.metrics" in sys.modules:
        sys.modules["zoo.evaluate.metrics"].known_metrics()
    if "zoo.report.render" in sys.modules:
        for folder in (sys.modules["zoo.report.render"].TEMPLATES, sys.modules["zoo.pages"].SHARED):
            opened.update(str(path) for path in folder.rglob("*") if path.is_file() and path.read_bytes())
    paths = opened | {str(getattr(module, "__file__", None)) for module in list(sys.modules.values())}
    paths = [path for path in paths if path.startswith(folders) and "__pycache__" not in path]
    print(json.dumps(["torch" in sys.modules, paths]), flush=True)
for line in sys.stdin:
    first, units = json.loads(line)
    for name in first:
        with contextlib.suppress(ImportError):  # what a module defines
            importlib.import_module(name)
    for names in units:
        if not (child := os.fork()):
            status = 1
            try:
                look(names)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{names} cannot be imported")
"""
STAGES = [name for name in code.units() if "/" not in name]
WITH_TORCH = ("train", "export", "peers")
FOUND_BY_NAME = tuple(name for name in code.units() if "/" in name)


@pytest.fixture(scope="module")
def opened(units):
    """{unit: [whether torch was imported, files]} of every stage, and of all models and data sources at once."""
    without = [(name,) for name in STAGES if name not in WITH_TORCH]
    lines, keys = [], []
    for group in (without, [*((name,) for name in WITH_TORCH), FOUND_BY_NAME]):
        files = {path for names in group for name in names for path in units[name]["modules"]}
        imports = {imported for path in files for imported in code.examine(read(code.ROOT / path))[1]}
        ours = ("zoo", "_checkout", "torch._")  # and what is private to torch is imported late
        others = sorted(name for name in imports if not name.startswith(ours))
        modules = [[f"zoo.{name.replace('/', '.')}" if "/" in name else name for name in names] for names in group]
        lines.append(json.dumps([others, modules]))
        keys += group
    command = [sys.executable, "-c", OPENED, code.ROOT]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(keys, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("names", [*((name,) for name in STAGES), FOUND_BY_NAME], ids=[*STAGES, "found by name"])
def test_no_file_is_read_that_no_unit_lists(names, opened, units):
    """Modules that imports find, and data files by way of what opens them."""
    listed = {str(code.ROOT / path) for name in names for kind in ("modules", "data") for path in units[name][kind]}
    assert set(opened[names][1]) <= listed
    own = {f"src/zoo/{name}.py" if "/" in name else f"stages/{name}.py" for name in names}
    assert {str(code.ROOT / path) for path in own} <= set(opened[names][1])


def test_stages_after_export_import_no_torch(opened):
    """Nothing that they import, ours or not, imports torch. Peers runs torch itself."""
    assert {names[0] for names, (torch, _) in opened.items() if len(names) == 1 and torch} == set(WITH_TORCH)


# ---- the stage code


def run(folder, *command):
    """A program in a folder, as started by a user who has activated this environment."""
    environment = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A `git clone --shared` of this repository as it lies here, with one stage, and the environment of the first."""
    root, folder = code.ROOT, tmp_path_factory.mktemp("copy") / "clone"
    run(root, "git", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(folder))
    for name in ("src", "stages"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("constraints.txt", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(root / name, folder / name)
    write_stages(folder, {"code": yaml.safe_load(read(root / "dvc.yaml"))["stages"]["code"]})
    keep_experiments(folder, ("ae_dense32", "probe_frozen"), {"by": "probe_frozen", "of": []})
    (folder / ".dvc").mkdir(exist_ok=True)
    shutil.copy(root / ".dvc" / "config", folder / ".dvc" / "config")
    return folder


def test_the_stage_writes_what_there_is(copy):
    """A file a unit, byte for byte the same again; of a model that is gone, none."""
    probe, record = copy / "src/zoo/models/probe.py", copy / "code/models/probe.json"
    text = probe.read_bytes()
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    probe.unlink()
    assert run(copy, "python", "stages/digest.py").returncode == 0
    assert not record.exists()
    before = {path: path.read_bytes() for path in (copy / "code").rglob("*.json")}
    probe.write_bytes(text)
    assert run(copy, "python", "stages/digest.py").returncode == 0
    after = {path: path.read_bytes() for path in (copy / "code").rglob("*.json")}
    names = {path.relative_to(copy / "code").with_suffix("").as_posix() for path in after}
    assert names == {*code.units(copy), "experiments/quick", "experiments/full"}
    assert json.loads(after[copy / "code/train.json"]) == code.unit("train", copy)
    assert after == before | {record: after[record]}


def test_a_copy_runs_its_own_code(copy, monkeypatch):
    """With the environment of the first checkout, whose code the installed package is. Words run the stage in vain."""
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:/usr/bin:/bin")

    def mark(value):
        (copy / "src/zoo/models/marked.py").write_text(f"class Network:\n    pass\n\nMARK = {value}\n")

    def assert_marked():
        assert json.loads((copy / "code/models/marked.json").read_text()) == code.unit("models/marked", copy)

    mark(1)
    done = run(copy, "zoo", "repro", "code")
    assert done.returncode == 0, done.stderr
    assert_marked()
    with inside(copy), contextlib.closing(Repo()) as repo:
        mark(2)
        assert repo.reproduce("code")
        assert_marked()
        before = {path: path.read_bytes() for path in (copy / "code").rglob("*.json")}
        path = copy / "src/zoo/models/layers.py"
        path.write_text(read(path).replace('"""', '"""Again: ', 1), encoding="utf-8")
        assert repo.reproduce("code")
        assert before == {path: path.read_bytes() for path in (copy / "code").rglob("*.json")}


# ---- the code that is hashed is the code that runs


def stage(checkout, before="pass", during="pass"):
    """Write the stage and its record; what it printed when run, with its status and what is then there."""
    (checkout / "stages/small.py").write_text(STAGE.format(before=before, during=during) + "from zoo import helper\n")
    (checkout / "made").write_text("old")
    (checkout / "code").mkdir()
    (checkout / "code/small.json").write_text(json.dumps(code.unit("small", checkout)))


def outcome(checkout):
    done = run(checkout, "python", "stages/small.py")
    others = {path.name for path in checkout.iterdir()} - {"src", "stages", "code", "constraints.txt", "made"}
    assert not others
    return done.returncode, done.stderr, (checkout / "made").read_text()


def refused(checkout, *parts):
    status, errors, made = outcome(checkout)
    assert (status, made) == (1, "old")
    assert errors.startswith("small.py: ")
    assert errors.count("\n") == 1
    assert all(part in errors for part in parts), errors


def test_a_stage_as_it_was_hashed(checkout):
    stage(checkout)
    assert outcome(checkout) == (0, "", "new")


def test_reworded_while_it_runs(checkout):
    stage(checkout, during=EDIT.format("'''Why.'''\nVALUE = 1\n"))
    assert outcome(checkout) == (0, "", "new")


@pytest.mark.parametrize("when", ["before", "during"])
def test_edited_while_it_runs(checkout, when):
    stage(checkout, **{when: EDIT.format("VALUE = 2\n")})
    refused(checkout, "src/zoo/helper.py differs from code/small.json", "dvc repro")


def test_edited_before_it_starts(checkout):
    stage(checkout)
    (checkout / "src/zoo/helper.py").write_text("VALUE = 2\n")
    refused(checkout, "src/zoo/helper.py differs from code/small.json")


def test_not_hashed(checkout):
    stage(checkout)
    (checkout / "code/small.json").unlink()
    refused(checkout, "code/small.json is missing")


def test_a_damaged_record(checkout):
    stage(checkout)
    (checkout / "code/small.json").write_text("{")
    refused(checkout, "code/small.json is damaged")


def test_another_version_than_the_pin(checkout):
    (checkout / "constraints.txt").write_text("numpy==0.1\n")
    (checkout / "src/zoo/helper.py").write_text("import numpy\nVALUE = 1\n")
    stage(checkout)
    refused(checkout, "numpy ", "but constraints.txt pins 0.1", "make setup")


def test_a_unit_that_params_yaml_names(checkout):
    """Held like the stage itself: a model file that was edited is not imported."""
    stage(checkout, before="code.module('models/probe')")
    (checkout / "code/models").mkdir()
    record = json.dumps(code.unit("models/probe", checkout))
    (checkout / "code/models/probe.json").write_text(record)
    assert outcome(checkout) == (0, "", "new")
    (checkout / "made").write_text("old")
    (checkout / "src/zoo/models/probe.py").write_text("raise ValueError\nclass Network:\n    pass\n")
    refused(checkout, "src/zoo/models/probe.py differs from code/models/probe.json")


def test_a_python_without_the_packages(checkout):
    """As where `python` is the system's; -S leaves out what is installed."""
    stage(checkout)
    done = run(checkout, "python", "-S", "stages/small.py")
    assert done.returncode == 1
    assert "does not have this project's packages" in done.stderr
    assert "activate" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (checkout / "made").read_text() == "old"


def test_zoo_from_elsewhere(checkout, root):
    """Where something has imported another zoo before the stage begins, that does not compute in its name."""
    stage(checkout)
    program = f"import sys; sys.path.insert(0, '{root}/src'); import runpy, zoo.code; sys.argv = ['stages/small.py']; "
    program += "sys.modules['__main__'].__file__ = sys.argv[0]; sys.path.insert(0, 'stages'); import small"
    done = run(checkout, "python", "-c", program)
    assert (done.returncode, (checkout / "made").read_text()) == (1, "old")
    assert done.stderr.startswith(f"small.py: zoo was imported from {root}, not from {checkout}")
    assert done.stderr.count("\n") == 1


def test_what_a_stage_starts_runs_the_same_code(checkout):
    """Also a process that takes over nothing but the environment, as the fork server of Python 3.11 does."""
    program = "import zoo; print(zoo.__file__)"
    stage(checkout, during=f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}])")
    done = run(checkout, "python", "stages/small.py")
    assert (done.stdout, done.returncode) == (f"{checkout}/src/zoo/__init__.py\n", 0)
