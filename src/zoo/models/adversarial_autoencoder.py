"""Adversarial autoencoder: a critic pulls the code to a normal distribution (write-up 004; Makhzani et al. 2015)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import dense_stack, one_hot


class Network(nn.Module):
    """784 -> `hidden` -> code -> back, and a critic that tells codes from samples of N(0, prior_std^2).

    Two players take turns: the critic learns, then the autoencoder learns to reconstruct the image and to fool the
    critic. The paper takes one step for each of these two aims. Here they share a loss: Adam's steps do not depend on
    the scale of a loss (Kingma & Ba 2015, section 2.1), so no weight could balance two steps. With `conditional`,
    decoder and critic also receive the digit (section 2.3 of the paper), so that the code keeps only the style and
    every digit fills the prior. Weights of encoder and decoder are normal with standard deviation `weight_std`,
    biases 0, as in the write-up; the critic keeps torch's defaults.
    """

    def __init__(
        self, data, hidden, code, critic, prior_std, weight_std, conditional,
        reconstruction_weight, adversarial_weight,
    ):  # fmt: skip
        super().__init__()
        self.code_size = self.noise_size = code
        self.reconstruction_weight, self.adversarial_weight = reconstruction_weight, adversarial_weight
        self.classes, self.prior_std = data.classes, prior_std
        self.takes = ("label",) if conditional else ()
        extra = data.classes if conditional else 0
        self.encoder = nn.Sequential(dense_stack([784, *hidden]), nn.Linear(hidden[-1], code))
        self.decoder = nn.Sequential(dense_stack([code + extra, *hidden[::-1]]), nn.Linear(hidden[0], 784))
        self.critic = nn.Sequential(dense_stack([code + extra, *critic]), nn.Linear(critic[-1], 1))
        for layer in (*self.encoder.modules(), *self.decoder.modules()):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=weight_std)
                nn.init.zeros_(layer.bias)

    def losses(self, batch):
        image, label = batch
        pixels = image.flatten(1)
        code = self.encoder(pixels)
        prior = self.prior_std * torch.randn_like(code)
        real, found = self.score(prior, label), self.score(code.detach(), label)
        yield "critic", F.softplus(-real).mean() + F.softplus(found).mean()
        rebuilt, fooled = self.draw(code, label), F.softplus(-self.score(code, label)).mean()
        yield (
            "autoencoder",
            self.reconstruction_weight * F.mse_loss(rebuilt, pixels) + self.adversarial_weight * fooled,
        )

    def draw(self, code, label):
        return self.decoder(self.join(code, label)).sigmoid()

    def score(self, code, label):
        return self.critic(self.join(code, label))

    def join(self, code, label):
        return torch.cat([code, one_hot(label, self.classes).to(code)], 1) if self.takes else code

    def reconstruct(self, image, label=None):
        return self.decode(self.encode(image), label)

    def encode(self, image):
        return self.encoder(image.flatten(1))

    def decode(self, code, label=None):
        return self.draw(code, label).unflatten(1, (1, 28, 28))

    def generate(self, noise, label=None):
        """Decode a sample of the prior; `noise` is standard normal."""
        return self.decode(self.prior_std * noise, label)
