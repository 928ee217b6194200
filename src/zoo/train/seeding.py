"""What a run finds before it begins: one seed for everything that draws, one thread count, one device, a fast CPU.

Equal seeds give equal weights on one machine at one thread count. Not covered: another CPU or GPU model, another
torch build, and on CUDA the few operations that have no deterministic form (torch warns as it meets them).
"""

import ctypes
import os
import warnings

import torch

from zoo.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def prepare(seed, threads, device, tf32=False):
    """Seed torch, set its threads, have the CPU work fast, and return the torch.device for `auto`, `cpu` or `cuda`.

    Denormal float32 numbers count as 0 from here on: Adam's mean of a gradient that has become 0 would end among them,
    and make a step take ten times as long. Raises InputError where `cuda` is asked for and absent.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS sums in varying order
    keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it costs time, and changes no result here
    set_precision(tf32)
    torch.manual_seed(seed)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("params.yaml: device = cuda, but torch finds no CUDA device here: set it to auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def set_precision(tf32):
    """Have CUDA multiply float32 numbers as they are, or with `tf32` rounded to ten bits of mantissa.

    Matrices, convolutions and recurrent layers each: in torch 2.11 a setting for all leaves cuDNN's at TF32. The older
    switches say the same: torch.export and torch.compile read those, and fail where they say something else.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that they are older
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    for products in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
        products.fp32_precision = "tf32" if tf32 else "ieee"


def generator(seed):
    """A generator of its own for the order of the data, so that it does not shift with what a network draws.

    It draws on the CPU: a seed means the same order on every device.
    """
    return torch.Generator().manual_seed(seed)


def keep_freed_memory():
    """Have glibc keep freed blocks for the next step, in place of returning them to the system.

    The system clears the pages that it hands out: an eighth of the time of a language model or a large convolution.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
