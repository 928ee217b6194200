"""Measured files -> one plain value: every experiment of params.yaml with all that is known about it.

Each number is read from a file under reports/, each word about a metric from templates/metrics.yaml.
"""

import json
from pathlib import Path

import pandas
import yaml
from PIL import Image

from zoo import files, statistics
from zoo.errors import InputError

TERMS = Path(__file__).parent / "templates" / "metrics.yaml"
VERBS = ("reconstruct", "encode", "decode", "generate", "classify", "next_word", "apply", "judge")
CURVE_COLUMNS = ["seed", "step", "split", "player", "loss"]
LATENCY_KEYS = ("verb", "batch", "load_ms", "first_call_us", "p50_us", "p90_us", "p99_us")
PICTURES = {
    "reconstruct": "Test images and what the network returns for them.",
    "encode": "What the encoder makes of test images.",
    "decode": (
        "Images that the decoder draws from random codes, a row a digit where it is told which; an "
        "autoencoder without a prior walks, along a row, from one test image's code to the next one's."
    ),
    "generate": "Samples drawn from noise; where the network takes a label, a row for each digit asked for.",
    "classify": "Confusion matrix on the test set.",
    "next_word": "How well words are foretold along a line of the test text.",
    "apply": "What the operator makes of test images of 28 x 28 pixels.",
}


def gather(profile: str, everything: dict) -> dict:
    """All that the report shows; its experiments are those of params.yaml (`everything`), in order.

    Raises InputError where a file is missing or damaged, or params.yaml names a metric that none measured.
    """
    terms = yaml.safe_load(TERMS.read_text(encoding="utf-8"))
    experiments = [_experiment(profile, everything, name, terms) for name in everything["models"]]
    used = {row["key"] for entry in experiments for row in (*_rows(entry), *entry["per_class"])}
    machines = _distinct(row["machine"] for entry in experiments for row in entry["latency"])
    for entry in experiments:
        for row in entry["latency"]:
            row["machine_number"] = machines.index(row["machine"]) + 1
    return {
        "profile": profile,
        "experiments": experiments,
        "judge": everything["judge"]["by"],
        "glossary": [{"key": key, "unit": ""} | term for key, term in terms.items() if key in used],
        "machines": machines,
        "training": _trained_on(experiments),
        "counts": _counts(experiments),
    }


def _rows(entry):
    return [row for _, rows in entry["groups"] for row in rows]


def _experiment(profile, everything, name, terms):
    entry = everything["models"][name]
    path = files.metrics(profile, name)
    verbs = dict(_mapping(files.read_json(path), "the whole", path))
    training = _mapping(_needed(verbs, "training", path), "training", path)
    del verbs["training"]
    samples = None
    if name in everything["judge"]["of"]:
        judged = files.read_json(files.judged(profile, name))
        samples = _needed(judged, "samples", files.judged(profile, name))
        verbs["judge"] = {key: value for key, value in judged.items() if isinstance(value, dict)}
    plan = {"steps": entry["steps"][profile], "seeds": everything["seeds"][profile]}
    diverged = {seed: step for seed, step in training.get("diverged_at_step", {}).items() if step is not None}
    partial = _needed(training, "steps", path) < plan["steps"] and not diverged
    metrics = _metrics(verbs, path, terms)
    for key, figure in _published(everything, name):
        row = _named(metrics, key, f"published.{name}.{key}", path)
        row["published"] = figure
        row["verdict"] = _verdict(row, figure, partial) if profile == "full" else None
    headline = entry.get("headline") or ("judge.frechet_distance" if samples else None)
    plain = [row for row in metrics if not row["class"]]
    latency, not_measured = _latency(profile, name, everything["benchmark"]["providers"])
    return {
        "name": name,
        "about": entry["about"],
        "headline": _named(metrics, headline, f"models.{name}.headline", path) if headline else None,
        "training": training,
        "plan": plan,
        "partial": partial,
        "budget": _budget(training, plan),
        "diverged": diverged,
        "settings": _settings(entry, profile),
        "groups": [(verb, rows) for verb in VERBS if (rows := [row for row in plain if row["verb"] == verb])],
        "per_class": [row for row in metrics if row["class"]],
        "seeds": sorted({seed for row in metrics for seed in row["seeds"]}, key=int),
        "samples": samples,
        "drawn": bool({"reconstruct", "decode", "generate", "judge"} & verbs.keys()),
        "pictures": _pictures(files.figures(profile, name), files.report(profile, "")),
        "curve": _curve(files.curve(profile, name)),
        "parity": _parity(files.parity(profile, name)),
        "latency": latency,
        "not_measured": not_measured,
    }


def _published(everything, name):
    for verb, published in everything["published"].get(name, {}).items():
        for metric, figure in published.items():
            yield f"{verb}.{metric}", figure


def _metrics(verbs, path, terms):
    rows = []
    for verb, group in verbs.items():
        for metric, value in _mapping(group, verb, path).items():
            nested = isinstance(value, dict) and "mean" not in value
            for part, measured in value.items() if nested else [("", value)]:
                key = f"{verb}.{metric}"
                term = terms.get(key, {"name": metric, "meaning": ""})
                seeds = _mapping(_needed(_mapping(measured, key, path), "seeds", path), key, path)
                finite = [value for value in seeds.values() if value is not None]
                interval = len(finite) >= 3 and measured.get("low") is not None
                rows.append(
                    {
                        "key": key,
                        "verb": verb,
                        "metric": metric,
                        "class": part,
                        "label": term["name"],
                        "unit": term.get("unit", ""),
                        "mean": _needed(measured, "mean", path),
                        "low": measured["low"] if interval else None,
                        "high": measured["high"] if interval else None,
                        "seeds": seeds,
                        "floor": term.get("floor"),
                        "published": None,
                        "verdict": None,
                    }
                )
    means = {row["key"]: row["mean"] for row in rows}
    for row in rows:
        row["floor"] = means.get(row["floor"])
    order = {key: place for place, key in enumerate(terms)}
    return sorted(rows, key=lambda row: order.get(row["key"], len(order)))


def _verdict(row, figure, partial):
    if row["mean"] is None:
        return "diverged"
    if partial:
        return "partial budget"
    summary = {key: row[key] for key in ("mean", "low", "high", "seeds") if row[key] is not None}
    return statistics.verdict(summary, figure["value"], figure["better"], figure["tolerance"])


def _curve(path):
    try:
        frame = pandas.read_csv(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro`, which makes it") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and run `dvc repro` again") from None
    if list(frame.columns) != CURVE_COLUMNS:
        found = ",".join(map(str, frame.columns))
        raise InputError(f"{path} is damaged (columns {found}): delete it and run `dvc repro` again")
    return frame


def _latency(profile, name, providers):
    measured, absent = [], []
    for provider in providers:
        short = provider.removesuffix("ExecutionProvider")
        path = files.latency(profile, name) / f"{short.lower()}.json"
        found = files.read_json(path)
        if "not_measured" in found:
            absent.append({"provider": short, "reason": found["not_measured"]})
            continue
        machine = _flat(_needed(found, "machine", path))
        for row in _needed(found, "rows", path):
            if "not_measured" in row:
                which = f"{_needed(row, 'verb', path)}, batch {_needed(row, 'batch', path)}"
                absent.append({"provider": f"{short}, {which}", "reason": row["not_measured"]})
                continue
            values = {key: _needed(row, key, path) for key in LATENCY_KEYS}
            calls, seed = row.get("calls"), row.get("seed", "")
            measured.append(values | {"provider": short, "machine": machine, "calls": calls, "seed": seed})
    return measured, absent


def _parity(path):
    rows = []
    for verb, seeds in _mapping(files.read_json(path), "the whole", path).items():
        checks = [_mapping(check, verb, path) for check in _mapping(seeds, verb, path).values()]
        differences = [_needed(check, "largest_difference", path) for check in checks]
        finite = [difference for difference in differences if difference is not None]
        rows.append(
            {
                "verb": verb,
                "largest_difference": max(finite, default=None),
                "bound": max((check["bound"] for check in checks if check.get("bound")), default=None),
                "calls": sum(check.get("calls") or 0 for check in checks),
                "finite": all(check.get("finite", True) for check in checks),
            }
        )
    return rows


def _pictures(folder, base):
    place = {verb: index for index, verb in enumerate(VERBS)}
    found = sorted(folder.glob("*.png"), key=lambda path: (place.get(path.stem, len(place)), path.stem))
    return [picture(path, base, PICTURES.get(path.stem, path.stem)) for path in found]


def picture(path: Path, base: Path, caption: str) -> dict:
    """What a page needs to show a PNG file: its size, its path from `base`, and its caption.

    The file's own `Description` follows the caption. Raises InputError where the file is damaged.
    """
    try:
        with Image.open(path) as image:
            image.load()
            width, height, more = *image.size, image.info.get("Description", "")
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and run `dvc repro` again") from None
    # Drawn at 120 dots an inch, shown at 96.
    size = {"width": round(width * 0.8), "height": round(height * 0.8)}
    return size | {
        "file": path,
        "path": path.relative_to(base).as_posix(),
        "caption": f"{caption} {more}".strip(),
    }


def _mapping(value, key, path):
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key} = {value!r} is no mapping: delete the file and run `dvc repro` again")
    return value


def _needed(value, key, path):
    if not isinstance(value, dict) or key not in value:
        raise InputError(f"{path}: the key {key} is missing: delete the file and run `dvc repro` again")
    return value[key]


def _named(metrics, key, where, path):
    for row in metrics:
        if row["key"] == key and not row["class"]:
            return row
    known = ", ".join(row["key"] for row in metrics if not row["class"])
    raise InputError(f"params.yaml: {where}: {key} is not among what {path} measured ({known}): mend the name")


def seed_list(seeds) -> str:
    """`0`, `0–4` or `0, 2, 5`."""
    seeds = sorted(int(seed) for seed in seeds)
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _budget(training, plan):
    seeds = training.get("seeds", plan["seeds"])
    steps = f"{training['steps']:,}"
    if training["steps"] != plan["steps"]:
        steps += f" of {plan['steps']:,}"
    words = [f"{steps} steps"] if plan["steps"] else ["nothing to train"]
    if plan["steps"] or len(seeds) > 1:
        names = "seed" if len(seeds) == 1 else "seeds"
        rest = f" of {seed_list(plan['seeds'])}" if sorted(seeds) != sorted(plan["seeds"]) else ""
        words.append(f"{names} {seed_list(seeds)}{rest}")
    return ", ".join(words)


def _settings(entry, profile):
    fit = {key: value.get(profile, value) if isinstance(value, dict) else value for key, value in entry["fit"].items()}
    rows = [("network", f"{entry['file']}.py", entry["net"])]
    rows += [("fit", "", fit)] if entry["players"] else []
    for player, options in entry["players"].items():
        rest = {key: value for key, value in options.items() if key != "algorithm"}
        rows.append((f"player {player}", options["algorithm"], rest))
    return [
        {
            "of": of,
            "kind": kind,
            "values": [(key, _plain(value)) for key, value in values.items() if value is not None],
        }
        for of, kind, values in rows
    ]


def _plain(value):
    return json.dumps(value, ensure_ascii=False).replace('"', "")


def _flat(values, prefix=""):
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _plain(value) if isinstance(value, list) else value
    return flat


def _distinct(values):
    distinct = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _trained_on(experiments):
    groups = {}
    for entry in experiments:
        training = entry["training"]
        key = (training.get("device", ""), training.get("torch", ""), training.get("source", ""))
        groups.setdefault(key, []).append(entry["name"])
    return [{"device": d, "torch": t, "source": s, "names": names} for (d, t, s), names in groups.items()]


def _counts(experiments):
    verdicts = [entry["headline"]["verdict"] for entry in experiments if entry["headline"]]
    words = ("reproduced", "better", "not reproduced", "partial budget")
    counts = {word: verdicts.count(word) for word in words}
    counts["diverged"] = sum(bool(entry["diverged"]) for entry in experiments)
    return {word: count for word, count in counts.items() if count}
