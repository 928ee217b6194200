"""Generative adversarial network, optionally conditioned on the label (write-up 000; Goodfellow et al. 2014)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import dense_stack, glorot, one_hot


class Network(nn.Module):
    """Fully connected generator and discriminator with non-saturating losses, trained in turn, one step each.

    `conditional` appends the one-hot label to both inputs. `gradient_penalty` is gamma of the R1 penalty on the
    discriminator's gradient at real images (Mescheder et al. 2018, equation 9); 0 disables it.
    """

    def __init__(self, data, noise, generator, discriminator, dropout, gradient_penalty, conditional):
        super().__init__()
        self.noise_size, self.classes = noise, data.classes
        self.gradient_penalty = gradient_penalty
        self.takes = ("label",) if conditional else ()
        extra = data.classes if conditional else 0
        self.generator = nn.Sequential(
            dense_stack([noise + extra, *generator], dropout=dropout), nn.Linear(generator[-1], 784)
        )
        self.discriminator = nn.Sequential(
            dense_stack([784 + extra, *discriminator], dropout=dropout), nn.Linear(discriminator[-1], 1)
        )
        glorot(self)

    def losses(self, batch):
        image, label = batch
        noise = torch.randn(len(image), self.noise_size, device=image.device)
        drawn = self.draw(noise, label)
        pixels = image.flatten(1).requires_grad_(self.training and self.gradient_penalty > 0)
        real, fake = self.score(pixels, label), self.score(drawn.detach(), label)
        # -log D(x) - log(1 - D(G(z))), from logits
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        if pixels.requires_grad:
            (slope,) = torch.autograd.grad(real.sum(), pixels, create_graph=True)
            loss = loss + self.gradient_penalty / 2 * slope.square().sum(1).mean()
        yield "discriminator", loss
        yield "generator", F.softplus(-self.score(drawn, label)).mean()

    def draw(self, noise, label):
        return self.generator(self.join(noise, label)).sigmoid()

    def score(self, pixels, label):
        return self.discriminator(self.join(pixels, label))

    def join(self, values, label):
        return torch.cat([values, one_hot(label, self.classes).to(values)], 1) if self.takes else values

    def generate(self, noise, label=None):
        return self.draw(noise, label).unflatten(1, (1, 28, 28))
