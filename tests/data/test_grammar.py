"""The grammar's floor, against four computations that do not use the formula that made it."""

from functools import cache

import numpy
import pytest
import scipy.stats

from zoo.data import archive, grammar


@cache
def rules():
    """The automaton, its words in one order, and as arrays: chance[state, word], following[state, word]."""
    states = grammar.automaton()
    words = sorted({word for ways in states.values() for word in ways})
    chance = numpy.zeros((len(states), len(words)))
    following = numpy.full(chance.shape, -1)
    for row, ways in enumerate(states.values()):
        for word, (probability, state) in ways.items():
            chance[row, words.index(word)] = probability
            following[row, words.index(word)] = list(states).index(state)
    return states, words, chance, following


@cache
def long_text():
    """300,000 words as numbers, drawn here by numpy's choice, a state at a time, not by `grammar.draw`."""
    states, words, chance, following = rules()
    generator = numpy.random.default_rng(1)
    pools = [generator.choice(len(words), 100_000, p=row).tolist() for row in chance]
    text, row = [], list(states).index(grammar.START)
    for _ in range(300_000):
        if not pools[row]:
            pools[row] = generator.choice(len(words), 100_000, p=chance[row]).tolist()
        text.append(pools[row].pop())
        row = following[row, text[-1]]
    return text


def ngram_entropy(order):
    """The exact entropy of a word given the `order - 1` before it, in endless text: a sum over states."""
    states, _, chance, following = rules()
    share = numpy.array(list(grammar.stationary(states).values()))
    histories = {(): share}  # words -> [states], how likely each state is after them, jointly
    for _ in range(order - 1):
        longer = {}
        for history, weights in histories.items():
            for row in numpy.flatnonzero(weights):
                for word in numpy.flatnonzero(chance[row]):
                    sums = longer.setdefault((*history, int(word)), numpy.zeros(len(states)))
                    sums[following[row, word]] += weights[row] * chance[row, word]
        histories = longer
    entropy = 0.0
    for weights in histories.values():
        joint = weights @ chance
        joint = joint[joint > 0]
        entropy -= joint @ numpy.log(joint / weights.sum())
    return entropy


def test_words_determine_the_state():
    """A word that two ways share would take one's place in a state's words, and the sum would not be one."""
    states, words, chance, _ = rules()
    numpy.testing.assert_allclose(chance.sum(axis=1), 1, atol=1e-12)
    for state, ways in states.items():
        said = [word for _, group, _, _ in grammar.transitions(*state) for word in group]
        assert len(said) == len(set(said)) == len(ways)
        assert all(following in states for _, following in ways.values())
    assert 200 <= len(words) <= 400


def test_every_sentence_ends_where_it_began():
    for ways in rules()[0].values():
        for word, (_, state) in ways.items():
            assert (word == "<eos>") == (state == grammar.START)


def test_floor_is_entropy_of_a_sentence_over_its_length():
    """Chain rule: a sentence's entropy, and its length, solve value = own + (chances of going on) value."""
    states, words, chance, following = rules()
    onward = numpy.zeros((len(states), len(states)))
    for row, item in zip(*numpy.nonzero(chance), strict=True):
        if words[item] != "<eos>":
            onward[row, following[row, item]] += chance[row, item]
    logarithms = numpy.log(chance, where=chance > 0, out=numpy.zeros_like(chance))
    own = numpy.stack([-(chance * logarithms).sum(axis=1), numpy.ones(len(states))], axis=1)
    entropy, length = numpy.linalg.solve(numpy.eye(len(states)) - onward, own)[0]
    assert next(iter(states)) == grammar.START
    assert grammar.entropy_rate(states) == pytest.approx(entropy / length, rel=1e-12)
    assert grammar.stationary(states)[grammar.START] == pytest.approx(1 / length, rel=1e-9)


def test_floor_is_the_loss_on_a_long_text():
    """By the forward algorithm, which carries a chance for every state, and so trusts no word to tell it."""
    states, words, chance, following = rules()
    text = long_text()[:100_000]
    moves = {}
    for item in range(len(words)):
        matrix = numpy.zeros((len(states), len(states)))
        for row in numpy.flatnonzero(chance[:, item]):
            matrix[row, following[row, item]] += chance[row, item]
        moves[item] = matrix
    belief, losses = numpy.eye(len(states))[0], []
    for item in text:
        belief = belief @ moves[item]
        losses.append(-numpy.log(belief.sum()))
        belief /= belief.sum()
        assert belief.max() == 1.0, "the words so far determine the state"
    assert grammar.nats_per_word(states, [words[item] for item in text]) == pytest.approx(numpy.mean(losses))
    parts = numpy.mean(numpy.reshape(losses, (100, -1)), axis=1)  # long parts are all but independent
    error = parts.std(ddof=1) / numpy.sqrt(len(parts))
    assert error < 0.005
    assert abs(parts.mean() - grammar.entropy_rate(states)) < 4 * error


def test_floor_by_counting_words_after_each_state_of_affairs():
    """Frequencies alone: the entropy of a word, given the place in its sentence and the subject."""
    states, words, _, _ = rules()
    counts, state = {}, grammar.START
    for item in long_text():
        word = words[item]
        counts.setdefault(state, {}).setdefault(word, 0)
        counts[state][word] += 1
        state = states[state][word][1]
    total = entropy = 0.0
    for row in counts.values():
        values = numpy.array(list(row.values()), float)
        total += values.sum()
        entropy -= values @ numpy.log(values / values.sum())
    assert entropy / total == pytest.approx(grammar.entropy_rate(states), abs=0.01)


def test_memory_pays():
    """Exact entropies fall with the memory of an n-gram, and three words before leave much to be had."""
    unigram, bigram, trigram = (ngram_entropy(order) for order in (1, 2, 3))
    floor = grammar.entropy_rate(rules()[0])
    assert unigram > bigram > trigram > floor + 0.1


def test_bigram_entropy_is_what_a_text_shows():
    """The exact sum against counts of pairs, less their bias (G. Miller, 1955: cells / twice the counts)."""
    text = numpy.array(long_text())
    size = len(rules()[1])
    pairs = numpy.bincount(text[:-1] * size + text[1:], minlength=size * size).reshape(size, size)
    firsts = pairs.sum(axis=1)
    total = pairs.sum()
    counted = sum((row[row > 0] / total) @ numpy.log(row.sum() / row[row > 0]) for row in pairs)
    bias = (numpy.count_nonzero(pairs) - numpy.count_nonzero(firsts)) / (2 * total)
    assert counted + bias == pytest.approx(ngram_entropy(2), abs=0.01)


def test_verbs_agree_across_attachments():
    """Read as a person would: the subject is the first noun, and every verb is of its kind and number."""
    words = [rules()[1][item] for item in long_text()]
    sentences, distances = " ".join(words).split(" <eos> ")[:-1], []
    nouns, verbs = (
        {word: [kind for kind, said in kinds.items() if word in said] for word in rules()[1]}
        for kinds in (grammar.NOUNS, grammar.VERBS)
    )
    for sentence in sentences:
        subject, at = None, 0
        for place, word in enumerate(sentence.split()):
            if nouns[word] and subject is None:
                subject, at = nouns[word][0], place
            if verbs[word]:
                assert verbs[word] == [subject]
                distances.append(place - at)
    assert max(distances) > 20
    assert numpy.mean(numpy.array(distances) > 3) > 0.3


def test_text_is_the_seed_s_and_splits_do_not_depend_on_one_another():
    arrays, facts = grammar.load(train=3000, validation=200, test=400, seed=0)
    assert [len(arrays[split]) for split in ("train", "validation", "test")] == [3000, 200, 400]
    longer, _ = grammar.load(train=5000, validation=200, test=400, seed=0)
    assert numpy.array_equal(longer["train"][:3000], arrays["train"])
    assert numpy.array_equal(longer["test"], arrays["test"])
    other, _ = grammar.load(train=3000, validation=200, test=400, seed=1)
    assert not numpy.array_equal(other["test"], arrays["test"])
    assert not numpy.array_equal(arrays["train"][:200], arrays["validation"])
    assert arrays["vocabulary"][facts["end_of_sentence"]] == "<eos>"
    assert facts["word_list_sha256"] == archive.list_sha256(arrays["vocabulary"])
    assert len(arrays["vocabulary"]) == facts["vocabulary"] == len(rules()[1])
    words = arrays["vocabulary"][arrays["test"]].tolist()
    assert facts["test_nats_per_word"] == pytest.approx(grammar.nats_per_word(rules()[0], words), abs=1e-8)
    assert facts["floor_nats_per_word"] == pytest.approx(grammar.entropy_rate(rules()[0]), abs=1e-8)


def test_drawn_text_follows_the_rules():
    """The source's own draw: words as frequent as the vocabulary's order says, loss as high as the floor."""
    arrays, facts = grammar.load(train=1, validation=1, test=300_000, seed=2)
    counts = numpy.bincount(arrays["test"], minlength=len(arrays["vocabulary"]))
    assert scipy.stats.spearmanr(numpy.arange(len(counts)), counts).statistic < -0.99
    assert facts["test_nats_per_word"] == pytest.approx(facts["floor_nats_per_word"], abs=0.015)
