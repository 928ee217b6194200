"""What is read of the machine, with and without a GPU, and the commit of the code."""

import json
import re
import socket
import subprocess

import pynvml
import pytest

from zoo.latency import machine


def test_the_description_names_nobody_and_no_place():
    description = machine.describe()
    text = json.dumps(description)
    assert description["cores"] >= 1
    assert description == machine.describe()
    assert socket.gethostname() not in re.findall(r"[\w.-]+", " ".join(map(str, description.values())))
    assert not any(folder in text for folder in ("/home", "/root", "/tmp", "/work"))


def test_conditions_without_a_gpu_are_blank(monkeypatch):
    def missing():
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    read = machine.conditions()
    assert read["load_of_one_minute"] >= 0
    assert {value for name, value in read.items() if name.startswith("gpu")} == {None}


@pytest.fixture
def nvml(monkeypatch):
    """The driver's library replaced: 0x60 are the two bits that its header calls thermal slow-downs."""
    answers = {
        "nvmlInit": lambda: None, "nvmlShutdown": lambda: None, "nvmlDeviceGetHandleByIndex": lambda index: "gpu",
        "nvmlDeviceGetName": lambda gpu: "H100", "nvmlSystemGetDriverVersion": lambda: "580",
        "nvmlDeviceGetClockInfo": lambda gpu, kind: {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind],
        "nvmlDeviceGetPowerUsage": lambda gpu: 123_400, "nvmlDeviceGetTemperature": lambda gpu, kind: 41,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x60,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


READ = {
    "gpu_mhz": 1980, "gpu_memory_mhz": 2619, "gpu_watts": 123.4, "gpu_celsius": 41,
    "gpu_throttled_by": ["SwThermalSlowdown", "HwThermalSlowdown"],
}  # fmt: skip


def test_conditions_of_a_gpu(nvml):
    read = machine.conditions()
    assert {name: value for name, value in read.items() if name.startswith("gpu")} == READ


@pytest.mark.parametrize(
    ("call", "blank"),
    [
        ("nvmlDeviceGetClockInfo", {"gpu_mhz", "gpu_memory_mhz"}),
        ("nvmlDeviceGetPowerUsage", {"gpu_watts"}),
        ("nvmlDeviceGetTemperature", {"gpu_celsius"}),
        ("nvmlDeviceGetCurrentClocksEventReasons", {"gpu_throttled_by"}),
        ("nvmlDeviceGetHandleByIndex", set(READ)),
    ],
)
def test_a_reading_that_the_gpu_does_not_give_leaves_the_others(nvml, monkeypatch, call, blank):
    def refuse(*_):
        raise pynvml.NVMLError_NotSupported

    monkeypatch.setattr(pynvml, call, refuse)
    read = machine.conditions()
    assert {name: read[name] for name in READ} == READ | dict.fromkeys(blank)


def test_a_gpu_is_described_by_what_it_tells(nvml, monkeypatch):
    def refuse(*_):
        raise pynvml.NVMLError_NoPermission

    described = machine.describe()
    assert (described["gpu"], described["driver"]) == ("H100", "580")
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", refuse)
    assert machine.describe() == described | {"driver": None}
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", refuse)
    assert machine.describe() == described | {"driver": None, "gpu": None}


def test_the_commit_says_whether_the_code_is_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert machine.commit() is None
    (tmp_path / "params.yaml").write_text("a: 1")
    for arguments in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a"]):
        subprocess.run(["git", *arguments], check=True)
    name = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "new.json").write_text("{}")
    assert machine.commit() == name
    (tmp_path / "params.yaml").write_text("a: 2")
    assert machine.commit() == f"{name}, changed"
