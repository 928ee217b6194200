"""Describe the machine that measures latencies: its properties, its current load and clocks, and the commit."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import numpy
import onnxruntime
import psutil
import pynvml
from onnxruntime.capi import build_and_package_info

from zoo import hardware

CODE = ("src", "stages", "params.yaml")


def describe():
    """The properties of the hardware and software that affect latency; no host name, user or path."""
    gpu, driver = of_gpu(pynvml.nvmlDeviceGetName, lambda _: pynvml.nvmlSystemGetDriverVersion())
    return {
        "cpu": hardware.cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "governor": _governor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu,
        "driver": driver,
        "os": _system(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "torch": version("torch"),
        "cuda": getattr(build_and_package_info, "cuda_version", None),
        "cudnn": version("nvidia-cudnn-cu13"),
    }


def conditions():
    """The current load, clocks, power and temperature; None for values that cannot be read."""
    frequency = psutil.cpu_freq()
    readings = {"load_of_one_minute": os.getloadavg()[0], "cpu_mhz": frequency.current if frequency else None}
    of_this_gpu = {
        "gpu_mhz": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        "gpu_memory_mhz": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
        "gpu_watts": lambda gpu: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
        "gpu_celsius": lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
        "gpu_throttled_by": _throttled_by,
    }
    return readings | dict(zip(of_this_gpu, of_gpu(*of_this_gpu.values()), strict=True))


def commit():
    """The checked-out commit, followed by ", changed" if the code differs from it; None without git."""
    run = functools.partial(subprocess.check_output, text=True, stderr=subprocess.DEVNULL)
    try:
        name = run(["git", "log", "-1", "--format=%h"]).strip()
        return f"{name}, changed" if run(["git", "status", "--porcelain", "--", *CODE]) else name
    except (OSError, subprocess.CalledProcessError):
        return None


def version(distribution):
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def of_gpu(*readings):
    """[reading(handle of the first NVIDIA GPU)] for each of `readings`; None if unsupported, or without a GPU."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [None] * len(readings)
    try:
        return [_told(reading) for reading in readings]
    finally:
        pynvml.nvmlShutdown()


def _told(reading):
    try:
        return reading(pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        return None


def _governor():
    file = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return file.read_text().strip() if file.exists() else None


def _throttled_by(gpu):
    prefix, bits = "nvmlClocksEventReason", pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
    reasons = {name.removeprefix(prefix): bit for name, bit in vars(pynvml).items() if name.startswith(prefix)}
    return [name for name, bit in reasons.items() if isinstance(bit, int) and bits & bit and name != "All"]


def _system():
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {system}"
    except OSError:
        return system
