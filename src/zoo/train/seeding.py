"""Set-up of a run: random seed, number of threads, device, and settings of speed and precision.

Equal seeds give equal weights on the same machine with the same number of threads. They may not on another CPU or GPU
model, with another torch build, or with the few CUDA operations that are not deterministic (torch warns about them).
"""

import ctypes
import os
import warnings

import torch

from zoo.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def prepare(seed, threads, device, tf32=False):
    """Seed torch, set its threads, speed and precision, and return the torch.device for `auto`, `cpu` or `cuda`.

    Denormal numbers are flushed to zero: when a gradient has become 0, Adam's moving average of it decays into them,
    and a step takes ten times as long. Raises InputError if `cuda` is requested but not available.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS sums in varying order
    keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it takes time and changes no result here
    set_precision(tf32)
    torch.manual_seed(seed)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("params.yaml: device = cuda, but torch finds no CUDA device here: set it to auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def set_precision(tf32):
    """Make CUDA multiply float32 numbers in full precision, or with `tf32` rounded to ten bits of mantissa.

    Matrix products, convolutions and recurrent layers are set separately: in torch 2.11 the global setting leaves cuDNN
    at TF32. The older switches are set too: torch.export and torch.compile read them and fail if they disagree.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that they are deprecated
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    for products in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
        products.fp32_precision = "tf32" if tf32 else "ieee"


def generator(seed):
    """A separate generator for the order of the data, so that the order does not depend on what a network draws.

    It is on the CPU, so a seed gives the same order on every device.
    """
    return torch.Generator().manual_seed(seed)


def keep_freed_memory():
    """Make glibc keep freed memory for the next step instead of returning it to the system.

    The system zeroes each page that it hands out: an eighth of the time of a language model or a large convolution.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
