"""Recurrent language model: embedding, recurrent layers, logits over the words (write-up 000; Zaremba et al. 2014)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.models.layers import Recurrent


class Network(nn.Module):
    """Next word from the words so far; the state is carried from one stretch of text to the next.

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
        self.carried = {}  # states: one for training and one for validation, which interrupts it

    def losses(self, batch):
        words, following, fresh = batch
        state = self.silence(len(words), words.device) if fresh else self.carried[self.training]
        logits, *state = self.read(words, *state)
        self.carried[self.training] = [value.detach() for value in state]
        # Summed over the stretch and averaged over the batch, as the tutorial has it: lr 1.0 is meant for this.
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())
        yield "language_model", loss * words.shape[1]

    def read(self, words, *state):
        values = self.dropout(self.embedding(words.t()))
        values, *state = self.recurrent(values, *state)
        return self.logits(self.dropout(values)).transpose(0, 1), *state

    def silence(self, batch, device):
        return [torch.zeros(self.layers, batch, self.units, device=device) for _ in ("hidden", *self.takes)]

    def next_word(self, words, hidden, cell=None):
        state = [hidden] if cell is None else [hidden, cell]
        return dict(zip(("logits", "next_hidden", "next_cell"), self.read(words, *state), strict=False))
