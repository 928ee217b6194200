"""Single operators, exported and timed on their own (write-ups 000 and 001)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import SameConv2d, SameConvTranspose2d, chosen, max_unpool, repeat


class UpsampleNearest(nn.Module):
    """Each pixel becomes a 2x2 block."""

    def forward(self, image):
        return repeat(image)


class UpsampleTransposed(nn.Module):
    """The same, by a transposed convolution with a 2x2 kernel of ones and stride 2."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", torch.ones(1, 1, 2, 2), persistent=False)

    def forward(self, image):
        return F.conv_transpose2d(image, self.kernel, stride=2)


class OddTransposed(nn.Module):
    """3x3 kernels of ones: 9x9 pixels to 5x5 at stride 2, and back to 9x9; the write-up gets 10x10 and crops."""

    image_size = 9

    def __init__(self):
        super().__init__()
        self.down = SameConv2d(1, 1, 3, 2, self.image_size, bias=False)
        self.up = SameConvTranspose2d(1, 1, 3, 2, self.image_size, bias=False)
        for layer in (self.down, self.up):
            nn.init.ones_(layer.weight)

    def forward(self, image):
        return self.up(self.down(image))


class UnpoolZero(nn.Module):
    """Each pixel goes to the top left of a 2x2 block of zeros."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), persistent=False)

    def forward(self, image):
        return F.conv_transpose2d(image, self.kernel, stride=2)


class UnpoolArgmax(nn.Module):
    """The maximum of each 2x2 block stays in place, the first of equal ones; the rest becomes zero."""

    def forward(self, image):
        return max_unpool(*F.max_pool2d(image, 2, return_indices=True))


class NormalisedConvolution(nn.Module):
    """A 3x3 convolution to eight maps and batch normalisation in evaluation mode, as two operators.

    Weight (map, row, column) is sin(1 + 9 map + 3 row + column); map m has running mean m / 8, variance 1 + m,
    scale cos(m), shift sin(m), epsilon 1e-3.
    """

    as_written = True  # the exporter would fold the normalisation into the convolution

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8, eps=1e-3)
        maps = torch.arange(8.0)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.sin(1 + torch.arange(72.0)).view(8, 1, 3, 3))
            for values, of_map in [
                (self.norm.running_mean, maps / 8), (self.norm.running_var, 1 + maps),
                (self.norm.weight, maps.cos()), (self.norm.bias, maps.sin()),
            ]:  # fmt: skip
                values.copy_(of_map)

    def forward(self, image):
        return self.norm(self.convolution(image))


class FoldedConvolution(NormalisedConvolution):
    """The same, with the normalisation folded into the convolution by the exporter."""

    as_written = False


OPERATORS = {
    "upsample_nearest": UpsampleNearest,
    "upsample_transposed": UpsampleTransposed,
    "odd_transposed": OddTransposed,
    "unpool_zero": UnpoolZero,
    "unpool_argmax": UnpoolArgmax,
    "batchnorm": NormalisedConvolution,
    "batchnorm_folded": FoldedConvolution,
}


class Network(nn.Module):
    """A network without trainable weights: `apply` computes `operator`."""

    def __init__(self, data, operator):
        super().__init__()
        self.operator = chosen(OPERATORS, operator)().requires_grad_(False)
        self.image_size = getattr(self.operator, "image_size", 28)
        self.as_written = getattr(self.operator, "as_written", False)

    def apply(self, image):
        return self.operator(image)
