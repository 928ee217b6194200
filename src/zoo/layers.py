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


class LSTM(nn.Module):
    """Stacked LSTM (Hochreiter & Schmidhuber 1997; TensorFlow's BasicLSTMCell) that exports as real ONNX LSTM nodes.

    Input [time, batch, units], states [layers, batch, units]. One bias a gate: torch's second stays zero and
    is not trained. `forget_bias` is where the forget gate's bias begins.
    """

    def __init__(self, layers, units, forget_bias, initial_range, dropout):
        super().__init__()
        self.cells = nn.LSTM(units, units, layers, dropout=dropout)
        for name, weight in self.cells.named_parameters():
            if name.startswith("weight"):
                nn.init.uniform_(weight, -initial_range, initial_range)
            else:
                nn.init.zeros_(weight)
            if name.startswith("bias_hh"):
                weight.requires_grad_(False)
            elif name.startswith("bias_ih"):
                weight.data[units : 2 * units] = forget_bias  # torch orders the gates i, f, g, o

    def forward(self, values, hidden, cell):
        """Outputs [time, batch, units] of the last layer, and the next hidden and cell states."""
        if torch.compiler.is_exporting():
            return self._symbolic(values, hidden, cell)
        values, (hidden, cell) = self.cells(values, (hidden, cell))
        return values, hidden, cell

    def _symbolic(self, values, hidden, cell):
        """One ONNX LSTM node a layer: torch's own translation unrolls time."""
        units = self.cells.hidden_size
        time, batch, _ = values.shape
        next_hidden, next_cell = [], []
        for layer in range(self.cells.num_layers):
            weights = [
                getattr(self.cells, f"{kind}_l{layer}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            kernel, recurrent, bias, second_bias = [_onnx_gates(weight, units) for weight in weights]
            outputs = torch.onnx.ops.symbolic_multi_out(
                "LSTM",
                [values, kernel[None], recurrent[None], torch.cat([bias, second_bias])[None], None,
                 hidden[layer : layer + 1], cell[layer : layer + 1]],
                {"hidden_size": units},
                dtypes=[values.dtype] * 3,
                shapes=[[time, 1, batch, units], [1, batch, units], [1, batch, units]],
            )  # fmt: skip
            values = outputs[0].squeeze(1)
            next_hidden.append(outputs[1])
            next_cell.append(outputs[2])
        return values, torch.cat(next_hidden), torch.cat(next_cell)


def _onnx_gates(weight, units):
    """Reorder the gates of torch (i, f, g, o) as ONNX has them (i, o, f, c)."""
    i, f, g, o = (weight[gate * units : (gate + 1) * units] for gate in range(4))
    return torch.cat([i, o, f, g])
