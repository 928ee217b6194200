"""Digests of the code that each stage runs, and the check that the running code is the code that DVC hashed.

A *unit* is a stage script, a model file or a data source. Its record, code/<unit>.json, lists the modules that the unit
imports, directly or indirectly, each with a digest that ignores comments, docstrings and layout; the data files that
those modules name as `Path(__file__).with_name(...)`; and the pinned versions of the packages that affect results. DVC
tracks these records, so a stage runs again if it would compute something else, and only then.

This module uses only the standard library: a stage imports it before anything else of zoo.
"""

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import re
from pathlib import Path

from zoo.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "code"
# Packages that affect results: {import name: distribution that constraints.txt pins}.
DISTRIBUTIONS = {name: name for name in ("numpy", "onnx", "onnxscript", "openvino", "scipy", "torch")}
DISTRIBUTIONS |= {"onnxruntime": "onnxruntime-gpu", "sklearn": "scikit-learn"}
# {folder: name that makes a module a unit}. params.yaml refers to these modules, so no import statement shows them.
DEFINITIONS = {"models": "Network", "data": "load"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
AGAIN = "run `dvc repro` again, which begins with the stage `code`"
_checked_units = set()  # the units that matched their records


def unit(name, root=ROOT):
    """Return the record {"modules": {path: digest}, "data": {path: sha256}, "packages": {distribution: version}}.

    Raises InputError if a file is missing or not valid Python.
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
    """Return the names of all units (train, models/gan, data/mnist, ...) except digest, which writes the records."""
    stages = [path.stem for path in sorted((root / "stages").glob("[a-z]*.py")) if path.stem != "digest"]
    return stages + [
        f"{folder}/{path.stem}"
        for folder, definition in DEFINITIONS.items()
        for path in sorted((root / "src" / "zoo" / folder).glob("[a-z]*.py"))
        if re.search(rf"^(class|def) {definition}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def check_unit(name):
    """Check that the unit in this checkout is the one that DVC hashed, and remember it for `verify`.

    Raises InputError if code/<name>.json is missing, if the code or a data file differs from it, or if an installed
    package does not have the pinned version.
    """
    for distribution, pinned in _as_hashed(name)["packages"].items():
        try:
            installed = importlib.metadata.version(distribution).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "is not"
        if installed != pinned:
            wrong = f"{distribution} {installed} installed, but constraints.txt pins {pinned}"
            raise InputError(f"{wrong}: run `make setup`")
    _checked_units.add(name)


def module(name):
    """Import the module of a unit that params.yaml names, such as models/gan; in a stage, check it first."""
    if _checked_units:
        check_unit(name)
    return importlib.import_module(f"zoo.{name.replace('/', '.')}")


def verify():
    """Repeat the checks of `check_unit` before outputs are renamed into place.

    Raises InputError if a file has since been edited and now computes something else. Does nothing outside a stage.
    """
    for name in _checked_units:
        _as_hashed(name)


def identity(names):
    """Return one sha256 over the records of several units: a saved training state is valid only for equal code."""
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
            raise InputError(f"{min(differing)} differs from {record}: {AGAIN}")
    if hashed != found:
        raise InputError(f"{record} has unknown keys: {AGAIN}")
    return found


@functools.cache  # keyed by source text: many units share a module
def examine(source):
    """Return (digest, imports, data files) of a module's source. Raises SyntaxError.

    The digest is the sha256 of the syntax tree without docstrings, comments, layout and positions. The imports are the
    full names of everything imported anywhere in it; `from zoo import files` gives zoo and zoo.files. The data files,
    or folders of them, are those named as `Path(__file__).with_name("...")`.
    """
    imports, names = [], []
    syntax = _syntax(ast.parse(source), imports, names)
    return hashlib.sha256(syntax.encode()).hexdigest(), imports, names


def _syntax(node, imports, names):
    """Return a syntax tree as text: node types, non-empty fields and constants, without positions and docstrings.

    The text is the same on Python 3.11 to 3.13, whose trees differ in empty fields and strings. Imports and the names
    of data files are appended to `imports` and `names`. Every stage starts with this, so it is written to be fast.
    """
    if isinstance(node, list):
        return f"[{', '.join([_syntax(item, imports, names) for item in node])}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    kind, kept = type(node), []
    if kind is ast.Constant:  # a constant None differs from a field without a value
        return f"Constant(value={type(node.value).__name__} {node.value!r})"
    if kind is ast.Import:
        imports += [alias.name for alias in node.names]
    elif kind is ast.ImportFrom and not node.level:
        imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    elif kind is ast.Call and getattr(node.func, "attr", None) == "with_name":
        names += map(ast.literal_eval, node.args if ast.unparse(node.func.value) == "Path(__file__)" else [])
    for name in kind._fields:
        value = getattr(node, name, None)
        if name == "body" and kind in DOCUMENTED and ast.get_docstring(node, clean=False) is not None:
            value = value[1:]
        elif name == "values" and kind is ast.JoinedStr:  # Python 3.12 adds empty strings in f"{x:{width}}"
            value = [part for part in value if getattr(part, "value", None) != ""]
        if value is not None and value != []:
            kept.append(f"{name}={_syntax(value, imports, names)}")
    return f"{kind.__name__}({', '.join(kept)})"


def _files(imported, root):
    """Return the project's files that an import executes, parent packages included; none for other packages."""
    parts = imported.split(".")
    if parts[0] != "zoo":
        beside = root / "stages" / f"{imported}.py"
        return [beside] if beside.exists() else []
    bases = [f"{root}/src/{'/'.join(parts[:length])}" for length in range(1, len(parts) + 1)]
    candidates = (path for base in bases for path in (f"{base}.py", f"{base}/__init__.py"))
    return [Path(path) for path in candidates if os.path.exists(path)]  # each stage checks thousands: strings are cheap
