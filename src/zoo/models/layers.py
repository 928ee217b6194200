"""Blocks shared by model files, equivalent to the TensorFlow 1 layers of the write-ups."""

import itertools

import torch
from torch import nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F


def chosen(table, word):
    """Return the entry of `table` for an option of params.yaml. Raises ValueError, which lists the known options."""
    if word not in table:
        raise ValueError(f"{word!r} is unknown: use one of {', '.join(table)}")
    return table[word]


def glorot(module):
    """Initialise all layers in `module` like `tf.layers`: Glorot uniform (Glorot & Bengio 2010, eq. 16), biases 0."""
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
    """(before, after): TensorFlow's SAME padding of one axis, so that the output has size ceil(size / stride).

    An odd total is padded more after than before, unlike torch's symmetric padding.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution of square images [batch, maps, size, size] with SAME padding; `size` is the input size."""

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
            raise ValueError(f"kernel {kernel} is smaller than stride {stride}: pixels would stay empty")
        before, _ = same_padding(size, kernel, stride)
        super().__init__(maps_in, maps_out, kernel, stride, padding=before, bias=bias)
        self.size = size

    def forward(self, image):
        return super().forward(image)[..., : self.size, : self.size]


def one_hot(label, classes):
    """Convert labels int64 [batch] to bool [batch, classes]. Unlike `F.one_hot`, this copies no label to the host."""
    return label[:, None] == torch.arange(classes, device=label.device)


def repeat(maps):
    """Repeat each value as a 2x2 block: [batch, maps, height, width] to [batch, maps, 2 * height, 2 * width]."""
    return F.interpolate(maps, scale_factor=2, mode="nearest")


def max_unpool(maps, indices):
    """`F.max_unpool2d` for 2x2 blocks: each value goes where the maximum was, `indices` of `F.max_pool2d`.

    A scatter is avoided: in a graph it needs the shape of its result, which ONNX Runtime computes on the CPU.
    """
    height, width = 2 * maps.shape[2], 2 * maps.shape[3]
    # Every device can resize floats, and they are exact up to 2^24.
    here = torch.arange(height * width, dtype=torch.float32, device=maps.device).view(height, width)
    return torch.where(repeat(indices.float()) == here, repeat(maps), 0)


CELLS = {"lstm": nn.LSTM, "lstm_relu": nn.LSTM, "tanh": nn.RNN, "relu": nn.RNN}


class Recurrent(nn.Module):
    """Stacked recurrent layers, each a torch module, with dropout between them in training.

    `cell` is lstm (Hochreiter & Schmidhuber 1997; TensorFlow's BasicLSTMCell), lstm_relu (the same with ReLU in
    place of both tanh), tanh or relu (Elman's plain cell). The input is [time, batch, units]. The states are [batch,
    layers, units]: hidden and, for an LSTM, cell. Each gate has one bias; torch's second stays zero and is not trained.
    `forget_bias` is the initial bias of the forget gate, which plain cells do not have.

    A layer is exported as one ONNX LSTM or RNN node or, with ReLU, as a Scan over time: ONNX Runtime's CUDA kernels
    have no recurrent nodes with ReLU. Dropout is applied here and not by torch's stacked layers, because cuDNN draws it
    from a random state that snapshots cannot save.
    """

    def __init__(self, cell, layers, units, forget_bias, initial_range, dropout):
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers = {layers} should be greater than zero")
        kind = chosen(CELLS, cell)
        self.rectified, self.has_cell_state = cell in ("relu", "lstm_relu"), kind is nn.LSTM
        plain = {} if self.has_cell_state else {"nonlinearity": cell}
        self.cells = nn.ModuleList(kind(units, units, **plain) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        for name, weight in self.cells.named_parameters():
            if "weight" in name:
                nn.init.uniform_(weight, -initial_range, initial_range)
            else:
                nn.init.zeros_(weight)
            if "bias_hh" in name:
                weight.requires_grad_(False)
            elif "bias_ih" in name and self.has_cell_state:
                weight.data[units : 2 * units] = forget_bias  # torch orders the gates i, f, g, o

    def forward(self, values, *state):
        """Outputs [time, batch, units] of the last layer, and the next state(s)."""
        exporting = torch.compiler.is_exporting()
        if self.rectified and (exporting or self.has_cell_state):
            run = _scanned if exporting else _word_by_word
        else:
            run = _as_node if exporting else _by_torch
        by_layer = [value.transpose(0, 1).contiguous().split(1) for value in state]
        next_by_layer = []
        for cell, *state in zip(self.cells, *by_layer, strict=True):
            values, *state = run(cell, self.dropout(values) if next_by_layer else values, *state)
            next_by_layer.append(state)
        return values, *(torch.cat(states).transpose(0, 1) for states in zip(*next_by_layer, strict=True))


# Each function runs one layer: values, state(s) -> outputs [time, batch, units], next state(s) [1, batch, units].


def _by_torch(cell, values, *state):
    if isinstance(cell, nn.LSTM):
        values, state = cell(values, state)
        return values, *state
    return cell(values, *state)


def _as_node(cell, values, *state):
    """Run the layer as one ONNX node; torch's exporter would unroll it over time."""
    weights, units = cell.parameters(), cell.hidden_size
    if isinstance(cell, nn.LSTM):  # torch orders the gates i, f, g, o, ONNX i, o, f, c
        weights = [torch.cat([one[gate * units : (gate + 1) * units] for gate in (0, 3, 1, 2)]) for one in weights]
    kernel, recurrent, bias, second_bias = weights
    values, *ends = torch.onnx.ops.symbolic_multi_out(
        type(cell).__name__,
        [values, kernel[None], recurrent[None], torch.cat([bias, second_bias])[None], None, *state],
        {"hidden_size": units},
        dtypes=[values.dtype] * (1 + len(state)),
        shapes=[[values.shape[0], 1, *state[0].shape[1:]], *(value.shape for value in state)],
    )
    return values.squeeze(1), *ends


def _rectified(part, recurrent, hidden, cell=None):
    """Return the next state(s) [batch, units]. `part` is the word's input to the gates, `recurrent` [units, gates]."""
    gates = torch.addmm(part, hidden, recurrent)
    if cell is None:
        return (gates.relu(),)
    i, f, g, o = gates.chunk(4, 1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.relu()
    return o.sigmoid() * cell.relu(), cell


def _word_by_word(cell, values, *state):
    """Run an LSTM with ReLU word by word: torch's LSTM supports only tanh."""
    kernel, recurrent, bias, _ = cell.parameters()
    outputs, state = [], [value.squeeze(0) for value in state]
    for part in F.linear(values, kernel, bias):
        state = _rectified(part, recurrent.t(), *state)
        outputs.append(state[0])
    return torch.stack(outputs), *(value[None] for value in state)


def _scanned(cell, values, *state):
    kernel, recurrent, bias, _ = cell.parameters()

    def advance(state, part):
        state = _rectified(part, recurrent.t(), *state)
        return state, state[0].clone()  # scan allows no output to alias a state

    state, values = scan(advance, tuple(value.squeeze(0) for value in state), F.linear(values, kernel, bias))
    return values, *(value[None] for value in state)
