"""Signatures of networks, data sources and optimisers, read from their source text without importing them."""

import ast
import importlib.util
from pathlib import Path

from zoo import code
from zoo.errors import InputError
from zoo.graphs.verbs import VERBS

SOURCES = code.ROOT / "src" / "zoo"


class Network:
    """The class Network of a model file. Raises InputError if the file is not valid Python or has no such class."""

    def __init__(self, file):
        tree, layers = (_tree(SOURCES / "models" / f"{name}.py") for name in (file, "layers"))
        self.methods = _methods(tree, "Network")  # name: ast.FunctionDef
        if self.methods is None:
            raise InputError(f"{file}.py has no class Network: add one")
        constructor, losses = self.methods.get("__init__"), self.methods.get("losses")
        self.keys = _arguments(constructor, after=2)
        self.options = _options(layers) | _options(tree)  # key: its allowed values
        # The facts of the data set that its constructor reads.
        self.needs = {node.attr for node in _nodes(constructor, ast.Attribute) if ast.unparse(node.value) == "data"}
        self.attributes = dict(_assigned(constructor))  # name: ast.expr, as the constructor assigns it
        # The players whose losses it yields, None if not literal; and whether it always yields all of them.
        players = [node.value.elts[0] for node in _nodes(losses, ast.Yield)]
        written_out = all(isinstance(player, ast.Constant) for player in players)
        self.losses = [player.value for player in players] if written_out else None
        self.always = not any(any(_nodes(node, (ast.Yield, ast.Return))) for node in _nodes(losses, ast.If))
        # The number of tensors in a batch, or None if unknown.
        unpacked = [node.targets[0] for node in _nodes(losses, ast.Assign) if ast.unparse(node.value) == "batch"]
        self.batch = len(unpacked[0].elts) if unpacked and isinstance(unpacked[0], ast.Tuple) else None

    @property
    def parts(self):
        """The names of possible submodules: attributes that are assigned from a call."""
        calls = {name: ast.unparse(node.func) for name, node in self.attributes.items() if isinstance(node, ast.Call)}
        return [name for name, function in calls.items() if function != "chosen"]

    def verbs(self, net):
        """Return the verbs that it defines and, with the arguments `net`, trains; equals `zoo.graphs.verbs.of`."""
        untrained = self._value("untrained", net) or ()
        return [verb for verb in VERBS if verb in self.methods and verb not in untrained]

    def takes_label(self, verb, net):
        """Return True if the graph of a verb takes the label; agrees with `zoo.graphs.verbs.inputs`."""
        arguments = self.methods[verb].args
        names = [argument.arg for argument in arguments.args]
        optional = names[len(names) - len(arguments.defaults) :]
        return "label" in names and ("label" not in optional or "label" in (self._value("takes", net) or ()))

    def _value(self, name, net):
        node = self.attributes.get(name)
        while isinstance(node, ast.IfExp) and isinstance(node.test, ast.Name):
            node = node.body if net.get(node.test.id) else node.orelse
        return ast.literal_eval(node) if isinstance(node, (ast.Tuple, ast.Constant)) else None


def source(name):
    """Return (arguments of a data source's `load`, constants in its module, which include the names of its facts)."""
    tree = _tree(SOURCES / "data" / f"{name}.py")
    (load,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "load"]
    return _arguments(load), {node.value for node in _nodes(tree, ast.Constant)}


def optimiser(algorithm):
    """Return the names of the options of an optimiser in torch.optim."""
    torch = Path(importlib.util.find_spec("torch").origin).parent
    return _arguments(_methods(_tree(torch / "optim" / f"{algorithm.lower()}.py"), algorithm)["__init__"], after=2)


def _tree(path):
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise InputError(f"{path.name}, line {error.lineno}: {error.msg}") from None


def _nodes(tree, kind):
    return (node for node in (ast.walk(tree) if tree else ()) if isinstance(node, kind))


def _methods(tree, name):
    """Return {name: definition} of the methods of a class, or None if there is no such class."""
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    return {part.name: part for part in bodies[0] if isinstance(part, ast.FunctionDef)} if bodies else None


def _arguments(function, after=0):
    arguments = function.args.args[after:] + function.args.kwonlyargs if function else []
    return {argument.arg for argument in arguments}


def _assigned(constructor):
    """Yield (name, value) for every `self.name = value`, tuple assignments included."""
    for node in _nodes(constructor, ast.Assign):
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
            yield from ((one.attr, value) for one, value in pairs if isinstance(one, ast.Attribute))


def _options(tree):
    """Return {key: allowed values} for every call `chosen(table, key)` whose table is in the same file."""
    tables = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    calls = [node.args for node in _nodes(tree, ast.Call) if ast.unparse(node.func) == "chosen"]
    found = [(key, tables.get(ast.unparse(table), table)) for table, key in calls if isinstance(key, ast.Name)]
    return {key.id: [word.value for word in table.keys] for key, table in found if isinstance(table, ast.Dict)}
