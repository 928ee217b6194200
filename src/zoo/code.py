"""What each stage computes, as digests of its code; and the check that the code that runs is the code that was hashed.

A *unit* is a stage script, a model file or a data source. Its record, code/<unit>.json, lists the modules that the file
imports, directly or through others, each with a digest that comments, docstrings and layout leave alone; the data files
that those modules name as `Path(__file__).with_name(...)`; and the pinned versions of the packages that decide numbers.
DVC compares these records, so that a stage runs again when it computes something else, and only then.

This module needs the standard library alone: a stage imports it before anything else of zoo.
"""

import ast
import functools
import hashlib
import importlib.metadata
import json
import re
from pathlib import Path

from zoo.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "code"
# Packages that decide numbers, by the name under which they are imported: the distribution that constraints.txt pins.
DISTRIBUTIONS = {name: name for name in ("numpy", "onnx", "onnxscript", "openvino", "scipy", "torch")}
DISTRIBUTIONS |= {"onnxruntime": "onnxruntime-gpu", "sklearn": "scikit-learn"}
# A module of these folders that defines this is a unit: params.yaml names it, so that no import statement shows it.
DEFINITIONS = {"models": "Network", "data": "load"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
AGAIN = "run `dvc repro` again, which begins with the stage `code`"
_held = set()  # the units that agreed with their records


def unit(name, root=ROOT):
    """The record of a unit: {"modules": {path: digest}, "data": {path: sha256}, "packages": {distribution: version}}.

    Raises InputError where a file is missing or is not Python.
    """
    modules, data, packages = {}, {}, set()
    todo = _files(f"zoo.{name.replace('/', '.')}", root) if "/" in name else [root / "stages" / f"{name}.py"]
    while todo:
        module = todo.pop()
        path = module.relative_to(root).as_posix()
        if path in modules:
            continue
        try:
            modules[path], imports, names = examine(module.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} is missing: restore it") from None
        except SyntaxError as error:
            raise InputError(f"{path}, line {error.lineno}: {error.msg}") from None
        for place in map(module.with_name, names):
            for file in filter(Path.is_file, (place, *place.rglob("*"))):
                data[file.relative_to(root).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
        for imported in imports:
            files = _files(imported, root)
            todo += files
            if not files:
                packages.add(imported.partition(".")[0])
    pins = (root / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", pins, re.MULTILINE))
    deciding = (DISTRIBUTIONS[name] for name in packages & DISTRIBUTIONS.keys())
    return {"modules": modules, "data": data, "packages": {name: pins[name] for name in deciding}}


def units(root=ROOT):
    """The names of all units: train, models/gan, data/mnist and so on. The script that writes the records is none."""
    stages = [path.stem for path in sorted((root / "stages").glob("[a-z]*.py")) if path.stem != "digest"]
    return stages + [
        f"{folder}/{path.stem}"
        for folder, definition in DEFINITIONS.items()
        for path in sorted((root / "src" / "zoo" / folder).glob("[a-z]*.py"))
        if re.search(rf"^(class|def) {definition}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def hold(name):
    """Check that the unit of this checkout is what DVC hashed, and remember it for `verify`.

    Raises InputError where code/<name>.json is missing, the code or a data file differs from it, or an installed
    package has another version than the pin.
    """
    for distribution, pinned in _as_hashed(name)["packages"].items():
        try:
            installed = importlib.metadata.version(distribution).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "is not"
        if installed != pinned:
            wrong = f"{distribution} {installed} installed, but constraints.txt pins {pinned}"
            raise InputError(f"{wrong}: run `make setup`")
    _held.add(name)


def module(name):
    """Import the module of a unit that params.yaml names, such as models/gan. A stage is held to its record first."""
    if _held:
        hold(name)
    return importlib.import_module(f"zoo.{name.replace('/', '.')}")


def verify():
    """Check again all that `hold` checked, before outputs are renamed into place.

    Raises InputError where a file was edited since and now computes something else. Does nothing outside of a stage.
    """
    for name in _held:
        _as_hashed(name)


def identity(names):
    """One sha256 over the records of several units: the saved state of a training is valid for equal code only."""
    records = {name: unit(name) for name in names}
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()


def _as_hashed(name):
    record, found = f"{FOLDER}/{name}.json", unit(name)
    try:
        hashed = json.loads((ROOT / record).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{record} is missing: {AGAIN}") from None
    except ValueError as error:
        raise InputError(f"{record} is damaged ({error}): delete it, and {AGAIN}") from None
    for kind, digests in found.items():
        if differing := dict(hashed.get(kind, {}).items() ^ digests.items()):
            raise InputError(f"{min(differing)} is not as {record} has it: {AGAIN}")
    if hashed != found:
        raise InputError(f"{record} has unknown keys: {AGAIN}")
    return found


@functools.cache  # by its text: many units share a module
def examine(source):
    """(digest, imports, data files) of a module's source. Raises SyntaxError.

    The digest is the sha256 of the syntax tree, without docstrings, comments, layout and positions. The imports are the
    full names of all that is imported, anywhere in it; `from zoo import files` gives zoo and zoo.files. The data files,
    or folders of them, are those that it names as `Path(__file__).with_name("...")`.
    """
    tree = ast.parse(source)
    imports, names = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "with_name":
            names += map(ast.literal_eval, node.args if ast.unparse(node.func.value) == "Path(__file__)" else [])
    return hashlib.sha256(_syntax(tree).encode()).hexdigest(), imports, names


def _syntax(node):
    """A syntax tree as text: types, fields that hold something and constants, without positions and docstrings.

    Equal on Python 3.11 to 3.13, whose trees differ in empty fields and empty text.
    """
    if isinstance(node, ast.AST):
        fields = dict(ast.iter_fields(node))
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            fields["body"] = node.body[1:]
        if isinstance(node, ast.JoinedStr):  # Python 3.12 puts empty text beside f"{x:{width}}"
            fields["values"] = [value for value in node.values if getattr(value, "value", None) != ""]
        kept = [f"{name}={_syntax(value)}" for name, value in fields.items() if value not in (None, [])]
        # A constant may be None, which is not the same as no value.
        if isinstance(node, ast.Constant):
            kept = [f"value={type(node.value).__name__} {node.value!r}"]
        return f"{type(node).__name__}({', '.join(kept)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_syntax, node))}]"
    return repr(node)


def _files(imported, root):
    """The project's files that an import executes: those of the packages above it, too; none for another package."""
    parts = imported.split(".")
    if parts[0] != "zoo":
        beside = root / "stages" / f"{imported}.py"
        return [beside] if beside.exists() else []
    bases = (root.joinpath("src", *parts[:length]) for length in range(1, len(parts) + 1))
    candidates = (path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py"))
    return [path for path in candidates if path.exists()]
