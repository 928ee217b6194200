"""reports/<profile>/parity/<experiment>.json: the exported graphs, and how closely each matches its network."""

from zoo import records
from zoo.records import Identity, OfExperiment, Record

IDENTITY = set(Identity.model_fields)


class Graph(Identity):
    """A graph without its weights: bytes of the file, operators by name, elements of initialisers by type.

    `inputs` and `outputs` are strings such as `image float[batch, 1, 28, 28]`.
    """

    bytes: int
    opset: str
    operators: dict[str, int]
    parameters: dict[str, int]
    inputs: list[str]
    outputs: list[str]


class Check(Record):
    """ONNX Runtime compared with torch over `calls` batches: the largest absolute difference, and its `bound`.

    `finite` is False if an output was not finite, which is allowed for a diverged run. `undecided` is the largest share
    of outputs that were left out because a near-tie between floats decides them.
    """

    largest_difference: float | None
    bound: float
    calls: int
    finite: bool
    undecided: float = 0.0


class Export(Record):
    """A graph and its parity check."""

    graph: Graph
    check: Check


class Exports(OfExperiment):
    """{verb: {seed: Export}} of an experiment."""

    graphs: dict[str, dict[str, Export]]

    @property
    def seeds(self):
        """All seeds in ascending order; the first represents the experiment where one graph is enough."""
        return sorted({seed for of_verb in self.graphs.values() for seed in of_verb}, key=int)

    def first(self, verb):
        """Return the `Graph` of the first seed that has `verb`, or None."""
        return next((self.graphs[verb][seed].graph for seed in self.seeds if seed in self.graphs.get(verb, {})), None)

    def identities(self, seed):
        """Return {verb: Identity} of the graphs of one seed."""
        graphs = {verb: of_verb[seed].graph for verb, of_verb in self.graphs.items() if seed in of_verb}
        return {verb: Identity(**graph.model_dump(include=IDENTITY)) for verb, graph in graphs.items()}


folder, path, read, write = records.files_of(Exports, "parity")
