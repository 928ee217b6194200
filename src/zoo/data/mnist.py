"""MNIST: 70,000 handwritten digits, downloaded; the first training images are held out for validation."""

import numpy

from zoo.data.fetch import fetch
from zoo.errors import InputError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)

# sha256 of the decompressed files: the mirrors compress them differently
FILES = {
    "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load(validation):
    """Return (arrays, facts): 60,000 - `validation` training, `validation` validation and 10,000 test images.

    Images are uint8 [n, 28, 28], ink 255; labels uint8 [n]. The first `validation` training images are held
    out, as TensorFlow does (5,000). Raises InputError if no mirror has the files.
    Source: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.
    """
    shapes = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
    if not 0 < validation < shapes[0][0]:
        raise InputError(f"params.yaml, source mnist: validation: {validation} is not in 1 .. 59999")
    contents = [(fetch("mnist", name, digest, MIRRORS), name) for name, digest in FILES.items()]
    images, labels, *test = (parse_idx(*file, shape) for file, shape in zip(contents, shapes, strict=True))
    arrays = dict(zip(("test_images", "test_labels"), test, strict=True))
    for split, part in (("train", slice(validation, None)), ("validation", slice(validation))):
        arrays |= {f"{split}_images": images[part], f"{split}_labels": labels[part]}
    return arrays, {"classes": 10, "class_names": [*"0123456789"], "licence": "CC BY-SA 3.0 (LeCun, Cortes and Burges)"}


def parse_idx(content, name, shape):
    """Return the uint8 array of the given shape in the bytes of an IDX file. Raises InputError for any other content.

    The big-endian header is two zero bytes, 0x08 for uint8, the number of axes, and each axis's 32-bit length.
    """
    header = bytes((0, 0, 0x08, len(shape))) + b"".join(length.to_bytes(4, "big") for length in shape)
    values = numpy.frombuffer(content, numpy.uint8, offset=min(len(header), len(content)))
    if not content.startswith(header) or values.size != numpy.prod(shape):
        raise InputError(f"{name} is not an IDX file of {shape} bytes: fetch it again or from another mirror")
    return values.reshape(shape)
