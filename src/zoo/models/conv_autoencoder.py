"""Convolutional autoencoder: strided convolutions down, transposed convolutions up (write-up 001)."""

from torch import nn
from torch.nn import functional as F

from zoo.models.layers import SameConv2d, SameConvTranspose2d


class Network(nn.Module):
    """1 -> maps[0] -> maps[1] maps at 28, 14, 7 pixels and back; ReLU after every layer, including the last.

    The write-up declares decoder biases but never adds them, so the decoder has none here. Weights are normal with
    standard deviation `weight_std`, truncated at two standard deviations; encoder biases start at `bias`.
    """

    def __init__(self, data, kernel, maps, weight_std, bias):
        super().__init__()
        first, second = maps
        self.encoder = nn.Sequential(
            SameConv2d(1, first, kernel, stride=2, size=28), nn.ReLU(),
            SameConv2d(first, second, kernel, stride=2, size=14), nn.ReLU(),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            SameConvTranspose2d(second, first, kernel, stride=2, size=14, bias=False), nn.ReLU(),
            SameConvTranspose2d(first, 1, kernel, stride=2, size=28, bias=False), nn.ReLU(),
        )  # fmt: skip
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(weight, bias)
            else:
                nn.init.trunc_normal_(weight, std=weight_std, a=-2 * weight_std, b=2 * weight_std)

    def losses(self, batch):
        image, _ = batch
        yield "autoencoder", F.mse_loss(self.reconstruct(image), image)

    def reconstruct(self, image):
        return self.decoder(self.encoder(image))

    def encode(self, image):
        return self.encoder(image)
