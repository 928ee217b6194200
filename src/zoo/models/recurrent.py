"""Recurrent language model: embedding, LSTM layers, logits over the words (write-up 000; Zaremba et al. 2014)."""

import torch
from torch import nn
from torch.nn import functional as F

from zoo.layers import LSTM


class Network(nn.Module):
    """Next word from the words so far; the state is carried from one stretch of text to the next."""

    def __init__(self, data, layers, units, forget_bias, initial_range, dropout):
        super().__init__()
        self.layers, self.units = layers, units
        self.embedding = nn.Embedding(data.vocabulary, units)
        self.recurrent = LSTM(layers, units, forget_bias, initial_range, dropout)
        self.logits = nn.Linear(units, data.vocabulary)
        self.dropout = nn.Dropout(dropout)
        for weight in (self.embedding.weight, self.logits.weight, self.logits.bias):
            nn.init.uniform_(weight, -initial_range, initial_range)
        self.states = {}  # one for training and one for validation, which interrupts it

    def losses(self, batch):
        words, following, fresh = batch
        state = self.silence(len(words), words.device) if fresh else self.states[self.training]
        logits, *state = self.read(words, *state)
        self.states[self.training] = [value.detach() for value in state]
        # Summed over the stretch and averaged over the batch, as the tutorial has it: lr 1.0 is meant for this.
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())
        yield "language_model", loss * words.shape[1]

    def read(self, words, hidden, cell):
        values = self.dropout(self.embedding(words.t()))
        values, hidden, cell = self.recurrent(values, hidden, cell)
        return self.logits(self.dropout(values)).transpose(0, 1), hidden, cell

    def silence(self, batch, device):
        return [torch.zeros(self.layers, batch, self.units, device=device) for _ in range(2)]

    def next_word(self, words, hidden, cell):
        logits, hidden, cell = self.read(words, hidden, cell)
        return {"logits": logits, "next_hidden": hidden, "next_cell": cell}
