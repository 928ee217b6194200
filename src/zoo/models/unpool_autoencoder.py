"""Convolutional autoencoder: max-pooling down, three kinds of unpooling up (write-up 001 and its readers)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import SameConv2d, SameConvTranspose2d, chosen, max_unpool, repeat


def zero_unpool(maps, _):
    """Put each value at the top left of a 2x2 block of zeros."""
    return F.pad(maps[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1)).flatten(4).flatten(2, 3)


UNPOOLINGS = {"zero": zero_unpool, "nearest": lambda maps, _: repeat(maps), "argmax": max_unpool}
ACTIVATIONS = {"sigmoid": torch.sigmoid, "relu": torch.relu, "linear": lambda maps: maps}
LOSSES = {"mse": F.mse_loss, "bce": F.binary_cross_entropy_with_logits}


class Network(nn.Module):
    """1 -> maps[0] -> maps[1] maps, each pooled 2x2 (28, 14, 7 pixels), and back by transposed convolutions.

    `unpool` says whether a decoder layer unpools `after` its activation or `before` its convolution. The write-up
    declares decoder biases but never adds them; `decoder_bias` adds them. Weights are normal with standard deviation
    `weight_std`, truncated at two standard deviations; encoder biases start at `bias`, decoder biases at 0.
    """

    def __init__(self, data, kernel, maps, unpooling, unpool, hidden, output, loss, decoder_bias, weight_std,
                 bias):  # fmt: skip
        super().__init__()
        first, second = maps
        sizes = chosen({"after": (7, 14), "before": (14, 28)}, unpool)
        self.unpool_first = unpool == "before"
        self.encoder = nn.ModuleList([SameConv2d(1, first, kernel, 1, 28), SameConv2d(first, second, kernel, 1, 14)])
        self.decoder = nn.ModuleList([
            SameConvTranspose2d(second, first, kernel, 1, sizes[0], bias=decoder_bias),
            SameConvTranspose2d(first, 1, kernel, 1, sizes[1], bias=decoder_bias),
        ])  # fmt: skip
        self.unpooling = chosen(UNPOOLINGS, unpooling)
        self.hidden, self.output = chosen(ACTIVATIONS, hidden), chosen(ACTIVATIONS, output)
        # Cross-entropy is computed from logits: the gradient of a saturated sigmoid vanishes.
        self.loss, self.trained = chosen(LOSSES, loss), ACTIVATIONS["linear"] if loss == "bce" else self.output
        for layer in (*self.encoder, *self.decoder):
            nn.init.trunc_normal_(layer.weight, std=weight_std, a=-2 * weight_std, b=2 * weight_std)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias if layer in self.encoder else 0.0)

    def losses(self, batch):
        image, _ = batch
        yield "autoencoder", self.loss(self.draw(image, self.trained), image)

    def pooled(self, image):
        """Return (the code [batch, maps, 7, 7], the indices of each layer's maxima)."""
        maps, of_layers = image, []
        for layer in self.encoder:
            maps, indices = F.max_pool2d(layer(maps).relu(), 2, return_indices=True)
            of_layers.append(indices)
        return maps, of_layers

    def draw(self, image, last):
        maps, of_layers = self.pooled(image)
        for layer, activation, indices in zip(self.decoder, (self.hidden, last), of_layers[::-1], strict=True):
            if self.unpool_first:
                maps = activation(layer(self.unpooling(maps, indices)))
            else:
                maps = self.unpooling(activation(layer(maps)), indices)
        return maps

    def reconstruct(self, image):
        return self.draw(image, self.output)

    def encode(self, image):
        return self.pooled(image)[0]
