"""Compare `zoo repro` with plain `dvc repro` in time and result, including runs killed at random moments.

    python benchmarks/repro.py [PART...]    # overhead, kills, quick, quick_kills; default: all
    python benchmarks/repro.py --page       # only rewrite README.md

overhead     CPU seconds of a first run and of one with nothing to do, for 20 to 540 trivial stages (`echo`). Plain
             `dvc repro` reads params.yaml for each stage and rewrites dvc.lock after each, so its cost grows with the
             square of the number of stages; the cost of `zoo repro` should grow linearly.
quick        The quick profile in fresh clones of the commit, without caches: plain, -j 1, -j 2, one after another. The
             entries in dvc.lock must be equal, except for measured times and the report that shows them.
kills        A pipeline of small stages is killed at ten random moments by SIGTERM or SIGKILL, and run again each time:
             dvc.lock must equal that of an undisturbed run, byte for byte.
quick_kills  The same at ten moments within one run of the quick profile.

Ratios compare measurements of the same part in the same run. Results go to repro.json beside this file.
"""

import functools
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page
import yaml

ROOT = Path(__file__).resolve().parents[1]
SIZES = (20, 60, 180, 540)
PLAIN_MAX_SECONDS = 300  # after which plain `dvc repro` is stopped, and the stages that it started are counted
KILLS, SEED = 10, 0  # the seed of the random moments


def main():
    parts = {"overhead": overhead, "kills": kills, "quick": quick, "quick_kills": quick_kills}
    tables = {"overhead": overhead_table, "quick": quick_table, "kills": kills_table, "quick_kills": kills_table}
    in_folders = {name: functools.partial(in_a_folder, part) for name, part in parts.items()}
    page.run(__file__, __doc__.splitlines()[0], in_folders, tables)


def in_a_folder(part):
    """Run a part in a temporary folder; return its result."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        return part(Path(folder), random.Random(SEED))


# ---- parts


def overhead(folder, _):
    rows = []
    for size in SIZES:
        ours, plain = folder / f"ours{size}", folder / f"plain{size}"
        trivial(ours, size)
        shutil.copytree(ours, plain)
        row = {"stages": size, "zoo_first": timed(ours, "zoo", "repro", "-j", "2")}
        row["zoo_again"] = timed(ours, "zoo", "repro", "-j", "2", expected="up to date")
        row["dvc_again"] = timed(ours, "dvc", "repro", expected="up to date")
        row["dvc_first"] = timed(plain, "dvc", "repro", max_seconds=PLAIN_MAX_SECONDS)
        if not row["dvc_first"]["stopped"]:
            row["same_lock"] = text(ours) == text(plain)
        print(json.dumps(row), flush=True)
        rows.append(row)
    return {"rows": rows}


def quick(folder, _):
    rows, locks = {}, {}
    for command in ("dvc repro", "zoo repro -j 1", "zoo repro -j 2"):
        project = clone(folder / command.replace(" ", ""))
        rows[command] = timed(project, *command.split())
        locks[command] = entries(project)
        print(command, json.dumps(rows[command]), flush=True)
        timed(project, "dvc", "status", "dvc.yaml", expected="up to date")
    plain, *ours = map(without_times, locks.values())
    return {"rows": rows, "stages": len(locks["dvc repro"]), "same_entries": all(lock == plain for lock in ours)}


def kills(folder, moments):
    untouched = folder / "untouched"
    trivial(untouched, 40, slow="sleep 0.1 && ")
    started = folder / "started"
    shutil.copytree(untouched, started)
    seconds = timed(untouched, "zoo", "repro", "-j", "2")["wall_seconds"]
    rows = []
    for number in range(KILLS):
        project = folder / f"killed{number}"
        shutil.copytree(started, project)
        how = moments.choice([signal.SIGTERM, signal.SIGKILL])
        after = moments.uniform(0.3, seconds)
        kill(project, how, after)
        kept = len(entries(project))
        timed(project, "zoo", "repro", "-j", "2")
        same = text(project) == text(untouched)
        rows.append({"signal": how.name, "after_seconds": after, "kept_stages": kept, "same_lock": same})
        print(json.dumps(rows[-1]), flush=True)
    return {"rows": rows, "stages": len(entries(untouched)), "undisturbed_seconds": seconds}


def quick_kills(folder, moments):
    untouched, project, rows = clone(folder / "untouched"), clone(folder / "killed"), []
    seconds = timed(untouched, "zoo", "repro", "-j", "2")["wall_seconds"]
    chosen = sorted(moments.uniform(0, seconds) for _ in range(KILLS))
    for begin, end in itertools.pairwise([0, *chosen]):
        how = moments.choice([signal.SIGTERM, signal.SIGKILL])
        kill(project, how, end - begin)
        rows.append({"signal": how.name, "after_seconds": end - begin, "kept_stages": len(entries(project))})
        print(json.dumps(rows[-1]), flush=True)
    timed(project, "zoo", "repro", "-j", "2")
    timed(project, "dvc", "status", "dvc.yaml", expected="up to date")
    same = without_times(entries(project)) == without_times(entries(untouched))
    order = list(entries(project)) == list(entries(untouched))
    return {"rows": rows, "stages": len(entries(untouched)), "same_entries": same and order}


# ---- projects


def trivial(folder, size, slow=""):
    """A DVC project of `size` stages in the shape of the zoo's pipeline: train, export, evaluate, benchmark, report."""
    (folder / "stages").mkdir(parents=True)
    (folder / "stages" / "stage.py").write_text("# what every stage depends on\n")
    experiment = {
        "net": {"hidden": [200, 100], "code": 32, "activation": "relu", "loss": "bce"}, "fit": {"batch": 60},
        "steps": {"quick": 300, "full": 5000},
        "players": {"model": {"algorithm": "Adam", "lr": 1.0e-5, "updates": "all"}},
    }  # fmt: skip
    count = -(-(size - 2) // 3)
    models = {f"m{number:03}": experiment for number in range(count)}
    extra = count * 3 + 2 - size  # the last experiments, which are not evaluated
    each = {
        "train": {
            "cmd": "mkdir -p a/weights r/curves && echo ${key} > a/weights/${key} && echo 1 > r/curves/${key}.csv",
            "params": [f"models.${{key}}.{name}" for name in ("net", "fit", "players", "steps.quick")],
            "outs": ["a/weights/${key}"], "plots": [{"r/curves/${key}.csv": {"cache": False}}],
        },
        "export": {
            "cmd": "mkdir -p a/graphs/${key} r/parity && cp a/weights/${key} a/graphs/${key}; echo 1 > r/parity/${key}",
            "deps": ["a/weights/${key}"], "outs": ["a/graphs/${key}"],
            "metrics": [{"r/parity/${key}": {"cache": False}}],
        },
        "evaluate": {
            "cmd": "mkdir -p r/metrics && echo '{\"mse\": 1}' > r/metrics/${item}.json",
            "deps": ["a/graphs/${item}"], "metrics": [{"r/metrics/${item}.json": {"cache": False}}],
        },
    }  # fmt: skip
    stages = {name: {"foreach": "${models}", "do": entry} for name, entry in each.items()}
    stages["evaluate"]["foreach"] = list(models)[: count - extra]
    stages["benchmark"] = {
        "cmd": "mkdir -p r/latency && echo 5 > r/latency/structure.json", "meta": {"alone": True},
        "deps": ["a/graphs"], "outs": [{"r/latency": {"cache": False, "persist": True}}],
    }  # fmt: skip
    for entry in (*each.values(), stages["benchmark"]):
        entry |= {"cmd": slow + entry["cmd"], "deps": ["stages/stage.py", *entry.get("deps", [])]}
    stages["report"] = {"cmd": "ls r/curves > r/index.txt", "deps": ["r/curves", "r/parity", "r/metrics", "r/latency"],
                        "params": ["models"], "outs": [{"r/index.txt": {"cache": False}}]}  # fmt: skip
    (folder / "params.yaml").write_text(json.dumps({"models": models}))
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    timed(folder, "git", "init", "--quiet")
    timed(folder, "dvc", "init", "--quiet")
    for option in ("analytics", "autostage", "check_update"):
        timed(folder, "dvc", "config", f"core.{option}", "false")


def clone(folder):
    """A fresh clone of the commit without dvc.lock."""
    timed(ROOT, "git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    (folder / "dvc.lock").unlink(missing_ok=True)
    return folder


def text(project):
    return (project / "dvc.lock").read_text(encoding="utf-8")


def entries(project):
    return yaml.safe_load(text(project))["stages"] if (project / "dvc.lock").exists() else {}


def without_times(entries):
    """The entries of dvc.lock without those that hold measured times: timed stages, the report, records of cost."""
    untimed = {name: entry for name, entry in entries.items() if name not in ("benchmark", "peers", "report")}
    return {
        name: entry | {"outs": [out for out in entry.get("outs", []) if "/cost/" not in out["path"]]}
        for name, entry in untimed.items()
    }


# ---- processes


def start(project, command):
    sources = project / "src" if (project / "src").exists() else ROOT / "src"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(sources)}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=project, env=environment, **output)


def timed(project, *command, max_seconds=None, expected=""):
    """Run a command; return its wall seconds, its CPU seconds including children, and whether it was stopped."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process, stopped = start(project, command), False
    try:
        printed, _ = process.communicate(timeout=max_seconds)
    except subprocess.TimeoutExpired:
        stopped = True
        process.kill()
        printed, _ = process.communicate()
    after, elapsed = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    if (process.returncode and not stopped) or expected not in printed:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}:\n{printed}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    begun = printed.count("Running stage") if stopped else None
    return {"wall_seconds": elapsed, "cpu_seconds": cpu, "stopped": stopped, "begun_stages": begun}


def kill(project, how, after):
    """Run `zoo repro` and send it the signal `how` after `after` seconds, unless it has ended."""
    process = start(project, ["zoo", "repro", "-j", "2"])
    try:
        process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        process.communicate()


# ---- tables


def overhead_table(part):
    lines = [
        "**Overhead**, CPU seconds; the commands are `echo` and the like.\n",
        "| stages | first run: `dvc repro` | `zoo repro` | ratio | `zoo repro`, a stage "
        "| nothing to do: `dvc repro` | `zoo repro` | ratio |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in part["rows"]:
        dvc, zoo = row["dvc_first"], row["zoo_first"]["cpu_seconds"]
        more = "> " if dvc["stopped"] else ""
        first = f"{more}{dvc['cpu_seconds']:.1f}"
        if dvc["stopped"]:
            first += f" (stopped at stage {dvc['begun_stages']})"
        again, ours = row["dvc_again"]["cpu_seconds"], row["zoo_again"]["cpu_seconds"]
        lines.append(
            f"| {row['stages']} | {first} | {zoo:.1f} | {more}{dvc['cpu_seconds'] / zoo:.1f} "
            f"| {1e3 * zoo / row['stages']:.0f} ms | {again:.1f} | {ours:.2f} | {again / ours:.1f} |"
        )
    same = [row["same_lock"] for row in part["rows"] if "same_lock" in row]
    lines.append(f"\ndvc.lock the same to the byte: {sum(same)} of {len(same)} that plain `dvc repro` finished.")
    return "\n".join(lines)


def quick_table(part):
    plain = part["rows"]["dvc repro"]["wall_seconds"]
    lines = [
        f"**The quick profile**, {part['stages']} stages, all executed.\n",
        "| | wall seconds | times faster | CPU seconds |", "|:--|--:|--:|--:|",
    ]  # fmt: skip
    for command, row in part["rows"].items():
        wall = row["wall_seconds"]
        lines.append(f"| `{command}` | {wall:.0f} | {plain / wall:.2f} | {row['cpu_seconds']:.0f} |")
    same = "equal" if part["same_entries"] else "**NOT equal**"
    lines.append(f"\nEntries in dvc.lock, except for measured times and the report: {same}.")
    return "\n".join(lines)


def kills_table(part):
    count, rows = part["stages"], part["rows"]
    moments = ", ".join(
        f"{row['signal'][3:]} after {row['after_seconds']:.1f} s ({row['kept_stages']})" for row in rows
    )
    if "same_entries" in part:
        title = f"**Killed {len(rows)} times within one run of the quick profile**"
        end = "dvc.lock equal in the end, except for measured times and the report: " + (
            "yes" if part["same_entries"] else "**NO**"
        )
    else:
        title = f"**Killed once in each of {len(rows)} runs of small stages**"
        end = f"dvc.lock the same to the byte after another run: {sum(row['same_lock'] for row in rows)} of {len(rows)}"
    return f"{title}, of {count} stages (in brackets how many the lock had then): {moments}. {end}."


if __name__ == "__main__":
    main()
