"""reports/<profile>/parity/<experiment>.json: the graphs that were exported, and how near each is to its network."""

from zoo import records
from zoo.records import Identity, OfExperiment, Record

IDENTITY = set(Identity.model_fields)


class Graph(Identity):
    """What a graph is, its weights aside: bytes of the file, operators by name, elements of initialisers by type.

    `inputs` and `outputs` are texts such as `image float[batch, 1, 28, 28]`.
    """

    bytes: int
    opset: str
    operators: dict[str, int]
    parameters: dict[str, int]
    inputs: list[str]
    outputs: list[str]


class Check(Record):
    """ONNX Runtime beside torch over `calls` batches: the largest absolute difference, and the bound that it kept.

    `finite` is False where an output was not finite, which a diverged run's may be. `undecided` is the largest share of
    outputs that a near-tie between floats decided, and that were left out.
    """

    largest_difference: float | None
    bound: float
    calls: int
    finite: bool
    undecided: float = 0.0


class Export(Record):
    """A graph and its check."""

    graph: Graph
    check: Check


class Exports(OfExperiment):
    """{verb: {seed: Export}} of an experiment."""

    graphs: dict[str, dict[str, Export]]

    @property
    def seeds(self):
        """All seeds, in order; the first stands for an experiment where one graph does."""
        return sorted({seed for of_verb in self.graphs.values() for seed in of_verb}, key=int)

    def first(self, verb):
        """The `Graph` of the first seed that has a verb, or None."""
        return next((self.graphs[verb][seed].graph for seed in self.seeds if seed in self.graphs.get(verb, {})), None)

    def identities(self, seed):
        """{verb: Identity} of the graphs of one seed."""
        graphs = {verb: of_verb[seed].graph for verb, of_verb in self.graphs.items() if seed in of_verb}
        return {verb: Identity(**graph.model_dump(include=IDENTITY)) for verb, graph in graphs.items()}


folder, path, read, write = records.files_of(Exports, "parity")
