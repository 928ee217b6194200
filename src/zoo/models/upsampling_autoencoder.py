"""Convolutional autoencoder: max-pooling down, nearest-neighbour resizing up (write-up 003)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import SameConv2d, glorot, repeat

SIZES = (28, 14, 7, 4)


class Upsample(nn.Module):
    """Double the image size and crop it to `size`: 4 pixels become 8, then 7, as in nearest-neighbour resizing to 7."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, maps):
        return repeat(maps)[..., : self.size, : self.size]


class Network(nn.Module):
    """3x3 convolutions of maps[0], maps[1], maps[2] maps, pooled at 28 -> 14 -> 7 -> 4 pixels, and back.

    `corruption` is the standard deviation of the noise added to training images; the target stays clean.
    """

    def __init__(self, data, maps, corruption):
        super().__init__()
        self.corruption = corruption
        encoder, decoder, before = [], [], 1
        for size, count in zip(SIZES, maps, strict=False):
            # Rounds up like TensorFlow's SAME pooling: 7 pixels become 4.
            encoder += [SameConv2d(before, count, 3, 1, size), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            before = count
        for size, count in zip(SIZES[-2::-1], maps[::-1], strict=True):
            decoder += [Upsample(size), SameConv2d(before, count, 3, 1, size), nn.ReLU()]
            before = count
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder, SameConv2d(before, 1, 3, 1, SIZES[0]))
        glorot(self)

    def losses(self, batch):
        image, _ = batch
        noisy = image
        if self.corruption:
            noisy = (image + self.corruption * torch.randn_like(image)).clamp(0, 1)
        yield "autoencoder", F.binary_cross_entropy_with_logits(self.decoder(self.encoder(noisy)), image)

    def reconstruct(self, image):
        return self.decoder(self.encoder(image)).sigmoid()

    def encode(self, image):
        return self.encoder(image)
