"""Fully connected autoencoder: 784 pixels through a narrow code and back (write-ups 003 and 004)."""

from torch import nn
from torch.nn import functional as F

from zoo.models.layers import chosen, dense_stack, glorot

ACTIVATIONS = {"linear": nn.Identity, "relu": nn.ReLU}
LOSSES = {"bce": F.binary_cross_entropy_with_logits, "mse": lambda logits, image: F.mse_loss(logits.sigmoid(), image)}


class Network(nn.Module):
    """784 -> `hidden` -> `code` dimensions, and mirrored back; `loss` (bce or mse) is averaged over pixels.

    Weights are normal with standard deviation `weight_std`, or Glorot uniform if it is null; biases start at 0.
    """

    def __init__(self, data, hidden, code, code_activation, loss, weight_std):
        super().__init__()
        self.code_size = code
        self.encoder = nn.Sequential(
            dense_stack([784, *hidden]), nn.Linear([784, *hidden][-1], code), chosen(ACTIVATIONS, code_activation)()
        )
        self.decoder = nn.Sequential(dense_stack([code, *hidden[::-1]]), nn.Linear([code, *hidden[::-1]][-1], 784))
        self.loss = chosen(LOSSES, loss)
        glorot(self)
        if weight_std is not None:
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=weight_std)

    def losses(self, batch):
        image, _ = batch
        logits = self.decoder(self.encoder(image.flatten(1)))
        yield "autoencoder", self.loss(logits, image.flatten(1))

    def reconstruct(self, image):
        return self.decode(self.encode(image))

    def encode(self, image):
        return self.encoder(image.flatten(1))

    def decode(self, code):
        return self.decoder(code).sigmoid().unflatten(1, (1, 28, 28))
