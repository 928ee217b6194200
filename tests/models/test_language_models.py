"""The recurrent language models of write-up 000: what a word costs, and the state that goes from segment to segment."""

import math

import numpy
import pytest
import torch
from networks import MODELS, array, batch_for, build, build_small, inputs_of, losses, of_file, silence
from torch import nn

from zoo.graphs import verbs
from zoo.train import loop

CELLS = ["lstm", "rnn_tanh", "rnn_relu", "lstm_relu"]
LANGUAGE = of_file("recurrent")
FRESH, GOES_ON = torch.tensor(True), torch.tensor(False)


def words_of(count):
    return torch.randint(30, (3, count), generator=torch.Generator().manual_seed(0))


def lively(name):
    """A network whose states matter: wide weights, few enough units for ReLU not to explode."""
    return build(name, initial_range=0.4, units=16)


@pytest.mark.parametrize("name", LANGUAGE)
def test_the_loss_is_a_sum_over_time(name):
    """At logits 0 every word costs ln 30; six words a row are summed, rows averaged."""
    network = build_small(name)
    silence(network.logits)
    assert losses(network, batch_for(name))["language_model"] == pytest.approx(6 * math.log(30), rel=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_the_loss_is_of_the_words_that_follow(name):
    """By the logits of `next_word`: minus the log chance of each following word."""
    network, (words, following, fresh) = lively(name), batch_for(name)
    with torch.no_grad():
        logits = array(network.eval().next_word(words, *network.zero_state(4, "cpu"))["logits"])
    chances = numpy.exp(logits) / numpy.exp(logits).sum(2, keepdims=True)
    row, place = numpy.indices((4, 6))
    expected = -numpy.log(chances[row, place, following.numpy()]).sum(1).mean()
    assert losses(network, (words, following, fresh))["language_model"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_the_state_is_carried(name):
    """Two segments of five cost what one of ten costs; begun afresh, the second costs something else."""
    network, words = lively(name), words_of(11)
    whole = losses(network, (words[:, :10], words[:, 1:], FRESH))["language_model"]
    first = losses(network, (words[:, :5], words[:, 1:6], FRESH))["language_model"]
    second = losses(network, (words[:, 5:10], words[:, 6:], GOES_ON))["language_model"]
    fresh = losses(network, (words[:, 5:10], words[:, 6:], FRESH))["language_model"]
    assert first + second == pytest.approx(whole, rel=1e-5)
    assert abs(fresh - second) > 1e-3


@pytest.mark.parametrize("name", CELLS)
def test_the_gradient_stops_where_a_segment_begins(name):
    """Truncated at the segment, as in the tutorial: the state comes in as a number."""
    network, words = lively(name).train(), words_of(11)
    next(network.losses((words[:, :5], words[:, 1:6], FRESH)))
    next(network.losses((words[:, 5:10], words[:, 6:], GOES_ON)))[1].backward()
    assert not any(value.requires_grad for value in network.carried[True])
    read = set(words[:, 5:10].flatten().tolist())
    moved = network.embedding.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert set(moved) <= read


@pytest.mark.parametrize("name", CELLS)
def test_validation_does_not_interrupt_training(name):
    """The state of the training text is still there after a validation text was read."""
    words, outcomes = words_of(11), []
    second = words[:, 5:10], words[:, 6:], GOES_ON
    for validation in ([], [(words[:, :5], words[:, 1:6], FRESH)]):
        network = lively(name).train()
        for batch in ((words[:, :5], words[:, 1:6], FRESH), second):
            outcomes.append(next(network.losses(batch))[1].item())
            loop.evaluate(network, validation)
    assert outcomes[:2] == outcomes[2:]


@pytest.mark.parametrize("name", CELLS)
def test_next_word_reads_in_pieces(name):
    network, words, pieces = lively(name).eval(), words_of(10), []
    state = network.zero_state(3, "cpu")
    assert len(state) == (2 if "lstm" in name else 1)
    whole = network.next_word(words, *state)
    for piece in words.split(4, dim=1):
        logits, *state = network.next_word(piece, *state).values()
        pieces.append(logits)
    assert whole["logits"].shape == (3, 10, 30)
    assert torch.allclose(torch.cat(pieces, 1), whole["logits"], atol=1e-5)
    for value, expected in zip(state, list(whole.values())[1:], strict=True):
        assert torch.allclose(value, expected, atol=1e-5)


@pytest.mark.parametrize("name", CELLS)
def test_a_plain_cell_has_one_state(name):
    states = ["hidden", "cell"] if "lstm" in name else ["hidden"]
    assert list(verbs.inputs(build_small(name), "next_word")) == ["words", *states]


def test_between_words_and_logits_lies_torchs_lstm():
    """Embedding, torch.nn.LSTM with two layers, one linear layer; nothing else in evaluation."""
    network, words = build("lstm_medium", units=16, initial_range=0.4).eval(), words_of(9)
    torchs = nn.LSTM(16, 16, num_layers=2, batch_first=True)
    for depth, cell in enumerate(network.recurrent.cells):
        for name, weight in cell.named_parameters():
            getattr(torchs, name.replace("_l0", f"_l{depth}")).data.copy_(weight.data)
    state = torch.randn(3, 2, 16), torch.randn(3, 2, 16)
    outputs, ends = torchs(network.embedding.weight[words], tuple(part.transpose(0, 1).contiguous() for part in state))
    expected = outputs @ network.logits.weight.T + network.logits.bias
    found = network.next_word(words, *state)
    for value, wanted in zip(found.values(), (expected, *(end.transpose(0, 1) for end in ends)), strict=True):
        numpy.testing.assert_allclose(array(value), array(wanted), atol=1e-5)


@pytest.mark.parametrize("name", ["lstm_medium", "lstm_large"])
def test_dropout_is_where_the_tutorial_has_it(name):
    """On what goes into the first layer, between the layers, and into the logits; at the rate of params.yaml."""
    network, rate = build(name, units=200).train(), MODELS[name]["net"]["dropout"]
    first, last = [], []
    inputs_of(network.recurrent, first)
    inputs_of(network.logits, last)
    torch.manual_seed(0)
    next(network.losses((words_of(40), words_of(40), FRESH)))
    for values in (first[0], last[0]):
        assert float((values == 0).float().mean()) == pytest.approx(rate, abs=0.02)
    assert network.recurrent.dropout.p == rate


@pytest.mark.parametrize("name", LANGUAGE)
def test_weights_begin_in_their_range(name):
    """Uniform over +-initial_range, the bias of the logits too; recurrent biases at 0."""
    network, bound = build_small(name), MODELS[name]["net"]["initial_range"]
    for key, weight in network.named_parameters():
        if "bias_" in key:
            assert not weight.any()
        else:
            assert float(weight.detach().abs().max()) <= bound
            assert float(weight.detach().abs().max()) > 0.8 * bound
