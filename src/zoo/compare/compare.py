"""Compare the quality, latency and graphs of every experiment at two commits, from the records that stages write.

`zoo.compare.changes` gives the verdict on two numbers; this module decides which numbers are comparable.
"""

import io
import json
import math
import subprocess
from pathlib import Path
from typing import NamedTuple

import pandas
import yaml

from zoo import statistics
from zoo.compare import changes
from zoo.errors import InputError
from zoo.evaluate.metrics import known_metrics
from zoo.params import PROFILES
from zoo.records import judged, latency, metrics, parity, run

LOCK = "dvc.lock"  # of the quick profile, whose records are in DVC's cache
FOLDERS = tuple(f"{kind.folder(profile)}/" for profile in PROFILES for kind in (run, metrics, judged, parity, latency))
COMMANDS = {"quick": ("dvc repro", LOCK), "full": ("dvc repro full/dvc.yaml", "reports/full")}
WORKING_TREE = "working tree"
NOT_COMPARABLE = "not comparable"
VERDICTS = ("worse", "better", "changed", "different", "same", NOT_COMPARABLE)
HARDWARE = ("cpu", "cores", "governor", "memory_gib", "gpu")  # the other keys of a machine are versions


class Side(NamedTuple):
    """A commit or the working tree: its name, its description, and its records as {path: bytes}."""

    name: str
    about: str
    texts: dict


class Experiment(NamedTuple):
    """The records of an experiment except latency; `judged` is None if no samples are judged."""

    metrics: metrics.Metrics
    runs: run.Runs
    exports: parity.Exports
    judged: judged.Judged | None


class Row(NamedTuple):
    """One comparison; `note` gives the reason if the verdict is "not comparable"."""

    profile: str
    experiments: tuple
    what: str
    before: str = ""
    after: str = ""
    change: str = ""
    verdict: str = NOT_COMPARABLE
    note: str = ""


class NotComparableError(Exception):
    """Two numbers do not measure the same thing; the message is the reason."""


def compare(before, after, profile, rules):
    """Compare two `Side`s by `zoo.params.comparison.Rules`; a profile of None means every profile that both have.

    Returns {"before", "after", "rules", "missing": a sentence for each profile that a side lacks,
    "tables": {"Quality", "Latency", "Graphs": list of Row}}; "tables" is empty if no profile can be compared.
    Raises InputError for a damaged record.
    """
    sides, tables = (before, after), {"Quality": [], "Latency": [], "Graphs": []}
    profiles, missing = _profiles(sides, profile)
    for each in profiles:
        pairs = {}
        for name in sorted({name for one in sides for name in _names(one, each)}):
            try:
                pairs[name] = [_experiment(one, each, name) for one in sides]
            except NotComparableError as reason:
                for rows in tables.values():
                    rows.append(Row(each, (name,), "all", note=str(reason)))
            else:
                tables["Quality"] += _quality(each, name, pairs[name], sides, rules.quality)
                tables["Graphs"] += _graphs(each, name, pairs[name], sides)
        tables["Latency"] += _latency(each, pairs, sides, rules.latency)
    about = {"before": before, "after": after, "rules": rules, "missing": missing}
    return about | {"tables": tables if profiles else {}}


def side(revision):
    """The `Side` of a git revision, or of the working tree for None. Raises InputError for an unknown revision."""
    if revision is None:
        paths = [path for folder in FOLDERS for path in Path(folder).glob("*.json")]
        about = "the files in this folder, committed or not"
        return Side(WORKING_TREE, about, {path.as_posix(): path.read_bytes() for path in paths})
    if _git("rev-parse", "--git-dir").returncode:
        raise InputError("this folder is not in a git repository: run zoo compare in the project's top folder")
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if found.returncode:
        raise InputError(
            f"revision {revision!r} is unknown here: `git log --oneline` lists the commits; "
            "a shallow clone has few of them until `git fetch --unshallow`"
        )
    commit = found.stdout.decode().strip()
    about = _git("show", "--no-patch", "--format=%h %s", commit).stdout.decode().strip()
    paths = _git("ls-tree", "-r", "-z", "--name-only", commit, "--", LOCK, *FOLDERS).stdout.decode().split("\0")
    paths = [path for path in paths if path == LOCK or path.endswith(".json")]
    answer = io.BytesIO(_git("cat-file", "--batch", text="".join(f"{commit}:./{path}\n" for path in paths)).stdout)
    texts = {path: answer.read(int(answer.readline().split()[-1]) + 1)[:-1] for path in paths}
    lock = texts.pop(LOCK, None)
    return Side(revision, about, texts if lock is None else _cached(lock, revision) | texts)


def _git(*arguments, text=""):
    try:
        return subprocess.run(["git", *arguments], input=text.encode(), capture_output=True)
    except FileNotFoundError:
        raise InputError("git is not installed: zoo compare reads the records of a commit from it") from None


def _cached(lock, revision):
    """{path: bytes} of the records that dvc.lock names and DVC's cache holds; `lock` is the content of dvc.lock."""
    try:
        # Numbers stay strings, which halves the parsing time.
        stages = yaml.load(lock, getattr(yaml, "CBaseLoader", yaml.BaseLoader))["stages"]
        outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{LOCK} at {revision} is damaged ({reason}): compare with another commit") from None
    wanted = {path: md5 for path, md5 in outs.items() if f"{path}/".startswith(FOLDERS)}
    if not wanted:
        return {}
    from zoo.runner import dvc_graph  # DVC takes a second to import

    path_of = dvc_graph.cache_path()
    for path in [path for path, md5 in wanted.items() if md5.endswith(".dir")]:
        folder = Path(path_of(wanted.pop(path)))
        parts = json.loads(folder.read_bytes()) if folder.exists() else []
        wanted |= {f"{path}/{part['relpath']}": part["md5"] for part in parts}
    cached = {path: Path(path_of(md5)) for path, md5 in wanted.items()}
    return {path: file.read_bytes() for path, file in cached.items() if file.exists()}


def _record(one, kind, profile, key):
    """A side's record of a kind (a module of zoo.records), or None. Raises InputError if the record is damaged."""
    text = one.texts.get(kind.path(profile, key).as_posix())
    try:
        return None if text is None else kind.read(profile, key, text)
    except InputError as error:
        if one.name == WORKING_TREE:
            raise
        problem = f"at {one.name}, {str(error).rpartition(':')[0]}"  # without the advice, which is about a file
        raise InputError(f"{problem}: damaged or of another version; compare with another commit") from None


def _names(one, profile):
    """The experiments that have a record of metrics."""
    return [Path(path).stem for path in one.texts if Path(path).parent == metrics.folder(profile)]


def _profiles(sides, wanted):
    """The profiles that both sides have, and a sentence for each side without one that is wanted or the other has."""
    lacking = {each: [one.name for one in sides if not _names(one, each)] for each in PROFILES}
    profiles = [wanted] if wanted else [each for each in PROFILES if len(lacking[each]) < len(sides)] or ["quick"]
    missing = []
    for each in profiles:
        command, result = COMMANDS[each]
        for name in dict.fromkeys(lacking[each]):  # both sides may be the same commit
            commit = "" if name == WORKING_TREE else f" there, and commit {result}"
            missing.append(f"There are no records of the {each} profile at {name}: run `{command}`{commit}.")
    return [each for each in profiles if not lacking[each]], missing


def _experiment(one, profile, name):
    """The `Experiment` at a side. Raises NotComparableError if a record is missing."""
    records = {kind: _record(one, kind, profile, name) for kind in (metrics, run, parity, judged)}
    for kind, record in records.items():
        if record is None and kind is not judged:
            raise NotComparableError(f"no record in {kind.folder(profile)} at {one.name}")
    return Experiment(*records.values())


def _row(profile, names, what, judge, *arguments):
    """A `Row`; `judge(*arguments)` returns its columns from `before` on or raises NotComparableError."""
    try:
        return Row(profile, names, what, *judge(*arguments))
    except NotComparableError as reason:
        return Row(profile, names, what, note=str(reason))


def _require(sides, problems):
    """Raise NotComparableError for the first non-empty text of `problems`, which has one for each side."""
    for one, problem in zip(sides, problems, strict=True):
        if problem:
            raise NotComparableError(problem if problems[0] == problems[1] else f"{problem} at {one.name}")


def _differences(old, new, separator=" ", absent=None):
    """["key old → new"] for the keys whose values differ between two dictionaries."""
    pairs = {key: (old.get(key, absent), new.get(key, absent)) for key in old | new}
    return [f"{key}{separator}{left} → {right}" for key, (left, right) in pairs.items() if left != right]


def _require_equal(what, old, new):
    if old != new:
        raise NotComparableError(f"different {what}: {old} → {new}")


def _quality(profile, name, pair, sides, rule):
    """A row for every metric of which higher or lower is better."""
    measured = [_by_seed(one) for one in pair]
    for key, metric in known_metrics().items():
        values = [found.get(key) for found in measured]
        if metric.better and values != [None, None]:
            yield _row(profile, (name,), key, _metric, key, metric, values, pair, sides, rule)


def _by_seed(one):
    """{verb.metric: {seed: value}}; a metric with a value for each class is averaged over the classes."""
    groups = one.metrics.verbs | ({"judge": one.judged.metrics} if one.judged else {})
    values = {}
    for verb, group in groups.items():
        for metric, found in group.items():
            parts = [part.seeds for part in ([found] if isinstance(found, metrics.Summary) else found.values())]
            by_seed = {seed: dict(enumerate(part.get(seed) for part in parts)) for seed in parts[0]}
            values[f"{verb}.{metric}"] = {seed: statistics.summary(each)["mean"] for seed, each in by_seed.items()}
    diverged = {seed: 0.0 if each.diverged_at_step is None else None for seed, each in one.runs.seeds.items()}
    return values | {"training.diverged": diverged}


def _metric(key, metric, values, pair, sides, rule):
    """(before, after, change, verdict, note) of a metric. Raises NotComparableError."""
    if values[0] != values[1]:
        _require(sides, [_no_value(value, one) for value, one in zip(values, pair, strict=True)])
    before, after = pair
    _require_equal("data set", before.metrics.source, after.metrics.source)
    _require_equal("version of the data", before.metrics.data_sha256[:8], after.metrics.data_sha256[:8])
    if key == "decode.importance_bound":
        _require_equal("number of importance samples", *(one.metrics.importance_samples for one in pair))
    budgets = [{"steps": f"{one.runs.recipe.get('steps', 0):,}", "seeds": ", ".join(one.runs.seeds)} for one in pair]
    notes, graphs = _differences(*budgets, ": "), [one.metrics.graphs for one in pair]
    if key.startswith("judge."):
        judges = before.judged.judge, after.judged.judge
        _require_equal("judge", *(f"{judge.experiment}, seed {judge.seed}" for judge in judges))
        _require_equal("number of judged samples", before.judged.samples, after.judged.samples)
        notes += ["the judge's weights differ"] * (judges[0] != judges[1])
        graphs = [(one.judged.graphs, one.judged.judge) for one in pair]
    seeds = min(map(len, values))
    if seeds < changes.MIN_SEEDS:
        few = f"{seeds} seed{'s' * (seeds > 1)}"
        where = [{(seed.processor, seed.device, seed.threads) for seed in one.runs.seeds.values()} for one in pair]
        if where[0] != where[1] and graphs[0] != graphs[1]:  # equal graphs have equal weights, wherever trained
            raise NotComparableError(f"trained on a different processor, {few}")
        notes.append(f"{few}: noise unknown")
    summaries = [statistics.summary(value) for value in values]
    texts = [_summary_text(*each, metric.share) for each in zip(summaries, pair, strict=True)]
    old, new = (summary["mean"] for summary in summaries)
    change = "" if None in (old, new) else _percent(changes.relative_change(old, new))
    if change and metric.share:
        change = f"{100 * (new - old):+.2f} points"
    return *texts, change, changes.quality_change(*values, metric, rule.relative), "; ".join(notes)


def _no_value(values, one):
    """The reason why a metric has no value although no seed diverged, or an empty string."""
    if values is None:
        return "not measured"
    steps = {seed: each.diverged_at_step for seed, each in one.runs.seeds.items()}
    return "no value" if any(value is None and steps.get(seed) is None for seed, value in values.items()) else ""


def _summary_text(summary, one, share):
    if summary["mean"] is None:
        values = list(summary["seeds"].values())
        reason = _no_value(summary["seeds"], one) or "diverged"
        return f"{reason} ({values.count(None)} of {len(values)} seeds)"
    half = f" ± {(summary['high'] - summary['low']) / 2:.2g}" if "low" in summary else ""
    return f"{summary['mean']:{'.4f' if share else '.5g'}}{half}"


def _percent(change):
    return f"{100 * change:+.1f} %" if math.isfinite(change) else "from 0"


def _first_graphs(pair):
    """{verb: (before, after)}, each the `Graph` of the first seed or None."""
    old, new = (one.exports for one in pair)
    return {verb: (old.first(verb), new.first(verb)) for verb in old.graphs | new.graphs}


def _latency(profile, pairs, sides, rule):
    """Rows for every pair of structures; each row lists all experiments with that pair."""
    groups = {}
    for name, pair in pairs.items():
        for verb, graphs in _first_graphs(pair).items():
            structures = [graph and graph.structure_sha256 for graph in graphs]
            groups.setdefault((verb, *structures), (graphs, []))[1].append(name)
    for (verb, *_), (graphs, names) in groups.items():
        try:
            timed = _timed(profile, graphs, sides)
        except NotComparableError as reason:
            yield Row(profile, tuple(names), verb, note=str(reason))
            continue
        rows = [[(name, source, row) for name, source in one.sources.items() for row in source.rows] for one in timed]
        by_call = [{(provider, _call(provider, row)): (source, row) for provider, source, row in each} for each in rows]
        for provider, call in by_call[0] | by_call[1]:
            reasons = [record.not_measured.get(provider, "no such row") for record in timed]
            found = [calls.get((provider, call), (None, None)) for calls in by_call]
            yield _row(profile, tuple(names), f"{verb}, {call}", _times, verb, found, reasons, sides, rule)


def _call(provider, row):
    level = "" if row.optimisation == "all" else f", optimisation {row.optimisation}"
    threads = f"{row.threads} thread{'s' * (row.threads != 1)}"
    return f"batch {row.batch}: {provider} {row.mode}, {threads}{level}"


def _timed(profile, graphs, sides):
    """The `Latency` records of two graphs. Raises NotComparableError if one is missing or their interfaces differ."""
    _require(sides, ["" if graph else "no such graph" for graph in graphs])
    if (graphs[0].inputs, graphs[0].outputs) != (graphs[1].inputs, graphs[1].outputs):
        raise NotComparableError("the graph's inputs or outputs have changed")
    timed = [_record(one, latency, profile, graph.structure_sha256) for one, graph in zip(sides, graphs, strict=True)]
    _require(sides, ["" if record else "its structure was not timed" for record in timed])
    return timed


def _times(verb, found, reasons, sides, rule):
    """(before, after, change, verdict, note) of two (source, row) pairs, (None, None) for a side without the row.

    `reasons` say why a side has none. Raises NotComparableError.
    """
    (old, before), (new, after) = found
    _require(sides, [_no_median(row, reason) for row, reason in zip((before, after), reasons, strict=True)])
    for key in HARDWARE:
        _require_equal(f"machine, {key}", old.machine.get(key), new.machine.get(key))
    _require_equal("TF32 setting", before.tf32, after.tf32)
    if verb == "next_word":
        _require_equal("number of words per call", old.settings.get("time"), new.settings.get("time"))
    if reason := changes.drift_reason(before.times, after.times, rule):
        raise NotComparableError(reason)
    notes = ["different structure"] * (old.graph.structure_sha256 != new.graph.structure_sha256)
    notes += _differences(old.machine, new.machine)
    verdict, change = changes.latency_change(before.times, after.times, rule)
    texts = [f"{one.p50_us:.4g} ({one.p50_low_us:.4g}–{one.p50_high_us:.4g})" for one in (before.times, after.times)]
    return *texts, _percent(change), verdict, "; ".join(notes)


def _no_median(row, not_measured):
    """The reason why a row has no median to compare, or an empty string."""
    if row is None or row.times is None:
        return f"not measured ({row.not_measured if row else not_measured})"
    unknown = None in (row.times.p50_us, row.times.p50_low_us, row.times.p50_high_us)
    return "too few calls for a median with an interval" if unknown else ""


def _graphs(profile, name, pair, sides):
    """A row for every verb."""
    for verb, graphs in _first_graphs(pair).items():
        hashes = [[graph.graph.graph_sha256 for graph in one.exports.graphs.get(verb, {}).values()] for one in pair]
        yield _row(profile, (name,), verb, _graph, graphs, hashes, sides)


def _graph(graphs, hashes, sides):
    """("", "", "", verdict, note); the verdict is "same" if the structures are equal, whatever the weights."""
    _require(sides, ["" if graph else "no such graph" for graph in graphs])
    facts = [pandas.json_normalize(graph.model_dump(exclude=parity.IDENTITY), sep=" ") for graph in graphs]
    notes = _differences(*(table.map(_text).iloc[0].to_dict() for table in facts), absent="0")
    same = graphs[0].structure_sha256 == graphs[1].structure_sha256
    if same and hashes[0] != hashes[1]:
        notes.insert(0, "different weights or metadata")
    elif not same and all(note.startswith("bytes") for note in notes):
        notes.insert(0, "different attributes, connections or constants")
    return "", "", "", "same" if same else "different", "; ".join(notes)


def _text(value):
    return "; ".join(value) if isinstance(value, list) else f"{value:,}" if isinstance(value, int) else value
