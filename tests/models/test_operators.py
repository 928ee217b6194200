"""Single operators against NumPy and SciPy."""

import numpy
import pytest
import torch
from networks import array, build, image_batch
from scipy import ndimage


def result_of(name, image):
    with torch.no_grad():
        return build(name).eval().apply(image).numpy()


@pytest.mark.parametrize("name", ["op_upsample_nearest", "op_upsample_transposed"])
def test_upsampling_is_numpys_repeat(name):
    image = image_batch()[0]
    assert numpy.array_equal(result_of(name, image), image.numpy().repeat(2, axis=2).repeat(2, axis=3))


def test_a_strided_convolution_and_its_transpose_keep_an_odd_size():
    """9x9 -> 5x5: sums over 3x3 windows around every other place; back: each sum is spread over its window again."""
    image = torch.rand(4, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    window, expected = numpy.ones((3, 3)), numpy.zeros((4, 1, 9, 9))
    for n, pixels in enumerate(array(image)[:, 0]):
        sums = ndimage.correlate(pixels, window, mode="constant")[::2, ::2]
        assert sums.shape == (5, 5)
        spread = numpy.zeros((9, 9))
        spread[::2, ::2] = sums
        expected[n, 0] = ndimage.convolve(spread, window, mode="constant")
    numpy.testing.assert_allclose(result_of("op_odd_transposed", image), expected, rtol=1e-5)
    assert build("op_odd_transposed").image_size == 9


def test_unpooling_to_the_top_left():
    image = image_batch()[0]
    expected = numpy.zeros((12, 1, 56, 56), dtype=numpy.float32)
    expected[:, :, ::2, ::2] = image.numpy()
    assert numpy.array_equal(result_of("op_unpool_zero", image), expected)


def test_unpooling_to_where_the_maximum_was():
    """The first of equals, row by row; three quarters are 0."""
    image = (10 * image_batch()[0]).round() - 5  # many equal pixels, some below 0
    expected = numpy.zeros(image.shape, dtype=numpy.float32)
    for n, row, column in numpy.ndindex(12, 14, 14):
        block = image[n, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].numpy()
        down, right = numpy.unravel_index(block.argmax(), (2, 2))
        expected[n, 0, 2 * row + down, 2 * column + right] = block[down, right]
    assert numpy.array_equal(result_of("op_unpool_argmax", image), expected)


@pytest.mark.parametrize("name", ["op_batchnorm", "op_batchnorm_folded"])
def test_a_normalised_convolution_is_its_formula(name):
    """Weight (map, row, column) is sin(1 + 9 map + 3 row + column), the statistics those of its docstring."""
    image = image_batch(3)[0]
    weights = numpy.sin(1 + numpy.arange(72)).reshape(8, 3, 3)
    found = result_of(name, image)
    assert found.shape == (3, 8, 26, 26)
    for n, m in numpy.ndindex(3, 8):
        convolved = ndimage.correlate(array(image)[n, 0], weights[m])[1:-1, 1:-1]
        expected = (convolved - m / 8) / numpy.sqrt(1 + m + 1e-3) * numpy.cos(m) + numpy.sin(m)
        numpy.testing.assert_allclose(found[n, m], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["op_odd_transposed", "op_batchnorm"])
def test_an_operator_has_nothing_to_train(name):
    assert not any(weight.requires_grad for weight in build(name).parameters())
