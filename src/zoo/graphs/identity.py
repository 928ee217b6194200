"""Identity and contents of ONNX graphs. Scores belong to a graph, latencies to a structure."""

import hashlib
import math
from collections import Counter

import onnx
from google.protobuf.message import DecodeError

from zoo.errors import InputError
from zoo.records.parity import Graph

# Initialisers of these types are weights; others are shapes and indices, which are part of the structure.
WEIGHTS = {
    onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE,
    onnx.TensorProto.INT8, onnx.TensorProto.UINT8,
}  # fmt: skip


def describe(content):
    """The `Graph` record of an ONNX file's bytes. Raises ValueError if they are not a model."""
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    operators, parameters = Counter(), Counter()
    for graph in nested(model.graph):
        operators.update(".".join(filter(None, (node.domain, node.op_type))) for node in graph.node)
        for tensor in graph.initializer:
            parameters[_type(tensor.data_type)] += math.prod(tensor.dims)
    return Graph(
        graph_sha256=hashlib.sha256(content).hexdigest(),
        structure_sha256=structure_sha256(model),
        bytes=len(content),
        opset=", ".join(f"{one.domain} {one.version}".strip() for one in model.opset_import),
        operators=dict(sorted(operators.items())),
        parameters=dict(sorted(parameters.items())),
        inputs=[_value(value) for value in model.graph.input],
        outputs=[_value(value) for value in model.graph.output],
    )


def nested(graph):
    """Yield an onnx.GraphProto and the subgraphs of its nodes, such as the body of a Scan."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nested(attribute.g)


def structure_sha256(model):
    """The sha256 of an onnx.ModelProto without metadata, node names and weight values."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    bare.producer_name = bare.producer_version = bare.doc_string = ""
    del bare.metadata_props[:]
    for graph in nested(bare.graph):
        graph.doc_string = graph.name = ""
        del graph.metadata_props[:], graph.value_info[:]
        for part in (*graph.node, *graph.input, *graph.output, *bare.functions):
            part.doc_string = ""
            del part.metadata_props[:]
        for node in graph.node:
            node.name = ""
        for tensor in graph.initializer:
            if tensor.data_type in WEIGHTS:
                shape = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                tensor.CopyFrom(shape)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def of_file(path):
    """The `Graph` record of the file at `path`. Raises InputError if it is missing or not a model."""
    try:
        return describe(_content(path))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): delete it and run `dvc repro` again") from None


def check(path, graph_sha256, record):
    """Raise InputError if the file at `path` is missing or is not the graph that the file `record` names."""
    if hashlib.sha256(_content(path)).hexdigest() != graph_sha256:
        raise InputError(f"{path} is not the graph that {record} names: run `dvc repro`, which makes it again")


def _content(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it") from None


def _value(value):
    tensor = value.type.tensor_type
    axes = (axis.dim_param or str(axis.dim_value) if axis.WhichOneof("value") else "?" for axis in tensor.shape.dim)
    return f"{value.name} {_type(tensor.elem_type)}[{', '.join(axes)}]"


def _type(number):
    return onnx.TensorProto.DataType.Name(number).lower()
