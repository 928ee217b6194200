"""The machine that a latency was measured on: what stays, what changes by the minute, and the commit of the code."""

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
GPU_CONDITIONS = ("gpu_mhz", "gpu_memory_mhz", "gpu_watts", "gpu_celsius", "gpu_throttled_by")


def describe():
    """The properties of the machine and its software that a latency depends on. No host name, user or path."""
    return {
        "cpu": hardware.cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "governor": _governor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": of_gpu(pynvml.nvmlDeviceGetName),
        "driver": of_gpu(lambda _: pynvml.nvmlSystemGetDriverVersion()),
        "os": _system(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
        "torch": _version("torch"),
        "cuda": getattr(build_and_package_info, "cuda_version", None),
        "cudnn": _version("nvidia-cudnn-cu13"),
    }


def conditions():
    """The load, clocks, power and temperature now; None for what cannot be read."""
    frequency = psutil.cpu_freq()
    readings = {"load_of_one_minute": os.getloadavg()[0], "cpu_mhz": frequency.current if frequency else None}
    return readings | (of_gpu(_gpu_conditions) or dict.fromkeys(GPU_CONDITIONS))


def commit():
    """The commit that is checked out, with ", changed" where the code is not the commit's; None without git."""
    run = functools.partial(subprocess.check_output, text=True, stderr=subprocess.DEVNULL)
    try:
        name = run(["git", "log", "-1", "--format=%h"]).strip()
        return f"{name}, changed" if run(["git", "status", "--porcelain", "--", *CODE]) else name
    except (OSError, subprocess.CalledProcessError):
        return None


def of_gpu(read):
    """`read(handle)` of the first NVIDIA GPU, or None where there is none, or it does not tell."""
    try:
        pynvml.nvmlInit()
        try:
            return read(pynvml.nvmlDeviceGetHandleByIndex(0))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None


def _governor():
    file = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return file.read_text().strip() if file.exists() else None


def _gpu_conditions(gpu):
    prefix, bits = "nvmlClocksEventReason", pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
    reasons = {name.removeprefix(prefix): bit for name, bit in vars(pynvml).items() if name.startswith(prefix)}
    readings = (
        pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
        pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
        pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
        [name for name, bit in reasons.items() if isinstance(bit, int) and bits & bit and name != "All"],
    )
    return dict(zip(GPU_CONDITIONS, readings, strict=True))


def _version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _system():
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {system}"
    except OSError:
        return system
