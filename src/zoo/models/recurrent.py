"""Recurrent language model: embedding, recurrent layers, logits over the words (write-up 000; Zaremba et al. 2014)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import Recurrent


class Network(nn.Module):
    """Predicts the next word from the words so far; the state is carried from one batch to the next.

    A batch is (words int64 [batch, time], the following words of the same shape, fresh). The state is reset to zero if
    the bool tensor `fresh` [] is true.
    `cell` is lstm, lstm_relu (ReLU in place of both tanh), or a plain recurrent layer: tanh, relu.
    """

    def __init__(self, data, cell, layers, units, forget_bias, initial_range, dropout):
        super().__init__()
        self.layers, self.units = layers, units
        self.embedding = nn.Embedding(data.vocabulary, units)
        self.recurrent = Recurrent(cell, layers, units, forget_bias, initial_range, dropout)
        self.takes = ("cell",) if self.recurrent.has_cell_state else ()
        self.logits = nn.Linear(units, data.vocabulary)
        self.dropout = nn.Dropout(dropout)
        for weight in (self.embedding.weight, self.logits.weight, self.logits.bias):
            nn.init.uniform_(weight, -initial_range, initial_range)
        # States [batch, layers, units], one set for training and one for the validation that interrupts it. They are
        # updated in place: a captured step keeps their addresses.
        self.carried = {}

    def losses(self, batch):
        words, following, fresh = batch
        if self.training not in self.carried:
            self.carried[self.training] = self.zero_state(len(words), words.device)
        carried = self.carried[self.training]
        logits, *state = self.read(words, *(value.masked_fill(fresh, 0) for value in carried))
        for kept, value in zip(carried, state, strict=True):
            kept.copy_(value.detach())
        # Summed over time and averaged over the batch, as in the tutorial: its lr of 1.0 assumes this.
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())
        yield "language_model", loss * words.shape[1]

    def read(self, words, *state):
        values = self.dropout(self.embedding(words.t()))
        values, *state = self.recurrent(values, *state)
        return self.logits(self.dropout(values)).transpose(0, 1), *state

    def zero_state(self, batch, device):
        return [torch.zeros(batch, self.layers, self.units, device=device) for _ in ("hidden", *self.takes)]

    def next_word(self, words, hidden, cell=None):
        state = [hidden] if cell is None else [hidden, cell]
        return dict(zip(("logits", "next_hidden", "next_cell"), self.read(words, *state), strict=False))
