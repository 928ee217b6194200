"""The handwritten digits of scikit-learn: 1,797 real images of 8x8 pixels, enlarged to MNIST's 28x28."""

import numpy
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from zoo.errors import InputError


def load(validation, test, split_seed):
    """Return (arrays, facts): three disjoint, stratified splits; images not held out are for training.

    Images are uint8 [n, 28, 28], ink 255; labels uint8 [n]. Raises InputError for impossible split sizes.
    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, doi:10.24432/C50P49
    (its test set, the part that scikit-learn carries).
    """
    source = load_digits()
    images = numpy.stack([enlarge(image) for image in source.images])
    labels = source.target.astype(numpy.uint8)
    items = {"train": numpy.arange(len(labels))}
    try:
        for split, size in (("test", test), ("validation", validation)):
            items["train"], items[split] = train_test_split(
                items["train"], test_size=size, stratify=labels[items["train"]], random_state=split_seed
            )
    except ValueError as error:
        given = f"params.yaml, source digits: validation: {validation}, test: {test}"
        raise InputError(f"{given} do not split {len(labels)} images of 10 classes ({error})") from None
    kinds = {"images": images, "labels": labels}
    arrays = {f"{split}_{kind}": values[index] for split, index in items.items() for kind, values in kinds.items()}
    return arrays, {"classes": 10, "class_names": [*"0123456789"], "licence": "CC BY 4.0 (UCI, Alpaydin and Kaynak)"}


def enlarge(image):
    """Resize an 8x8 image with ink 0..16 to uint8 [28, 28] with ink 0..255 by bicubic interpolation."""
    grey = Image.fromarray(numpy.round(image * (255 / 16)).astype(numpy.uint8))
    return numpy.asarray(grey.resize((28, 28), Image.Resampling.BICUBIC))
