"""Blocks that two or more model files use, faithful to the TensorFlow 1 layers of the write-ups."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F


def chosen(table, word):
    """The entry of `table` that a word of params.yaml names. Raises ValueError with the words that there are."""
    if word not in table:
        raise ValueError(f"{word!r} is unknown: use one of {', '.join(table)}")
    return table[word]


def glorot(module):
    """Set every kernel below `module` as `tf.layers` does: Glorot uniform (Glorot & Bengio 2010, eq. 16), biases 0."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def dense_stack(sizes, activation=nn.ReLU, dropout=0.0):
    """Fully connected layers `sizes[0] -> ... -> sizes[-1]`, each followed by its activation and dropout."""
    layers = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)


def same_padding(size, kernel, stride):
    """(before, after): TensorFlow's SAME padding of one axis, so that the output has ceil(size / stride) places.

    The odd place goes after, unlike torch's symmetric padding.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution of square images [batch, maps, size, size] with SAME padding; `size` is the input's."""

    def __init__(self, maps_in, maps_out, kernel, stride, size, bias=True):
        super().__init__(maps_in, maps_out, kernel, stride, bias=bias)
        self.same = same_padding(size, kernel, stride) * 2
        if self.same[0] == self.same[1]:
            self.padding = (self.same[0], self.same[0])
            self.same = None

    def forward(self, image):
        return super().forward(image if self.same is None else F.pad(image, self.same))


class SameConvTranspose2d(nn.ConvTranspose2d):
    """The transpose of `SameConv2d(maps_out, maps_in, kernel, stride, size)`: its output is [.., size, size]."""

    def __init__(self, maps_in, maps_out, kernel, stride, size, bias=True):
        if kernel < stride:
            raise ValueError(f"kernel {kernel} is smaller than stride {stride}: places would stay empty")
        before, _ = same_padding(size, kernel, stride)
        super().__init__(maps_in, maps_out, kernel, stride, padding=before, bias=bias)
        self.size = size

    def forward(self, image):
        return super().forward(image)[..., : self.size, : self.size]


# A word of params.yaml: torch's module, the ONNX operator, its activations.
CELLS = {
    "lstm": (nn.LSTM, "LSTM", ["Sigmoid", "Tanh", "Tanh"]),
    "lstm_relu": (nn.LSTM, "LSTM", ["Sigmoid", "Relu", "Relu"]),
    "tanh": (nn.RNN, "RNN", ["Tanh"]),
    "relu": (nn.RNN, "RNN", ["Relu"]),
}


class Recurrent(nn.Module):
    """Stacked recurrent layers that export as real ONNX LSTM or RNN nodes, one a layer.

    `cell` is lstm (Hochreiter & Schmidhuber 1997; TensorFlow's BasicLSTMCell), lstm_relu (the same with ReLU in
    place of both tanh), tanh or relu (Elman's plain cell). Input [time, batch, units], states [layers, batch, units]:
    hidden, and for an LSTM cell. One bias a gate: torch's second stays zero and is not trained. `forget_bias`
    is where the forget gate's bias begins; a plain cell has no such gate.
    """

    def __init__(self, cell, layers, units, forget_bias, initial_range, dropout):
        super().__init__()
        kind, self.operator, self.activations = chosen(CELLS, cell)
        plain = {"nonlinearity": cell} if kind is nn.RNN else {}
        self.cells = kind(units, units, layers, dropout=dropout if layers > 1 else 0.0, **plain)
        self.has_cell_state = kind is nn.LSTM
        for name, weight in self.cells.named_parameters():
            if name.startswith("weight"):
                nn.init.uniform_(weight, -initial_range, initial_range)
            else:
                nn.init.zeros_(weight)
            if name.startswith("bias_hh"):
                weight.requires_grad_(False)
            elif name.startswith("bias_ih") and self.has_cell_state:
                weight.data[units : 2 * units] = forget_bias  # torch orders the gates i, f, g, o

    def forward(self, values, *state):
        """Outputs [time, batch, units] of the last layer, and the next state(s)."""
        if torch.compiler.is_exporting():
            return self._symbolic(values, *state)
        if self.activations[-1] == "Relu" and self.has_cell_state:
            return self._lstm_relu(values, *state)
        values, state = self.cells(values, state if self.has_cell_state else state[0])
        return values, *(state if self.has_cell_state else [state])

    def _lstm_relu(self, values, hidden, cell):
        """torch's LSTM has no other activation than tanh: gate by gate, then, word by word."""
        next_hidden, next_cell = [], []
        for layer in range(self.cells.num_layers):
            kernel, recurrent, bias, _ = self._weights(layer)
            h, c, outputs = hidden[layer], cell[layer], []
            for part in F.linear(values, kernel, bias):
                i, f, g, o = (part + F.linear(h, recurrent)).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.relu()
                h = o.sigmoid() * c.relu()
                outputs.append(h)
            values = torch.stack(outputs)
            if layer < self.cells.num_layers - 1:
                values = F.dropout(values, self.cells.dropout, self.training)
            next_hidden.append(h)
            next_cell.append(c)
        return values, torch.stack(next_hidden), torch.stack(next_cell)

    def _symbolic(self, values, *state):
        """One ONNX node a layer: torch's own translation unrolls time."""
        units = self.cells.hidden_size
        time, batch, _ = values.shape
        next_states = [[] for _ in state]
        for layer in range(self.cells.num_layers):
            weights = self._weights(layer)
            if self.has_cell_state:
                weights = [_onnx_gates(weight, units) for weight in weights]
            kernel, recurrent, bias, second_bias = weights
            values, *ends = torch.onnx.ops.symbolic_multi_out(
                self.operator,
                [values, kernel[None], recurrent[None], torch.cat([bias, second_bias])[None], None,
                 *(value[layer : layer + 1] for value in state)],
                {"hidden_size": units, "activations": self.activations},
                dtypes=[values.dtype] * (1 + len(state)),
                shapes=[[time, 1, batch, units], *([1, batch, units] for _ in state)],
            )  # fmt: skip
            values = values.squeeze(1)
            for ending, end in zip(next_states, ends, strict=True):
                ending.append(end)
        return values, *(torch.cat(ending) for ending in next_states)

    def _weights(self, layer):
        """(kernel, recurrent kernel, bias, torch's second bias) of one layer."""
        return [getattr(self.cells, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _onnx_gates(weight, units):
    """Reorder the gates of torch (i, f, g, o) as ONNX has them (i, o, f, c)."""
    i, f, g, o = (weight[gate * units : (gate + 1) * units] for gate in range(4))
    return torch.cat([i, o, f, g])
