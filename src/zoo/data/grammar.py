"""Synthetic text from a finite automaton, whose exact entropy is the lower bound of every model's loss.

The subject's noun determines kind (person, thing) and number (one, many). Its verbs and reflexive pronoun agree with
both, across any number of attachments ("near the old lamps") whose nouns need not agree: a model that remembers only
the last few words cannot predict them. Example: "our bakers near the clock wander by themselves <eos>".
"""

from collections import Counter

import numpy

from zoo.data import archive

TABLE = """
persons baker farmer teacher sailor singer doctor weaver miner hunter painter guard mayor judge clerk nurse
persons barber potter tailor porter pilot dancer poet miller trader ranger
things lamp wheel bridge door clock bell engine kettle ladder mirror stove pump gate wagon boat tower mill
things hammer drum fountain chimney barrel rope kite candle
persons_do laugh wait sleep sing work listen wander smile complain argue whisper yawn frown nod travel pray
persons_do gamble cheat dream rest
things_do creak rust break shine rattle crack leak spin stall wobble glow tilt smoke hum jam fade swing
things_do tremble steam drip
determiners the our their your my
adjectives old small red quiet heavy new strange green broad clean dark plain famous narrow bright pale
adverbs slowly again often today badly gently twice loudly seldom early still alone
prepositions near behind under beside above beyond inside against around opposite
openers yesterday sometimes now here perhaps later meanwhile outside
"""
LINES = [line.split() for line in TABLE.strip().splitlines()]
WORDS = {name: [word for line in LINES if line[0] == name for word in line[1:]] for name, *_ in LINES}
# (kind, number) of the subject -> the words that agree with it
SUBJECTS = [(kind, number) for kind in ("person", "thing") for number in ("one", "many")]
NOUNS = {(kind, number): [noun + "s" * (number == "many") for noun in WORDS[f"{kind}s"]] for kind, number in SUBJECTS}
VERBS = {(kind, number): [verb + "s" * (number == "one") for verb in WORDS[f"{kind}s_do"]] for kind, number in SUBJECTS}
REFLEXIVES = dict(zip(SUBJECTS, (["himself", "herself"], ["themselves"], ["itself"], ["themselves"]), strict=True))

WORD_IDS = (
    "index, from 0, into the words of the grammar sorted by descending frequency, ties by code point; "
    "<eos> ends a sentence; there are no words outside the vocabulary"
)


def transitions(place, subject):
    """Return how a sentence can continue from a place: a list of (probability, words, next place, subject)."""
    adjectives, determiners, verbs = WORDS["adjectives"], WORDS["determiners"], VERBS.get(subject)
    ways = {
        "start": [(0.3, WORDS["openers"], "opened", None), (0.7, determiners, "subject", None)],
        "opened": [(1.0, determiners, "subject", None)],
        "subject": [(0.3, adjectives, "subject", None),
                    *((0.175, nouns, "predicate", agreement) for agreement, nouns in NOUNS.items())],
        "predicate": [(0.5, WORDS["prepositions"], "attached", subject), (0.5, verbs, "said", subject)],
        "attached": [(1.0, determiners, "attachment", subject)],
        "attachment": [(0.2, adjectives, "attachment", subject),
                       *((0.2, nouns, "predicate", subject) for nouns in NOUNS.values())],
        "said": [(0.3, ["<eos>"], "start", None), (0.2, WORDS["adverbs"], "end", subject),
                 (0.2, ["by"], "reflexive", subject), (0.3, ["and"], "joined", subject)],
        "joined": [(1.0, verbs, "said", subject)],
        "reflexive": [(1.0, REFLEXIVES.get(subject), "end", subject)],
        "end": [(0.7, ["<eos>"], "start", None), (0.3, ["and"], "joined", subject)],
    }  # fmt: skip
    return ways[place]


START = ("start", None)


def automaton():
    """Return {state: {word: (probability, next state)}}; a state is (place, subject), the first is START.

    Each word leads from a state to exactly one next state, so the words so far determine the state. Within a list of
    words, probabilities are proportional to 1 / rank (Zipf).
    """
    states, waiting = {}, [START]
    while waiting:
        state = waiting.pop()
        states[state] = {}
        for share, words, place, subject in transitions(*state):
            weights = 1 / numpy.arange(1, len(words) + 1)
            for word, weight in zip(words, weights / weights.sum(), strict=True):
                states[state][word] = (share * float(weight), (place, subject))
            if (place, subject) not in states and (place, subject) not in waiting:
                waiting.append((place, subject))
    return states


def stationary(states):
    """Return {state: share of all words emitted from it}: the solution of pi = pi P, sum pi = 1."""
    number = {state: item for item, state in enumerate(states)}
    change = -numpy.eye(len(states))
    for state, words in states.items():
        for probability, following in words.values():
            change[number[following], number[state]] += probability
    equations = numpy.vstack([change, numpy.ones(len(states))])
    values = numpy.append(numpy.zeros(len(states)), 1.0)
    return dict(zip(states, numpy.linalg.lstsq(equations, values)[0].tolist(), strict=True))


def entropy_rate(states):
    """Return the entropy of a word given all words before it, in nats: the lower bound of every model's loss.

    Because the words determine the state, it is the entropy of a state's words, averaged over `stationary`
    (C. Shannon, A Mathematical Theory of Communication, 1948, theorem 5). Its exponential is the perplexity.
    """
    probabilities = {state: [p for p, _ in words.values()] for state, words in states.items()}
    entropies = {state: -numpy.dot(p, numpy.log(p)) for state, p in probabilities.items()}
    return float(sum(share * entropies[state] for state, share in stationary(states).items()))


def draw(states, count, generator):
    """Return a text of `count` words that begins a sentence; the last sentence may be cut off."""
    words = {state: list(ways) for state, ways in states.items()}
    sums = {state: numpy.cumsum([p for p, _ in ways.values()]) for state, ways in states.items()}
    text, state = [], START
    for chance in generator.random(count):
        item = min(int(numpy.searchsorted(sums[state], chance, side="right")), len(words[state]) - 1)
        text.append(words[state][item])
        state = states[state][text[-1]][1]
    return text


def nats_per_word(states, text):
    """Return the loss of the true distribution on a text that begins a sentence, in nats, averaged over words."""
    total, state = 0.0, START
    for word in text:
        probability, state = states[state][word]
        total -= numpy.log(probability)
    return float(total / len(text))


def load(train, validation, test, seed):
    """Return (arrays, facts): train, validation, test int32 [words], ids into vocabulary (unicode [V]).

    The texts are drawn independently; each begins a sentence. `floor_nats_per_word` is the bound for infinite text;
    `test_nats_per_word` is the loss of the true distribution on this test text, which scatters around it.
    """
    states = automaton()
    share = stationary(states)
    frequency = Counter()
    for state, words in states.items():
        frequency.update({word: share[state] * probability for word, (probability, _) in words.items()})
    # rounded, so that floating-point errors do not order equally frequent words
    vocabulary = sorted(frequency, key=lambda word: (-round(frequency[word], 9), word))
    counts = {"train": train, "validation": validation, "test": test}
    generators = numpy.random.default_rng(seed).spawn(len(counts))
    texts = {split: draw(states, counts[split], drawn) for split, drawn in zip(counts, generators, strict=True)}
    return archive.encode_words(texts, vocabulary), {
        "vocabulary": len(vocabulary),
        "end_of_sentence": vocabulary.index("<eos>"),
        "word_ids": WORD_IDS,
        "word_list_sha256": archive.list_sha256(vocabulary),
        "floor_nats_per_word": round(entropy_rate(states), 9),
        "test_nats_per_word": round(nats_per_word(states, texts["test"]), 9),
        "licence": "this project's own (MIT)",
    }
