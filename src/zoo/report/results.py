"""Measured files -> one plain value: every experiment of params.yaml with all that is known about it.

Each number is read from a file under reports/, each word about a metric from templates/metrics.yaml.
"""

import math
from pathlib import Path

import numpy
import yaml
from PIL import Image

from zoo import files, params, statistics
from zoo.errors import InputError
from zoo.latency import timing
from zoo.reading import mapping, needed, table
from zoo.report import claims, latency_results
from zoo.report.wording import plain, seed_list

TERMS = Path(__file__).parents[1] / "evaluate" / "metrics.yaml"
VERBS = ("reconstruct", "encode", "decode", "generate", "classify", "next_word", "apply", "judge", "training")
CURVE_COLUMNS = ["seed", "step", "split", "player", "loss", "gradient_norm"]
PICTURES = {
    "reconstruct": "Test images and what the network returns for them.",
    "encode": "What the encoder makes of test images.",
    "decode": (
        "Images that the decoder draws from random codes, a row a digit where it is told which. A code of two "
        "numbers is gone through on a grid instead, (0, 0) in its middle; a longer one without a prior walks, along a "
        "row, from one test image's code to the next one's."
    ),
    "generate": "Samples drawn from noise; where the network takes a label, a row for each digit asked for.",
    "generate-progress": "What ten draws became while the generator was trained: a row a step, always the same noise.",
    "classify": "Confusion matrix on the test set.",
    "next_word": "How well words are foretold along a line of the test text.",
    "apply": "What the operator makes of test images, or of their middle where it takes fewer pixels.",
}


def gather(profile: str, everything: dict) -> dict:
    """All that the report shows; its experiments are those of params.yaml (`everything`), in order.

    Raises InputError where a file is missing or damaged, or params.yaml names a metric that none measured.
    """
    terms = yaml.safe_load(TERMS.read_text(encoding="utf-8"))
    experiments = [_experiment(profile, everything, name, terms) for name in everything["models"]]
    machines = latency_results.machines(experiments, timing.machine())
    weighed = _claims(everything, experiments) if profile == "full" else []
    for entry in experiments:
        for row in _rows(entry):
            row["why"] = _why(f"{entry['name']}.{row['key']}", row, weighed)
    used = {row["key"] for entry in experiments for row in (*_rows(entry), *entry["per_class"])}
    return {
        "profile": profile,
        "experiments": experiments,
        "judge": everything["judge"]["by"],
        "glossary": [{"key": key, "unit": ""} | term for key, term in terms.items() if key in used],
        "machines": machines,
        "runtimes": latency_results.runtimes(experiments),
        "peers": latency_results.geometric_means(experiments),
        "training": _trained_on(experiments),
        "counts": _counts(experiments),
        "claims": weighed,
    }


def _claims(everything, experiments):
    """Every claim of params.yaml with its verdict and its evidence."""
    labels = {row["key"]: row["label"] for entry in experiments for row in _rows(entry)}
    measured = {
        entry["name"]: {row["key"]: _with_divergence(row, entry["diverged"]) for row in _rows(entry)}
        for entry in experiments
    }
    curves = {entry["name"]: _validation(entry) for entry in experiments}
    partial = {entry["name"] for entry in experiments if entry["partial"]}
    weighed = []
    for key, claim in everything["claims"].items():
        tests = [params.comparison(test) for test in claim["test"]]
        for name, metric in (side for test in tests for side in test.measured):
            if metric != params.AT_EQUAL_STEPS and metric not in measured[name]:
                known = ", ".join(measured[name])
                raise InputError(f"params.yaml: claims.{key}: {name} has no metric {metric}; it has {known}")
        verdict, evidence = claims.weigh(tests, measured, curves, partial)
        for side in (side for one in evidence for side in (one["left"], one["right"]) if "metric" in side):
            side["label"] = labels.get(side["metric"], "validation loss")
        weighed.append({
            "key": key, "says": claim["says"], "source": claim["source"], "explains": claim.get("explains", []),
            "verdict": verdict, "evidence": evidence,
        })  # fmt: skip
    return weighed


def _with_divergence(row, diverged):
    """{seed: value}; the loss of a seed that diverged before it was read is infinite."""
    lost = diverged if row["key"] in ("training.early_loss", "training.final_loss") else ()
    return {seed: math.inf if value is None and seed in lost else value for seed, value in row["seeds"].items()}


def _why(place, row, weighed):
    """The reasons, from claims that hold, of a figure that was not reproduced or is undecided; None for another."""
    if row["verdict"] not in ("not reproduced", "undecided"):
        return None
    return [claim["says"] for claim in weighed if place in claim["explains"] and claim["verdict"] == "holds"]


def _validation(entry):
    """{seed: [(step, validation loss of the first player), ...]}; a diverged seed ends with an infinite one."""
    rows = _of_first_player(entry["curve"], "validation")
    curves = {str(seed): list(zip(part["step"], part["loss"], strict=True)) for seed, part in rows.groupby("seed")}
    for seed, step in entry["diverged"].items():
        curves.setdefault(seed, []).append((step, math.inf))
    return curves


def _rows(entry):
    return [row for _, rows in entry["groups"] for row in rows]


def _experiment(profile, everything, name, terms):
    entry = everything["models"][name]
    path = files.metrics(profile, name)
    verbs = dict(mapping(files.read_json(path), "the whole", path))
    training = mapping(needed(verbs, "training", path), "training", path)
    del verbs["training"]
    samples = None
    if name in everything["judge"]["of"]:
        judged = files.read_json(files.judged(profile, name))
        samples = needed(judged, "samples", files.judged(profile, name))
        verbs["judge"] = {key: value for key, value in judged.items() if isinstance(value, dict)}
    curve = table(files.curve(profile, name), CURVE_COLUMNS)
    verbs["training"] = _of_training(curve, training, path)
    plan = {"steps": entry["steps"][profile], "seeds": everything["seeds"][profile]}
    diverged = {seed: step for seed, step in training.get("diverged_at_step", {}).items() if step is not None}
    partial = needed(training, "steps", path) < plan["steps"] and not diverged
    metrics = _metrics(verbs, path, terms)
    for key, figure in _published(everything, name):
        row = _named(metrics, key, f"published.{name}.{key}", path)
        row["published"] = figure
        row["verdict"] = _verdict(row, figure, partial) if profile == "full" else None
    headline = entry.get("headline") or ("judge.frechet_distance" if samples else None)
    plain = [row for row in metrics if not row["class"]]
    latency, not_measured = latency_results.latency(profile, name, everything)
    peers, peers_not_measured = latency_results.peers(profile, name, everything)
    return {
        "name": name,
        "about": entry["about"],
        "headline": _named(metrics, headline, f"models.{name}.headline", path) if headline else None,
        "training": training,
        "plan": plan,
        "partial": partial,
        "budget": _budget(training, plan),
        "diverged": diverged,
        "divergence": _divergence(training, curve, diverged),
        "settings": _settings(entry, profile),
        "groups": [(verb, rows) for verb in VERBS if (rows := [row for row in plain if row["verb"] == verb])],
        "per_class": [row for row in metrics if row["class"]],
        "seeds": sorted({seed for row in metrics for seed in row["seeds"]}, key=int),
        "samples": samples,
        "drawn": bool({"reconstruct", "decode", "generate", "judge"} & verbs.keys()),
        "pictures": _pictures(files.figures(profile, name), files.report(profile, "")),
        "curve": curve,
        "published_curves": _published_curves(everything, name, curve) if profile == "full" else [],
        "parity": _parity(files.parity(profile, name)),
        "latency": latency,
        "not_measured": not_measured,
        "peers": peers,
        "peers_not_measured": peers_not_measured,
    }


def _divergence(training, curve, diverged):
    """What is told of each diverged seed: where, what stopped being finite, and the gradient's norm when last read."""
    told, places = [], training.get("diverged_in", {})
    for seed, step in diverged.items():
        norms = curve[(curve["seed"] == int(seed)) & (curve["split"] == "training")]["gradient_norm"]
        norm = norms.iloc[-1] if len(norms) else None
        what = "a weight" if places.get(seed) == "weights" else "the loss"
        told.append({"seed": seed, "step": step, "what": what, "norm": norm})
    return told


def _of_training(curve, training, path):
    """What the curve says of the training, as metrics: {metric: `statistics.summary` over the seeds}."""
    measured, diverged, steps = {}, training.get("diverged_at_step", {}), needed(training, "steps", path)
    for seed in curve["seed"].unique():
        of_seed = curve[curve["seed"] == seed]
        losses, rows = (_of_first_player(of_seed, split) for split in ("validation", "training"))
        norms, ended = rows["gradient_norm"].to_numpy(), diverged.get(str(seed)) is not None
        moving = numpy.flatnonzero(norms != 0)
        silent = rows["step"].iloc[moving[-1] + 1 if len(moving) else 0 :]
        values = {
            "early_loss": losses["loss"].iloc[1] if len(losses) > 1 else None,
            "final_loss": losses["loss"].iloc[-1] if len(losses) and not ended else None,
            "first_gradient_norm": norms[0] if len(norms) else None,
            "last_gradient_norm": norms[-1] if len(norms) else None,
            "silent_steps": steps - silent.iloc[0] if len(silent) else 0,
            "diverged": float(ended),
        }
        for metric, value in values.items():
            measured.setdefault(metric, {})[seed] = value
    return {metric: statistics.summary(values) for metric, values in measured.items()}


def _of_first_player(curve, split):
    rows = curve[curve["split"] == split]
    return rows[rows["player"] == rows["player"].iloc[0]] if len(rows) else rows


def _published_curves(everything, name, curve):
    """Each published log beside ours: the mean loss over the seeds at the nearest step that we read.

    There is no mean (None) where a seed had diverged by then, and no row where we read nothing near that step.
    """
    beside = []
    for log in everything["published_curves"].get(name, []):
        ours = curve[(curve["player"] == log["player"]) & (curve["split"] == log["split"])]
        by_step = {int(step): part.tolist() for step, part in ours.groupby("step")["loss"]}
        seeds, rows = curve["seed"].nunique(), []
        for step, loss in log["points"].items():
            nearest = min(by_step, key=lambda read, step=step: abs(read - step), default=math.inf)
            if abs(nearest - step) <= max(10, 0.05 * step):
                losses = by_step[nearest]
                known = len(losses) == seeds and all(map(math.isfinite, losses))
                mean = math.fsum(losses) / seeds if known else None
                rows.append({"step": step, "published": loss, "ours": mean, "at": nearest})
        beside.append(log | {"rows": rows})
    return beside


def _published(everything, name):
    for verb, published in everything["published"].get(name, {}).items():
        for metric, figure in published.items():
            yield f"{verb}.{metric}", figure


def _metrics(verbs, path, terms):
    rows = []
    for verb, group in verbs.items():
        for metric, value in mapping(group, verb, path).items():
            nested = isinstance(value, dict) and "mean" not in value
            for part, measured in value.items() if nested else [("", value)]:
                key = f"{verb}.{metric}"
                term = terms.get(key, {"name": metric, "meaning": ""})
                seeds = mapping(needed(mapping(measured, key, path), "seeds", path), key, path)
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
                        "mean": needed(measured, "mean", path),
                        "low": measured["low"] if interval else None,
                        "high": measured["high"] if interval else None,
                        "seeds": seeds,
                        "floor": term.get("floor"),
                        "published": None,
                        "verdict": None,
                        "why": None,
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


def _parity(path):
    rows = []
    for verb, seeds in mapping(files.read_json(path), "the whole", path).items():
        checks = [mapping(check, verb, path) for check in mapping(seeds, verb, path).values()]
        differences = [needed(check, "largest_difference", path) for check in checks]
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
    place = {name: index for index, name in enumerate(PICTURES)}
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


def _named(metrics, key, where, path):
    for row in metrics:
        if row["key"] == key and not row["class"]:
            return row
    known = ", ".join(row["key"] for row in metrics if not row["class"])
    raise InputError(f"params.yaml: {where}: {key} is not among what {path} measured ({known}): mend the name")


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
            "values": [(key, plain(value)) for key, value in values.items() if value is not None],
        }
        for of, kind, values in rows
    ]


def _trained_on(experiments):
    groups = {}
    for entry in experiments:
        training = entry["training"]
        key = (training.get("device", ""), training.get("torch", ""), training.get("source", ""))
        groups.setdefault(key, []).append(entry["name"])
    return [{"device": d, "torch": t, "source": s, "names": names} for (d, t, s), names in groups.items()]


def _counts(experiments):
    verdicts = [entry["headline"]["verdict"] for entry in experiments if entry["headline"]]
    words = ("reproduced", "better", "not reproduced", "undecided", "partial budget")
    counts = {word: verdicts.count(word) for word in words}
    counts["diverged"] = sum(bool(entry["diverged"]) for entry in experiments)
    return {word: count for word, count in counts.items() if count}
