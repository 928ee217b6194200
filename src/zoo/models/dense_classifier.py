"""Fully connected classifier, plain or batch-normalised (write-up 000)."""

from torch import nn
from torch.nn import functional as F

from zoo.models.layers import chosen, glorot

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU}
# Momentum and epsilon are the defaults of `tf.layers`, where momentum is the share kept: 0.99.
NORMALISATIONS = {"none": lambda units: nn.Identity(), "batch": lambda units: nn.BatchNorm1d(units, 1e-3, 0.01)}


class Network(nn.Module):
    """784 pixels -> `hidden` layers -> logits; normalised layers have no bias."""

    def __init__(self, data, hidden, activation, normalisation):
        super().__init__()
        body, before = [nn.Flatten()], 784
        for units in hidden:
            body.append(nn.Linear(before, units, bias=normalisation == "none"))
            body += [chosen(NORMALISATIONS, normalisation)(units), chosen(ACTIVATIONS, activation)()]
            before = units
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(before, data.classes)
        glorot(self)

    def losses(self, batch):
        image, label = batch
        yield "classifier", F.cross_entropy(self.classify(image), label)

    def classify(self, image):
        return self.head(self.body(image))
