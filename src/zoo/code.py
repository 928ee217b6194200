"""What each stage computes, as digests of its code; and the check that the code that runs is the code that was hashed.

A *unit* is a stage script, a model file or a data source. Its record, code/<unit>.json, lists the modules that the file
imports, directly or through others, each with a digest that comments, docstrings and layout leave alone; the data files
that those modules name as `Path(__file__).with_name(...)`; and the pinned versions of the packages that decide numbers.
DVC compares these records, so that a stage runs again when it computes something else, and only then.

This module needs the standard library alone: a stage imports it before anything else of zoo.
"""

import ast
import hashlib
import importlib.metadata
import json
import re
from pathlib import Path

from zoo.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "code"
# Packages that decide numbers, by the name under which they are imported: the distribution that constraints.txt pins.
DISTRIBUTIONS = {
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime-gpu",
    "onnxscript": "onnxscript",
    "openvino": "openvino",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
}
# What makes a module of these folders a unit: it is found by the name that params.yaml gives, where no import shows.
DEFINITIONS = {"models": "Network", "data": "load"}
AGAIN = "run `dvc repro` again, which begins with the stage `code`"
_held = {}  # unit: {path: (modification time in ns, size)}, what this process was found to run


def digest(source):
    """The sha256 of a module's syntax tree, without docstrings, comments, layout and positions.

    Equal on Python 3.11 to 3.13, whose `ast.dump` differ: empty fields are left out.
    """
    return hashlib.sha256(_syntax(ast.parse(source)).encode()).hexdigest()


def unit(path, root=ROOT):
    """The record of the unit whose file is `path`: {"modules": {path: digest}, "data": {...}, "packages": {...}}."""
    modules, data, packages, todo = {}, {}, set(), [Path(path)]
    while todo:
        module = todo.pop()
        name = module.relative_to(root).as_posix()
        if name in modules:
            continue
        source = module.read_text(encoding="utf-8")
        tree = _parsed(name, source)
        modules[name] = hashlib.sha256(_syntax(tree).encode()).hexdigest()
        for file in _data_files(tree, module):
            data[file.relative_to(root).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
        for imported in _imported(tree):
            files = list(_files(imported, root))
            todo += files
            if not files:
                packages.add(imported.partition(".")[0])
    pins = _pins(root)
    return {
        "modules": dict(sorted(modules.items())),
        "data": dict(sorted(data.items())),
        "packages": {DISTRIBUTIONS[name]: pins[DISTRIBUTIONS[name]] for name in sorted(packages & set(DISTRIBUTIONS))},
    }


def units(root=ROOT):
    """{unit: its file}: train, models/gan, data/mnist and so on."""
    stages = {path.stem: path for path in sorted((root / "stages").glob("[a-z]*.py"))}
    return stages | {
        f"{folder}/{path.stem}": path
        for folder, definition in DEFINITIONS.items()
        for path in sorted((root / "src" / "zoo" / folder).glob("[a-z]*.py"))
        if _defines(path, definition)
    }


def hold(name, root=ROOT):
    """Check that the unit of this checkout is what DVC hashed, and keep it in mind for `verify`.

    Raises InputError where code/<name>.json is missing, the code or a data file differs from it, or an installed
    package has another version than the pin.
    """
    record, found = _record(name, root), unit(units(root)[name], root)
    _compare(name, record, found)
    for distribution, pinned in found["packages"].items():
        installed = _installed(distribution)
        if installed != pinned:
            raise InputError(
                f"{distribution} {installed or 'is not'} installed, but constraints.txt pins {pinned}: run `make setup`"
            )
    _held[name, root] = {path: _version(root / path) for kind in ("modules", "data") for path in found[kind]}


def verify():
    """Check again all that `hold` checked, before outputs are renamed into place.

    Raises InputError where a file was edited since and now computes something else. Does nothing outside of a stage.
    """
    for (name, root), versions in _held.items():
        if any(_version(root / path) != version for path, version in versions.items()):
            _compare(name, _record(name, root), unit(units(root)[name], root))


def is_held():
    """True in a stage whose code was checked."""
    return bool(_held)


def identity(names, root=ROOT):
    """One sha256 over the records of several units: what a kept state of a training has to agree with."""
    records = {name: unit(units(root)[name], root) for name in names}
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()


def _record(name, root):
    path = root / FOLDER / f"{name}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{FOLDER}/{name}.json is missing: {AGAIN}") from None
    except ValueError as error:
        raise InputError(f"{FOLDER}/{name}.json is damaged ({error}): delete it, and {AGAIN}") from None


def _compare(name, record, found):
    if record == found:
        return
    for kind in ("modules", "data", "packages"):
        before, now = record.get(kind, {}), found[kind]
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                raise InputError(f"{key} is not what {FOLDER}/{name}.json says DVC hashed: {AGAIN}")
    raise InputError(f"{FOLDER}/{name}.json has unknown keys: {AGAIN}")


def _version(path):
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def _installed(distribution):
    try:
        return importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _pins(root):
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))


def _parsed(name, source):
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise InputError(f"{name}, line {error.lineno}: {error.msg}") from None


def _syntax(node):
    """A syntax tree as text: type, fields that hold something, and constants; no positions, no docstrings."""
    if isinstance(node, ast.AST):
        fields = dict(ast.iter_fields(node))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and _documented(node):
            fields["body"] = node.body[1:]
        kept = [f"{name}={_syntax(value)}" for name, value in fields.items() if value not in (None, [])]
        # A constant may be None, which is not the same as no value.
        if isinstance(node, ast.Constant):
            kept = [f"value={type(node.value).__name__} {node.value!r}"]
        return f"{type(node).__name__}({', '.join(kept)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_syntax, node))}]"
    return repr(node)


def _documented(node):
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _imported(tree):
    """Full names of all that a module imports, anywhere in it; `from zoo import files` gives zoo and zoo.files."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(imported, root):
    """The project's files that an import executes: those of the packages above it, too; none for another package."""
    parts = imported.split(".")
    if parts[0] != "zoo":
        beside = root / "stages" / f"{imported}.py"
        return [beside] if beside.exists() else []
    bases = (root.joinpath("src", *parts[:length]) for length in range(1, len(parts) + 1))
    candidates = (path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py"))
    return [path for path in candidates if path.exists()]


def _data_files(tree, module):
    """The files that a module names as `Path(__file__).with_name("...")`; of a folder all that are in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path(__file__).with_name":
            path = module.with_name(ast.literal_eval(node.args[0]))
            yield from sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _defines(path, name):
    """True where the module at `path` defines a class or a function of that name."""
    body = _parsed(path.name, path.read_text(encoding="utf-8")).body
    return any(isinstance(part, (ast.ClassDef, ast.FunctionDef)) and part.name == name for part in body)
