"""Variational autoencoder, with or without the label as a condition (write-up 000; Kingma & Welling 2013)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.layers import chosen, dense_stack, glorot

LIKELIHOODS = {
    "bce": lambda logits, image: F.binary_cross_entropy_with_logits(logits, image, reduction="sum"),
    "mse": lambda logits, image: (logits.sigmoid() - image).square().sum(),
}


class Network(nn.Module):
    """q(z|x) = N(mean, sigma^2) with sigma = 1e-6 + softplus, prior N(0, I); both losses are nats per image.

    `conditional` joins the one-hot label to the input of encoder and decoder.
    """

    def __init__(self, data, hidden, code, likelihood, conditional, dropout):
        super().__init__()
        self.code_size, self.classes, self.conditional = code, data.classes, conditional
        extra = data.classes if conditional else 0
        self.encoder = dense_stack([784 + extra, *hidden], dropout=dropout)
        self.mean = nn.Linear(hidden[-1], code)
        self.deviation = nn.Linear(hidden[-1], code)
        self.decoder = nn.Sequential(
            dense_stack([code + extra, *hidden[::-1]], dropout=dropout), nn.Linear(hidden[0], 784)
        )
        self.likelihood = chosen(LIKELIHOODS, likelihood)
        glorot(self)

    def losses(self, batch):
        image, label = batch
        mean, deviation = self.posterior(image, label)
        code = mean + deviation * torch.randn_like(mean)
        reconstruction = self.likelihood(self.logits(code, label), image.flatten(1))
        # KL(N(mean, deviation^2) || N(0, 1)): appendix B of Kingma & Welling.
        divergence = 0.5 * (mean.square() + deviation.square() - 2 * deviation.log() - 1).sum()
        yield "autoencoder", (reconstruction + divergence) / len(image)

    def posterior(self, image, label):
        hidden = self.encoder(self.join(image.flatten(1), label))
        return self.mean(hidden), 1e-6 + F.softplus(self.deviation(hidden))

    def logits(self, code, label):
        return self.decoder(self.join(code, label))

    def join(self, values, label):
        return torch.cat([values, F.one_hot(label, self.classes).to(values)], 1) if self.conditional else values

    def reconstruct(self, image, label=None):
        return self.decode(self.posterior(image, label)[0], label)

    def encode(self, image, label=None):
        mean, deviation = self.posterior(image, label)
        return {"mean": mean, "log_variance": 2 * deviation.log()}

    def decode(self, code, label=None):
        return self.logits(code, label).sigmoid().unflatten(1, (1, 28, 28))
