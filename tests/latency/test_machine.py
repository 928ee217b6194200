"""What is read of the machine, with and without a GPU, and the commit of the code."""

import json
import socket
import subprocess

import pynvml

from zoo.latency import machine


def test_the_description_names_nobody_and_no_place():
    description = machine.describe()
    text = json.dumps(description)
    assert description["cores"] >= 1
    assert description == machine.describe()
    assert socket.gethostname() not in text
    assert not any(folder in text for folder in ("/home", "/root", "/tmp", "/work"))


def test_conditions_without_a_gpu_are_blank(monkeypatch):
    def missing():
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    read = machine.conditions()
    assert read["load_of_one_minute"] >= 0
    assert {value for name, value in read.items() if name.startswith("gpu")} == {None}


def test_conditions_of_a_gpu(monkeypatch):
    """The driver's library replaced: 0x60 are the two bits that its header calls thermal slow-downs."""
    answers = {
        "nvmlInit": lambda: None, "nvmlShutdown": lambda: None, "nvmlDeviceGetHandleByIndex": lambda index: "gpu",
        "nvmlDeviceGetClockInfo": lambda gpu, kind: {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind],
        "nvmlDeviceGetPowerUsage": lambda gpu: 123_400, "nvmlDeviceGetTemperature": lambda gpu, kind: 41,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x60,
    }  # fmt: skip
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    read = machine.conditions()
    assert (read["gpu_mhz"], read["gpu_memory_mhz"], read["gpu_watts"], read["gpu_celsius"]) == (1980, 2619, 123.4, 41)
    assert read["gpu_throttled_by"] == ["SwThermalSlowdown", "HwThermalSlowdown"]


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
