"""Semi-supervised adversarial autoencoder with 1,000 labels (write-up 004; Makhzani et al. 2015, section 5)."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import dense_stack, one_hot


def normalised_stack(sizes):
    """Fully connected layers, each with batch normalisation and ReLU."""
    layers = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out, bias=False), nn.BatchNorm1d(size_out), nn.ReLU()]
    return nn.Sequential(*layers)


class Network(nn.Module):
    """The code is a class (pushed towards a random one-hot vector) and a style (pushed towards a standard normal).

    Two critics tell codes from samples of those priors. The encoder learns to fool them, to reconstruct the image, and
    to classify the labelled images. `noise` is the standard deviation of the noise added to training images. Without
    `unlabelled`, the encoder learns from the labelled images only, for comparison.
    """

    prior_std = 1.0

    def __init__(self, data, hidden, style, critic, noise, unlabelled, reconstruction_weight, adversarial_weight):
        super().__init__()
        self.code_size, self.classes, self.noise, self.unlabelled = style, data.classes, noise, unlabelled
        self.untrained = () if unlabelled else ("reconstruct", "encode", "decode")
        self.reconstruction_weight, self.adversarial_weight = reconstruction_weight, adversarial_weight
        self.encoder = nn.Sequential(normalised_stack([784, *hidden]), nn.Linear(hidden[-1], data.classes + style))
        self.decoder = nn.Sequential(dense_stack([data.classes + style, *hidden[::-1]]), nn.Linear(hidden[0], 784))
        self.critic = nn.ModuleList(
            nn.Sequential(dense_stack([size, *critic]), nn.Linear(critic[-1], 1)) for size in (data.classes, style)
        )

    def losses(self, batch):
        image, _, labelled_image, label = batch
        labelled_logits, _ = self.split(self.disturb(labelled_image))
        classification = F.cross_entropy(labelled_logits, label)
        if not self.unlabelled:
            yield "autoencoder", classification
            return
        logits, style = self.split(self.disturb(image))
        codes = logits.softmax(1), style
        drawn = torch.randint(self.classes, (len(image),), device=image.device)
        priors = one_hot(drawn, self.classes).float(), torch.randn_like(style)

        yield (
            "critic",
            sum(
                F.softplus(-critic(prior)).mean() + F.softplus(critic(code.detach())).mean()
                for critic, prior, code in zip(self.critic, priors, codes, strict=True)
            ),
        )
        rebuilt = self.decoder(torch.cat(codes, 1)).sigmoid()
        fooled = sum(F.softplus(-critic(code)).mean() for critic, code in zip(self.critic, codes, strict=True))
        yield (
            "autoencoder",
            (
                self.reconstruction_weight * F.mse_loss(rebuilt, image.flatten(1))
                + self.adversarial_weight * fooled
                + classification
            ),
        )

    def disturb(self, image):
        return image + self.noise * torch.randn_like(image) if self.training else image

    def split(self, image):
        return self.encoder(image.flatten(1)).tensor_split([self.classes], 1)

    def classify(self, image):
        return self.split(image)[0]

    def encode(self, image):
        return self.split(image)[1]

    def reconstruct(self, image):
        logits, style = self.split(image)
        return self.decoder(torch.cat([logits.softmax(1), style], 1)).sigmoid().unflatten(1, (1, 28, 28))

    def decode(self, code, label):
        joined = torch.cat([one_hot(label, self.classes).to(code), code], 1)
        return self.decoder(joined).sigmoid().unflatten(1, (1, 28, 28))
