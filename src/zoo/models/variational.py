"""Variational autoencoder, optionally conditioned on the label (write-ups 000, 002; Kingma & Welling 2013)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import chosen, dense_stack, glorot, one_hot

LIKELIHOODS = {
    "bce": lambda logits, image: F.binary_cross_entropy_with_logits(logits, image, reduction="sum"),
    "mse": lambda logits, image: (logits.sigmoid() - image).square().sum(),
}


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
# From the encoder's last layer to log sigma^2: write-up 000 uses the first, 002 the second.
SPREADS = {
    "softplus": lambda values: 2 * (1e-6 + F.softplus(values)).log(),
    "log_variance": lambda values: values,
}


def normal_by_first_dimension(network):
    """Initialise with standard deviation sqrt(2 / n), where n is the first dimension of a tensor in write-up 002.

    That is the number of inputs for a weight, and of outputs for a bias.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=(2 / layer.in_features) ** 0.5)
            nn.init.normal_(layer.bias, std=(2 / layer.out_features) ** 0.5)


def standard_normal(network):
    """Initialise as write-up 002 tried first, and abandoned because the loss became NaN."""
    for weight in network.parameters():
        nn.init.normal_(weight)


INITIAL_WEIGHTS = {"glorot": glorot, "first_dimension": normal_by_first_dimension, "standard_normal": standard_normal}


class Network(nn.Module):
    """q(z|x) = N(mean, sigma^2), prior N(0, I); the reconstruction is summed over pixels: nats per image.

    `conditional` appends the one-hot label to the inputs of encoder and decoder.
    """

    prior_std = 1.0

    def __init__(self, data, hidden, activation, code, spread, likelihood, conditional, dropout, initial_weights):
        super().__init__()
        self.code_size, self.classes = code, data.classes
        self.takes = ("label",) if conditional else ()
        extra, kind = data.classes if conditional else 0, chosen(ACTIVATIONS, activation)
        self.encoder = dense_stack([784 + extra, *hidden], kind, dropout)
        self.mean = nn.Linear(hidden[-1], code)
        self.spread = nn.Linear(hidden[-1], code)
        self.decoder = nn.Sequential(
            dense_stack([code + extra, *hidden[::-1]], kind, dropout), nn.Linear(hidden[0], 784)
        )
        self.log_variance, self.likelihood = chosen(SPREADS, spread), chosen(LIKELIHOODS, likelihood)
        chosen(INITIAL_WEIGHTS, initial_weights)(self)

    def losses(self, batch):
        image, label = batch
        mean, log_variance = self.posterior(image, label)
        code = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        reconstruction = self.likelihood(self.logits(code, label), image.flatten(1))
        # KL(N(mean, sigma^2) || N(0, 1)): appendix B of Kingma & Welling.
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
        yield "autoencoder", (reconstruction + divergence) / len(image)

    def posterior(self, image, label):
        hidden = self.encoder(self.join(image.flatten(1), label))
        return self.mean(hidden), self.log_variance(self.spread(hidden))

    def logits(self, code, label):
        return self.decoder(self.join(code, label))

    def join(self, values, label):
        return torch.cat([values, one_hot(label, self.classes).to(values)], 1) if self.takes else values

    def reconstruct(self, image, label=None):
        return self.decode(self.posterior(image, label)[0], label)

    def encode(self, image, label=None):
        mean, log_variance = self.posterior(image, label)
        return {"mean": mean, "log_variance": log_variance}

    def decode(self, code, label=None):
        return self.logits(code, label).sigmoid().unflatten(1, (1, 28, 28))
