"""A classifier on the encoder of a trained autoencoder: only chosen variables are trained (write-up 000).

params.yaml says which parts are trained and at which rate; the encoder's weights come from `start`.
"""

from torch import nn
from torch.nn import functional as F

from zoo.models.layers import glorot


class Network(nn.Module):
    """The encoder of `dense_autoencoder` with no hidden layer and a ReLU code, then one linear layer."""

    def __init__(self, data, code):
        super().__init__()
        self.encoder = nn.Sequential(nn.Sequential(), nn.Linear(784, code), nn.ReLU())
        self.head = nn.Linear(code, data.classes)
        glorot(self)

    def losses(self, batch):
        image, label = batch
        yield "classifier", F.cross_entropy(self.classify(image), label)

    def classify(self, image):
        return self.head(self.encode(image))

    def encode(self, image):
        return self.encoder(image.flatten(1))
