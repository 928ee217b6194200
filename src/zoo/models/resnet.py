"""Residual network of bottlenecks (write-up 000; He et al. 2015): the classifier that judges the generators."""

from torch import nn
from torch.nn import functional as F


def normalised(maps_in, maps_out, kernel, stride=1):
    convolution = nn.Conv2d(maps_in, maps_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(maps_out))


class Bottleneck(nn.Module):
    """1x1 down to `width` maps, 3x3, 1x1 up to `width * expansion`, added to the input (figure 5 of the paper)."""

    def __init__(self, maps_in, width, expansion, stride):
        super().__init__()
        maps_out = width * expansion
        self.residual = nn.Sequential(
            normalised(maps_in, width, 1), nn.ReLU(),
            normalised(width, width, 3, stride), nn.ReLU(),
            normalised(width, maps_out, 1),
        )  # fmt: skip
        same = stride == 1 and maps_in == maps_out
        self.shortcut = nn.Identity() if same else normalised(maps_in, maps_out, 1, stride)

    def forward(self, maps):
        return F.relu(self.shortcut(maps) + self.residual(maps))


class Network(nn.Module):
    """A 3x3 stem, then `bottlenecks` bottlenecks for each of the `widths`, the last of which halves the image size."""

    def __init__(self, data, stem, widths, bottlenecks, expansion):
        super().__init__()
        body, maps = [normalised(1, stem, 3), nn.ReLU()], stem
        for width in widths:
            for place in range(1, bottlenecks + 1):
                body.append(Bottleneck(maps, width, expansion, stride=2 if place == bottlenecks else 1))
                maps = width * expansion
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(maps, data.classes)

    def losses(self, batch):
        image, label = batch
        yield "classifier", F.cross_entropy(self.classify(image), label)

    def classify(self, image):
        return self.head(self.encode(image))

    def encode(self, image):
        """Return the features before the last layer: [batch, maps]."""
        return self.body(image).mean((2, 3))
