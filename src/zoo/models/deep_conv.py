"""Nineteen convolutions and a dense layer, plain or batch-normalised (write-up 003; Ioffe & Szegedy 2015)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import SameConv2d, chosen, glorot, one_hot


class ManualBatchNorm(nn.Module):
    """Batch normalisation from moments and moving averages over all axes but the second (algorithm 1).

    The moving variance averages the batch variance with divisor n; torch's averages the one with divisor n - 1.
    """

    def __init__(self, maps, momentum, eps):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(maps)), nn.Parameter(torch.zeros(maps))
        self.register_buffer("moving_mean", torch.zeros(maps))
        self.register_buffer("moving_variance", torch.ones(maps))
        self.momentum, self.eps = momentum, eps

    def forward(self, values):
        across = [axis for axis in range(values.dim()) if axis != 1]
        broadcast = [-1 if axis == 1 else 1 for axis in range(values.dim())]
        if self.training:
            mean = values.mean(across)
            variance = (values - mean.view(broadcast)).square().mean(across)
            with torch.no_grad():
                self.moving_mean.lerp_(mean, self.momentum)
                self.moving_variance.lerp_(variance, self.momentum)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = self.scale / (variance + self.eps).sqrt()
        return (values - mean.view(broadcast)) * scale.view(broadcast) + self.shift.view(broadcast)


# Momentum and epsilon are the defaults of `tf.layers`, where momentum is the share kept: 0.99.
NORMALISATIONS = {
    "none": lambda norm, maps: nn.Identity(),
    "batch": lambda norm, maps: norm(maps, momentum=0.01, eps=1e-3),
    "manual": lambda norm, maps: ManualBatchNorm(maps, momentum=0.01, eps=1e-3),
}


class Network(nn.Module):
    """Layer i = 1 .. `layers` has i * `maps_per_layer` maps, and stride 2 if 3 divides i; then `dense` units.

    Normalised layers have no bias. Weights are Glorot uniform or, with `weight_std`, normal with that standard
    deviation, truncated at two of them.
    """

    def __init__(self, data, layers, maps_per_layer, dense, normalisation, weight_std):
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
        if weight_std is not None:
            for layer in self.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    nn.init.trunc_normal_(layer.weight, std=weight_std, a=-2 * weight_std, b=2 * weight_std)

    def losses(self, batch):
        image, label = batch
        logits = self.classify(image)
        # The write-up trains ten sigmoid outputs, not a softmax.
        yield "classifier", F.binary_cross_entropy_with_logits(logits, one_hot(label, logits.shape[1]).to(logits))

    def classify(self, image):
        return self.head(self.body(image))
