"""InfoGAN: a latent class and code can be read off the images (announced in write-up 000; Chen et al. 2016)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import dense_stack, glorot, one_hot


class Network(nn.Module):
    """The generator maps noise, a class and a `code` to an image; class and code should be recoverable from it.

    `verdict` (real or fake) and `recognition` share the layers of `trunk`. The recognition's log-likelihood bounds the
    mutual information from below (equation 5 of the paper); for the code it is Gaussian with unit variance.
    `gradient_penalty` is gamma of the R1 penalty on `verdict`'s gradient at real images (Mescheder et al. 2018, eq. 9).
    """

    prior_std = 1.0

    def __init__(
        self, data, noise, code, generator, discriminator, dropout, gradient_penalty, class_weight, code_weight
    ):
        super().__init__()
        self.noise_size, self.code_size, self.classes = noise, code, data.classes
        self.gradient_penalty = gradient_penalty
        self.class_weight, self.code_weight = class_weight, code_weight
        self.generator = nn.Sequential(
            dense_stack([noise + data.classes + code, *generator], dropout=dropout), nn.Linear(generator[-1], 784)
        )
        self.trunk = dense_stack([784, *discriminator], dropout=dropout)
        self.verdict = nn.Linear(discriminator[-1], 1)
        self.recognition = nn.Linear(discriminator[-1], data.classes + code)
        glorot(self)

    def losses(self, batch):
        image, _ = batch
        noise = torch.randn(len(image), self.noise_size, device=image.device)
        label = torch.randint(self.classes, (len(image),), device=image.device)
        code = torch.randn(len(image), self.code_size, device=image.device)
        drawn = self.draw(noise, label, code)
        pixels = image.flatten(1).requires_grad_(self.training and self.gradient_penalty > 0)
        real, fake = self.verdict(self.trunk(pixels)), self.verdict(self.trunk(drawn.detach()))
        # -log D(x) - log(1 - D(G(z))), from logits
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        if pixels.requires_grad:
            (slope,) = torch.autograd.grad(real.sum(), pixels, create_graph=True)
            loss = loss + self.gradient_penalty / 2 * slope.square().sum(1).mean()
        yield "discriminator", loss
        seen = self.trunk(drawn)
        logits, found = self.recognition(seen).tensor_split([self.classes], 1)
        information = self.class_weight * F.cross_entropy(logits, label) + self.code_weight * F.mse_loss(found, code)
        yield "generator", F.softplus(-self.verdict(seen)).mean() + information

    def draw(self, noise, label, code):
        return self.generator(torch.cat([noise, one_hot(label, self.classes).to(noise), code], 1)).sigmoid()

    def generate(self, noise, label, code):
        return self.draw(noise, label, code).unflatten(1, (1, 28, 28))

    def encode(self, image):
        """Return the code that the recognition network infers from an image."""
        return self.recognition(self.trunk(image.flatten(1)))[:, self.classes :]
