"""What a record says of a graph, counted by hand."""

import hashlib

import numpy
import onnx
import pytest
from onnx import numpy_helper

from zoo.graphs import identity

TEXT = """<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>
looping (float[batch,time,3] image) => (float[last,batch,time,3] sums) {{
    zero = Constant <value = float {{0.0}}> ()
    shifted = Add(image, shift)
    scaled = com.microsoft.Gelu(shifted)
    unused, sums = Scan <num_scan_inputs = 1, body = body (float before, float[batch,time,3] part)
        => (float after, float[batch,time,3] sum) {{
            after = Identity(before)
            product = Mul(part, {inner})
            sum = Add(product, before)
        }}> (zero, scaled)
}}"""


def model(values=0.0):
    graph = onnx.parser.parse_model(TEXT.format(inner="shift"))
    shift = numpy_helper.from_array(numpy.full((2, 3), values, numpy.float32), "shift")
    count = numpy_helper.from_array(numpy.arange(5), "count")
    graph.graph.initializer.extend([shift, count])
    scan = next(node for node in graph.graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    body.initializer.append(numpy_helper.from_array(numpy.ones((7,), numpy.float32), "inside"))
    return graph


def test_operators_and_parameters_are_counted_inside_loops_too():
    content = model().SerializeToString()
    found = identity.describe(content)
    assert found.operators == {"Add": 2, "Constant": 1, "Identity": 1, "Mul": 1, "Scan": 1, "com.microsoft.Gelu": 1}
    assert found.parameters == {"float": 2 * 3 + 7, "int64": 5}
    assert found.opset == "20, com.microsoft 1"
    assert (found.bytes, found.graph_sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_values_of_weights_are_no_part_of_the_structure():
    one, other = (identity.describe(model(values).SerializeToString()) for values in (0.0, 1.0))
    assert one.structure_sha256 == other.structure_sha256
    assert one.graph_sha256 != other.graph_sha256


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match=r"."):
        identity.describe(b"no model")
