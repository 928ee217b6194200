"""Nineteen convolutions and a dense layer, plain or batch-normalised (write-up 003; Ioffe & Szegedy 2015)."""

from torch import nn
from torch.nn import functional as F

from zoo.layers import SameConv2d, chosen, glorot

# Momentum and epsilon are those of `tf.layers`: the moving average keeps 0.99 of the old.
NORMALISATIONS = {
    "none": lambda norm, maps: nn.Identity(),
    "batch": lambda norm, maps: norm(maps, momentum=0.01, eps=1e-3),
}


class Network(nn.Module):
    """Layer i = 1 .. `layers` has i * `maps_per_layer` maps and stride 2 where 3 divides i; then `dense` units.

    A normalised layer has no bias of its own.
    """

    def __init__(self, data, layers, maps_per_layer, dense, normalisation):
        super().__init__()
        normalise, bias = chosen(NORMALISATIONS, normalisation), normalisation == "none"
        body, maps, size = [], 1, 28
        for layer in range(1, layers + 1):
            stride = 2 if layer % 3 == 0 else 1
            body += [SameConv2d(maps, layer * maps_per_layer, 3, stride, size, bias)]
            maps, size = layer * maps_per_layer, -(-size // stride)
            body += [normalise(nn.BatchNorm2d, maps), nn.ReLU()]
        body += [nn.Flatten(), nn.Linear(maps * size * size, dense, bias), normalise(nn.BatchNorm1d, dense), nn.ReLU()]
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(dense, data.classes)
        glorot(self)

    def losses(self, batch):
        image, label = batch
        logits = self.classify(image)
        # The write-up trains ten yes-or-no answers, not a softmax.
        yield "classifier", F.binary_cross_entropy_with_logits(logits, F.one_hot(label, logits.shape[1]).to(logits))

    def classify(self, image):
        return self.head(self.body(image))
