"""Two commits side by side: quality, latency and graphs of every experiment, from git and DVC.

The reports of a commit come from git, its graphs from DVC's cache by the md5 that its lock names. Whether a number
became better or worse is for `zoo.statistics` to say; here it is found out which numbers may be compared at all.
"""

import functools
import io
import json
import math
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import onnx
import yaml
from google.protobuf.message import DecodeError

from zoo import files, params, statistics
from zoo.errors import InputError

TERMS = Path(__file__).parents[1] / "evaluate" / "metrics.yaml"
LOCKS = {"quick": "dvc.lock", "full": "full/dvc.lock"}
PARTS = ("metrics", "judged", "latency", "parity")
READ = [str(params.PATH), *LOCKS.values(),
        *(files.report(profile, part).as_posix() for profile in LOCKS for part in PARTS)]  # fmt: skip
VERDICTS = ("worse", "better", "different", "same", "not comparable")
KINDS = ("operator", "parameters", "opset", "inputs", "outputs", "bytes")  # of what a graph is made of
CALL = ("verb", "batch", "mode", "threads", "optimisation")  # with the provider, what identifies a row of latency
HARDWARE = ("cpu", "cores", "governor", "memory_gib", "gpu")  # what else a machine is described by are versions
TIMED = ("p50_us", "p50_low_us", "p50_high_us", "block_p50_us", "graph_sha256")
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, yaml.YAMLError)


class Side(NamedTuple):
    """A commit, or the working tree: `texts` has the content of every file that is compared, {path: bytes}."""

    name: str
    about: str
    texts: dict


class Row(NamedTuple):
    """One thing that was compared; `note` is the reason where it could not be."""

    profile: str
    experiment: str
    what: str
    verdict: str
    note: str = ""
    before: str = ""
    after: str = ""
    change: str = ""


def compare(base, head, profile, rules):
    """What changed from the revision `base` to `head` (None: the working tree), as plain values for all renderings.

    {"before", "after": Side, "rules", "skipped": sentences,
    "tables": [{"name", "what", "unit", "rows": Rows, "counts": {verdict: rows}, "reasons"}]}.
    `profile` None compares those that were run on both sides. Raises InputError for an unknown revision, a damaged
    file, a profile that was not run.
    """
    sides = side(base), side(head)
    profiles, skipped = _profiles(sides, profile)
    terms = yaml.safe_load(TERMS.read_text(encoding="utf-8"))
    models = [_parsed(one, params.PATH, _data_of, yaml.safe_load) for one in sides]
    quality, latency, graphs, cache = [], [], [], Cache()
    for each in profiles:
        locks = [_lock(one, LOCKS[each]) for one in sides]
        for name in dict.fromkeys([*models[1], *models[0]]):
            pair = [
                _experiment(one, each, name, entries, lock)
                for one, entries, lock in zip(sides, models, locks, strict=True)
            ]
            absent = [found for found in pair if isinstance(found, str)]
            if absent:
                for rows in (quality, latency, graphs):
                    rows.append(Row(each, name, "all", "not comparable", "; ".join(dict.fromkeys(absent))))
                continue
            quality += _quality(each, name, pair, rules["quality"], terms)
            structure, interfaces = _graphs(each, name, pair, cache)
            graphs += structure
            latency += _latency(each, name, pair, rules["latency"], interfaces)
    tables = [("Quality", "metric", "", quality), ("Latency", "call", "µs", latency), ("Graphs", "graph", "", graphs)]
    return {
        "before": sides[0],
        "after": sides[1],
        "rules": rules,
        "skipped": skipped,
        "tables": [
            {"name": name, "what": what, "unit": unit, "rows": rows, "counts": counts(rows), "reasons": reasons(rows)}
            for name, what, unit, rows in tables
        ],
    }


# ---- reading


def side(revision):
    """The `Side` of a git revision, or of the working tree for None."""
    if revision is None:
        found = [path for top in READ for path in ([Path(top)] if Path(top).is_file() else Path(top).rglob("*.json"))]
        return Side(
            "working tree",
            "the files in this folder, committed or not",
            {path.as_posix(): path.read_bytes() for path in found},
        )
    if _git("rev-parse", "--git-dir").returncode:
        raise InputError("this folder is in no git repository: run zoo compare in the project's top folder")
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found.returncode:
        raise InputError(
            f"revision {revision!r} is unknown here: `git log --oneline` lists the commits; "
            "a shallow clone has few of them until `git fetch --unshallow`"
        )
    commit = found.stdout.decode().strip()
    paths = _git("ls-tree", "-r", "-z", "--name-only", commit, "--", *READ).stdout.decode().split("\0")
    paths = [path for path in paths if path in READ or path.endswith(".json")]
    form = "%s" if commit.startswith(revision) else "%h %s"
    about = _git("show", "--no-patch", f"--format={form}", commit).stdout.decode().strip()
    asked = "".join(f"{commit}:./{path}\n" for path in paths).encode()
    answer = io.BytesIO(_git("cat-file", "--batch", text=asked).stdout)
    texts = {}
    for path in paths:
        texts[path] = answer.read(int(answer.readline().split()[-1]))
        answer.readline()
    return Side(revision, about, texts)


def _git(*arguments, text=b""):
    try:
        return subprocess.run(["git", *arguments], input=text, capture_output=True)
    except FileNotFoundError:
        raise InputError("git is not installed: zoo compare reads the reports of a commit from it") from None


def _parsed(one, path, take, parse):
    """What `take` takes of a parsed file. Raises InputError, naming file and revision, where that is not there."""
    path = Path(path).as_posix()
    try:
        return take(parse(one.texts[path]))
    except DAMAGE as error:
        reason = "no such file" if path not in one.texts else f"{type(error).__name__}: {' '.join(str(error).split())}"
        remedy = "run `dvc repro` again" if one.name == "working tree" else "compare with another commit"
        raise InputError(f"{path} at {one.name} is missing or damaged ({reason}): {remedy}") from None


@functools.cache
def _as_text(lock):
    """A lock with its numbers left as text: it has 500 KB, and parses in half the time."""
    return yaml.load(lock, getattr(yaml, "CBaseLoader", yaml.BaseLoader))


def _data_of(found):
    """{experiment: its data set}, of all of params.yaml."""
    return {name: entry["data"] for name, entry in found["models"].items()}


def _lock(one, path):
    """What the lock says: {"outs": {path: md5}, "samples": {experiment: k of the importance-weighted bound}}."""

    def take(lock):
        stages = lock["stages"]
        evaluated = {name.removeprefix("evaluate@"): stage for name, stage in stages.items() if "evaluate@" in name}
        return {
            "outs": {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])},
            "samples": {
                name: found.get("evaluate", {}).get("importance_samples")
                for name, stage in evaluated.items()
                for found in stage.get("params", {}).values()
            },
        }

    return _parsed(one, path, take, _as_text) if path in one.texts else {"outs": {}, "samples": {}}


def _profiles(sides, wanted):
    """The profiles to compare, and a sentence on each that was run on one side alone."""
    folders = {each: files.report(each, "metrics") for each in params.PROFILES}
    run_at = [
        {each for each, folder in folders.items() if any(Path(path).parent == folder for path in one.texts)}
        for one in sides
    ]
    for one, profiles in zip(sides, run_at, strict=True):
        if wanted and wanted not in profiles:
            raise InputError(f"{folders[wanted]} holds nothing at {one.name}: the profile was not run there")
    both = [each for each in params.PROFILES if each in run_at[0] & run_at[1] and wanted in (None, each)]
    if not both:
        raise InputError(f"no profile was run both at {sides[0].name} and at {sides[1].name}: there are no reports")
    skipped = [
        f"The {each} profile was run at {one.name} alone: it is not compared."
        for one, here, there in zip(sides, run_at, run_at[::-1], strict=True)
        for each in sorted(here - there)
        if not wanted
    ]
    return both, skipped


def _experiment(one, profile, name, models, lock):
    """All that a side knows of an experiment, or why it knows nothing."""
    if name not in models:
        return f"no such experiment at {one.name}"
    path = files.metrics(profile, name).as_posix()
    if path not in one.texts:
        return f"not run at {one.name}: there is no {path}"

    def of_metrics(verbs):
        training = dict(verbs["training"])
        diverged = {
            seed: None if step is not None else 0.0 for seed, step in training.get("diverged_at_step", {}).items()
        }
        groups = {verb: group for verb, group in verbs.items() if verb != "training"}
        budget = {"steps": training["steps"], "seeds": list(training["seeds"])}
        return {
            "metrics": _by_seed(groups) | {"training.diverged": diverged},
            "source": training["source"],
            "budget": budget,
        }

    def of_judge(found):
        group = {key: value for key, value in found.items() if isinstance(value, dict)}
        return {"judge": found["judge"], "samples": found["samples"], "metrics": _by_seed({"judge": group})}

    found = _parsed(one, path, of_metrics, json.loads)
    judged = files.judged(profile, name).as_posix()
    judge = _parsed(one, judged, of_judge, json.loads) if judged in one.texts else {"metrics": {}}
    parity = files.parity(profile, name).as_posix()
    prefix = f"{files.latency(profile, name).as_posix()}/"
    return found | {
        "name": one.name,
        "metrics": found["metrics"] | judge.pop("metrics"),
        "judge": judge,
        "data": lock["outs"].get(files.data(profile, models[name]).as_posix()),
        "importance_samples": lock["samples"].get(name),
        "verbs": _parsed(one, parity, _verbs, json.loads) if parity in one.texts else {},
        "graphs": lock["outs"].get(files.graphs(profile, name).as_posix()),
        "latency": {
            path.removeprefix(prefix): _parsed(one, path, _timed, json.loads)
            for path in one.texts
            if path.startswith(prefix)
        },
    }


def _by_seed(verbs):
    """{verb.metric: {seed: value}}; of a metric that has a value a class, the mean over the classes."""
    found = {}
    for verb, group in verbs.items():
        for metric, value in group.items():
            parts = [dict(part["seeds"]) for part in ([value] if "seeds" in value else value.values())]
            found[f"{verb}.{metric}"] = {seed: _mean([part[seed] for part in parts]) for seed in parts[0]}
    return found


def _mean(values):
    return None if None in values else math.fsum(values) / len(values)


def _verbs(parity):
    return {verb: sorted(seeds, key=int) for verb, seeds in parity.items()}


def _timed(found):
    """Of a file of latencies {"not_measured"}, or {"machine", "time", "rows": {call: row}}.

    "rows" is None where an earlier protocol measured them, which said neither mode nor threads.
    """
    if "not_measured" in found:
        return {"not_measured": found["not_measured"]}
    rows = found["rows"]
    for row in rows:
        if "not_measured" not in row and "mode" in row:
            list(map(row.__getitem__, TIMED))
    return {
        "machine": dict(found["machine"]),
        "time": found["settings"].get("time"),
        "rows": {tuple(row[key] for key in CALL): row for row in rows} if all("mode" in row for row in rows) else None,
    }


# ---- quality


def _quality(profile, name, pair, rule, terms):
    before, after = pair
    rows, budget = [], _budget(before["budget"], after["budget"])
    for key in dict.fromkeys([*before["metrics"], *after["metrics"]]):
        term = terms.get(key, {})
        if "better" not in term:
            continue
        values = [one["metrics"].get(key) for one in pair]
        reason = _incomparable(key, values, pair)
        if reason:
            rows.append(Row(profile, name, key, "not comparable", reason))
            continue
        share = term.get("share", False)
        verdict = statistics.quality_change(
            *values, term["better"], rule["relative"], share, float(term.get("rounding", 0))
        )
        seeds = min(map(len, values))
        notes = [
            budget,
            "the judge is another network" if key.startswith("judge.") and _judge_changed(*pair) else "",
            f"{seeds} seed{'s' * (seeds > 1)}: noise unknown" if seeds < 3 else "",
        ]
        texts = [_quality_text(value, share, one) for value, one in zip(values, pair, strict=True)]
        change = _change(values, share)
        rows.append(Row(profile, name, key, verdict, "; ".join(filter(None, notes)), *texts, change))
    return rows


def _incomparable(key, values, pair):
    before, after = pair
    for value, other in zip(values, pair[::-1], strict=True):
        if value is None:
            return f"measured at {other['name']} alone"
    for value, one in zip(values, pair, strict=True):
        if values[0] != values[1] and _undefined(value, one):
            return f"without a value at {one['name']}"
    if before["source"] != after["source"]:
        return f"other data: {before['source']} → {after['source']}"
    if before["data"] and after["data"] and before["data"] != after["data"]:
        return f"other data: what was made of {after['source']} has changed"
    if key.startswith("judge."):
        if before["judge"]["judge"] != after["judge"]["judge"]:
            return f"another judge: {before['judge']['judge']} → {after['judge']['judge']}"
        if before["judge"]["samples"] != after["judge"]["samples"]:
            return f"another number of judged samples: {before['judge']['samples']} → {after['judge']['samples']}"
    k = [one["importance_samples"] for one in pair]
    if key == "decode.importance_bound" and None not in k and k[0] != k[1]:
        return f"another number of importance samples: {k[0]} → {k[1]}"
    return None


def _undefined(values, one):
    """Whether a seed that did not diverge has no value: the precision of a class that is never called has none."""
    diverged = {seed for seed, value in one["metrics"]["training.diverged"].items() if value is None}
    return any(value is None and seed not in diverged for seed, value in values.items())


def _judge_changed(before, after):
    """Whether the judge of the same name scores real images otherwise."""
    return before["metrics"].get("judge.judge_accuracy") != after["metrics"].get("judge.judge_accuracy")


def _budget(before, after):
    words = []
    if before["steps"] != after["steps"]:
        words.append(f"budget: {before['steps']:,} → {after['steps']:,} steps")
    if before["seeds"] != after["seeds"]:
        words.append("seeds: " + " → ".join(", ".join(map(str, one["seeds"])) for one in (before, after)))
    return "; ".join(words)


def _quality_text(values, share, one):
    lost = list(values.values()).count(None)
    if lost:
        return f"{'no value' if _undefined(values, one) else 'diverged'} ({lost} of {len(values)} seeds)"
    measured = statistics.summary(values)
    half = f" ± {(measured['high'] - measured['low']) / 2:.2g}" if "low" in measured else ""
    return f"{measured['mean']:.4f}{half}" if share else f"{measured['mean']:.5g}{half}"


def _change(values, share):
    means = [statistics.summary(value)["mean"] for value in values]
    if None in means:
        return ""
    if share:
        return f"{100 * (means[1] - means[0]):+.2f} points"
    return _percent(statistics.relative_change(*means))


def _percent(change):
    return f"{100 * change:+.1f} %" if math.isfinite(change) else "from 0" if change else "0 %"


# ---- latency


def _latency(profile, name, pair, rule, interfaces):
    rows = []
    for file in sorted({*pair[0]["latency"], *pair[1]["latency"]}):
        provider = file.removesuffix(".json")
        found = [one["latency"].get(file) for one in pair]
        reason = _not_measured(found, pair)
        if reason:
            rows.append(Row(profile, name, f"{provider}: all", "not comparable", reason))
            continue
        hardware, versions = (_differences(*found, hardware) for hardware in (True, False))
        elsewhere = f"another machine: {hardware}" if hardware else None
        for call in dict.fromkeys([*found[0]["rows"], *found[1]["rows"]]):
            timed = [one["rows"].get(call) for one in found]
            reason = elsewhere or _untimed(timed, pair) or _another_call(timed, found, interfaces, rule)
            what = _call_text(provider, *call)
            if reason:
                rows.append(Row(profile, name, what, "not comparable", reason))
                continue
            verdict, change = statistics.latency_change(*timed, rule)
            texts = [f"{row['p50_us']:.4g} ({row['p50_low_us']:.4g}–{row['p50_high_us']:.4g})" for row in timed]
            rows.append(Row(profile, name, what, verdict, versions, *texts, _percent(change)))
    return rows


def _not_measured(found, pair):
    """Why no row of two files of latencies can be compared, or None."""
    for one, other, side_of, other_side in zip(found, found[::-1], pair, pair[::-1], strict=True):
        if one is None:
            return f"measured at {other_side['name']} alone"
        if "not_measured" in one:
            everywhere = other and "not_measured" in other
            return f"not measured{'' if everywhere else ' at ' + side_of['name']}: {one['not_measured']}"
        if one["rows"] is None:
            return f"measured by an earlier protocol at {side_of['name']}"
    return None


def _differences(before, after, hardware):
    """What differs between two machines, of their hardware or of all else."""
    here, there = before["machine"], after["machine"]
    keys = [key for key in dict.fromkeys([*here, *there]) if (key in HARDWARE) == hardware]
    return ", ".join(f"{key} {here.get(key)} → {there.get(key)}" for key in keys if here.get(key) != there.get(key))


def _untimed(timed, pair):
    for row, one, other in zip(timed, pair, pair[::-1], strict=True):
        if row is None:
            return f"measured at {other['name']} alone"
        if "not_measured" in row:
            return f"not measured at {one['name']}: {row['not_measured']}"
        if None in (row[key] for key in TIMED):
            return f"too few calls at {one['name']} for a median with an interval"
    return None


def _another_call(timed, found, interfaces, rule):
    """Why two measured rows are not of the same work, or not of the same machine's pace; None where they are."""
    before, after = timed
    if before.get("tf32") != after.get("tf32"):
        return "TF32 on one side alone"
    if before["verb"] == "next_word" and found[0]["time"] != found[1]["time"]:
        return f"another number of words a call: {found[0]['time']} → {found[1]['time']}"
    interface = None if before["graph_sha256"] == after["graph_sha256"] else interfaces.get(before["verb"])
    return interface or statistics.disturbed(before, after, rule)


def _call_text(provider, verb, batch, mode, threads, optimisation):
    level = "" if optimisation == "all" else f", optimisation {optimisation}"
    return f"{verb}, batch {batch}: {provider} {mode}, {threads} thread{'s' * (threads != 1)}{level}"


# ---- graphs


class Cache:
    """DVC's cache, opened when something in it is first asked for."""

    def __init__(self):
        self._path = None

    def read(self, md5):
        """The bytes of an object; raises FileNotFoundError where it is not in the cache."""
        if self._path is None:
            from zoo.runner import dvc_graph

            self._path = dvc_graph.cache_path()
        return Path(self._path(md5)).read_bytes()


def structure(content):
    """What a graph is made of, its weights aside, as {what: count or text}; raises ValueError for what is no model.

    "operator Conv" and so on are counts of nodes, "parameters float" and so on of the initializers' elements, "bytes"
    is the file's size; "opset", "inputs" and "outputs" are texts: `image float[batch, 1, 28, 28]`.
    """
    try:
        model = onnx.load_from_string(content)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    operators = Counter(".".join(filter(None, (node.domain, node.op_type))) for node in model.graph.node)
    parameters = Counter()
    for tensor in model.graph.initializer:
        parameters[_type_text(tensor.data_type)] += math.prod(tensor.dims)
    found = {"operator": operators, "parameters": parameters}
    return {f"{kind} {name}": count for kind, counts in found.items() for name, count in sorted(counts.items())} | {
        "opset": ", ".join(filter(None, (f"{one.domain} {one.version}".strip() for one in model.opset_import))),
        "bytes": len(content),
        "inputs": "; ".join(map(_value_text, model.graph.input)),
        "outputs": "; ".join(map(_value_text, model.graph.output)),
    }


def _value_text(value):
    tensor = value.type.tensor_type
    axes = (axis.dim_param or str(axis.dim_value) if axis.WhichOneof("value") else "?" for axis in tensor.shape.dim)
    return f"{value.name} {_type_text(tensor.elem_type)}[{', '.join(axes)}]"


def _text(value):
    return f"{value:,}" if isinstance(value, int) else value


def _type_text(number):
    return onnx.TensorProto.DataType.Name(number).lower()


def _graphs(profile, name, pair, cache):
    """Rows, and {verb: why its latencies cannot be compared} of those whose interface differs or is unknown."""
    rows, interfaces = [], {}
    for verb in dict.fromkeys([*pair[0]["verbs"], *pair[1]["verbs"]]):
        alone = [other["name"] for one, other in zip(pair, pair[::-1], strict=True) if verb not in one["verbs"]]
        if alone:
            rows.append(Row(profile, name, verb, "not comparable", f"only at {alone[0]}"))
            continue
        if pair[0]["graphs"] and pair[0]["graphs"] == pair[1]["graphs"]:
            rows.append(Row(profile, name, verb, "same"))
            continue
        try:
            before, after = (_structure(one, verb, cache) for one in pair)
        except FileNotFoundError as error:
            rows.append(Row(profile, name, verb, "not comparable", str(error)))
            interfaces[verb] = f"other weights, and whether inputs and outputs are the same is unknown: {error}"
            continue
        keys = sorted({**before, **after}, key=lambda key: KINDS.index(key.partition(" ")[0]))
        differences = [key for key in keys if before.get(key) != after.get(key)]
        note = "; ".join(f"{key} {_text(before.get(key, 0))} → {_text(after.get(key, 0))}" for key in differences)
        # Metadata move the size by itself: what a graph was made from, and with.
        verdict = "same" if differences in ([], ["bytes"]) else "different"
        rows.append(Row(profile, name, verb, verdict, note))
        if any(before[key] != after[key] for key in ("inputs", "outputs")):
            interfaces[verb] = "the graph's inputs or outputs have changed"
    return rows, interfaces


def _structure(one, verb, cache):
    """The structure of a verb's graph of the first seed; raises FileNotFoundError, saying what to do."""
    if one["graphs"] is None:
        raise FileNotFoundError(f"no lock names the graphs at {one['name']}")
    try:
        files_of = json.loads(cache.read(one["graphs"]))
        wanted = f"{one['verbs'][verb][0]}/{verb}.onnx"
        hashes = {entry["relpath"]: entry["md5"] for entry in files_of}
        return structure(cache.read(hashes[wanted]))
    except FileNotFoundError:
        first = "" if one["name"] == "working tree" else f"git checkout {one['name']}, then "
        remedy = f"{first}dvc fetch, or dvc repro where there is no remote"
        raise FileNotFoundError(f"the graphs at {one['name']} are not in DVC's cache: {remedy}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{one['graphs']} or what it names is damaged in DVC's cache ({error}): remove it there and run dvc fetch"
        ) from None


# ---- summing up


def counts(rows):
    """{verdict: number of rows}, in the order of VERDICTS."""
    found = Counter(row.verdict for row in rows)
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}


def reasons(rows):
    """[(profile, reason, number of rows, experiments)] of what is not comparable, the most frequent first."""
    groups = {}
    for row in rows:
        if row.verdict == "not comparable":
            groups.setdefault((row.profile, row.note), []).append(row.experiment)
    found = [(*key, len(names), list(dict.fromkeys(names))) for key, names in groups.items()]
    return sorted(found, key=lambda group: -group[2])
