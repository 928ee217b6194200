"""Gather every experiment of a profile, with all that is known about it, from the records.

Measurements come from records, descriptions of metrics from `zoo.evaluate.metrics`.
"""

import collections
import math
from pathlib import Path

import numpy
import pandas
from PIL import Image

from zoo import files, params, statistics
from zoo.errors import InputError
from zoo.evaluate.metrics import Metric, known_metrics
from zoo.graphs.verbs import VERBS
from zoo.params import claims as stated
from zoo.params import evaluation, published
from zoo.params.claims import AT_EQUAL_STEPS
from zoo.records import cost, curve, judged, metrics, parity, run
from zoo.records.metrics import Summary
from zoo.report import claims, latency_results
from zoo.report.wording import exported, number, plain, seed_list

ORDER = (*VERBS, "judge", "training")
CAPTIONS = {
    "reconstruct": "Test images and their reconstructions.",
    "encode": "Codes of test images.",
    "generate": "Samples drawn from noise; one row per digit if the network takes a label.",
    "generate-progress": "Ten samples drawn from the same noise during training, one row per step.",
    "decode": (
        "Images decoded from random codes, one row per digit if the decoder takes a label. Two-dimensional codes are "
        "shown as a grid centred on (0, 0). Larger codes without a prior are interpolated along each row, from the "
        "code of one test image to that of the next."
    ),
    "classify": "Confusion matrix on the test set.",
    "next_word": "Loss along the lines of the test text.",
    "apply": "Output of the operator on test images, or on their centre if it takes fewer pixels.",
}
READ = {"decode": ["encode", "decode"]}  # other graphs with which a verb is scored
OTHER_STRUCTURE, OTHER_WEIGHTS = "other structure", "other weights"  # the first that applies is shown


def gather(profile, values):
    """All that the report shows of a profile; `values` are those of params.yaml.

    Raises InputError if a record is missing or damaged, or params.yaml names a metric that was not measured.
    """
    planned = files.read_json(Path("code", "experiments", f"{profile}.json"))
    judge, weighing = params.load(evaluation.Judge, values, "judge"), profile == "full"
    exports = {name: parity.read(profile, name) for name in dict.fromkeys([*planned, judge.by])}
    figures = published.figures(values) if weighing else {}
    logs = params.load(published.Curves, values, "published_curves") if weighing else {}
    experiments = [
        _experiment(profile, name, plan, exports, judge, figures.get(name, {}), logs.get(name, []))
        | latency_results.gather(profile, exports[name], values)
        for name, plan in planned.items()
    ]
    weighed = _claims(params.load(stated.Claims, values, "claims"), experiments) if weighing else []
    rows = [(entry["name"], row) for entry in experiments for row in entry["rows"]]
    for name, row in rows:
        if row["verdict"] in ("not reproduced", "undecided"):
            reasons = [claim for claim in weighed if f"{name}.{row['key']}" in claim["explains"]]
            row["why"] = [claim["says"] for claim in reasons if claim["verdict"] == "holds"]
    used = {row["key"] for _, row in rows}
    return {
        "profile": profile,
        "experiments": experiments,
        "judge": judge.by,
        "glossary": [(key, metric) for key, metric in known_metrics().items() if key in used],
        "machines": latency_results.machines(experiments),
        "counts": _counts(experiments),
        "claims": weighed,
        "marks": {mark: sum(row["graph"] == mark for _, row in rows) for mark in (OTHER_WEIGHTS, OTHER_STRUCTURE)},
    }


def _experiment(profile, name, plan, exports, judge, figures, logs):
    trained, scored = run.read(profile, name), metrics.read(profile, name)
    samples = judged.read(profile, name) if name in judge.of else None
    losses = curve.read(profile, name)
    recipe, costs = trained.recipe, list(cost.read(profile, name).training.values())
    computed = [f"{of.device}, {of.processor}, PyTorch {trained.versions['torch']}" for of in trained.seeds.values()]
    graphs = exports[name].graphs
    budget = _budget(recipe["steps"], trained.seeds, plan)
    diverged = {s: one.diverged_at_step for s, one in trained.seeds.items() if one.diverged_at_step is not None}
    partial = recipe["steps"] < plan["steps"] and not diverged
    groups = scored.verbs | {"training": _of_training(losses, diverged, recipe["steps"])}
    marks = {verb: _marks(scored.graphs, exports[name], READ.get(verb, [verb])) for verb in scored.verbs}
    if samples:
        groups["judge"] = samples.metrics
        judging = {str(samples.judge.seed): samples.judge.graphs}
        marks["judge"] = _marks(samples.graphs, exports[name]) | _marks(judging, exports[judge.by])
    rows = _rows(groups, marks)
    for key, figure in figures.items():
        row = _named(rows, key, f"published.{name}.{key}", name)
        row["published"] = figure.model_dump()
        row["verdict"] = _verdict(row, figure, partial, diverged)
    headline = plan["headline"] or ("judge.frechet_distance" if samples else None)
    return {
        "name": name,
        "about": plan["about"],
        "family": plan["family"],
        "headline": _named(rows, headline, f"models.{name}.headline", name) if headline else None,
        "run": trained,
        "source": scored.source,
        "plan": plan,
        "partial": partial,
        "budget": budget,
        "costs": costs,
        "diverged": diverged,
        "divergence": [_divergence(seed, trained.seeds[seed], losses) for seed in diverged],
        "setup": [
            ("budget", budget, []),
            ("trained on", "; ".join(dict.fromkeys(computed)), []),
            *([("tuned", plan["tuned"], [])] if plan["tuned"] else []),
            ("weights", number(trained.parameters), []),
            ("data", scored.source, []),
            *_options(recipe),
            *((f"exported {verb}", exported(graphs[verb]), []) for verb in VERBS if verb in graphs),
        ],
        "rows": rows,
        "overall": [row for row in rows if not row["class"]],
        "per_class": [row for row in rows if row["class"]],
        "seeds": sorted({seed for row in rows for seed in row["seeds"]}, key=int),
        "samples": samples.samples if samples else None,
        "confusion": scored.confusion,
        "drawn": bool({"reconstruct", "decode", "generate", "judge"} & groups.keys()),
        "pictures": _pictures(files.figures(profile, name), files.report(profile, "")),
        "curve": losses,
        "published_curves": [_beside_log(log, losses) for log in logs],
    }


def _marks(used, exports, verbs=None):
    """The set of OTHER_* by which the graphs `used`, {seed: {verb: Identity}}, differ from those exported now.

    Only `verbs` are compared (default: all).
    """
    marks = set()
    for seed, graphs in used.items():
        present = exports.identities(seed)
        for verb, graph in graphs.items():
            if (verbs is None or verb in verbs) and graph != present.get(verb):
                alike = verb in present and graph.structure_sha256 == present[verb].structure_sha256
                marks.add(OTHER_WEIGHTS if alike else OTHER_STRUCTURE)
    return marks


def _rows(groups, marks):
    """One dictionary per metric, or per metric and class, in the order of metrics.yaml within a verb."""
    rows, order = [], list(known_metrics())
    for verb, group in groups.items():
        for name, found in group.items():
            key, summaries = f"{verb}.{name}", {"": found} if isinstance(found, Summary) else found
            metric = known_metrics().get(key) or Metric(name=name, meaning="")
            for part, one in summaries.items():
                row = {"key": key, "verb": verb, "class": part, "label": metric.name, "unit": metric.unit}
                row |= {"floor": metric.floor, "of_seeds": metric.of_seeds}
                row |= {"graph": min(marks.get(verb, ()), default=None)}
                row |= one.model_dump() | {"published": None, "verdict": None, "why": None}
                if metric.of_seeds and one.low is not None:
                    row["low"], row["high"] = statistics.share(sum(one.seeds.values()), len(one.seeds))
                rows.append(row)
    means = {row["key"]: row["mean"] for row in rows}
    for row in rows:
        row["floor"] = means.get(row["floor"])
    return sorted(rows, key=lambda row: (ORDER.index(row["verb"]), [*order, row["key"]].index(row["key"])))


def _named(rows, key, where, name):
    known = {row["key"]: row for row in rows if not row["class"]}
    if key not in known:
        raise InputError(f"params.yaml: {where}: {key} was not measured for {name}; use one of {', '.join(known)}")
    return known[key]


def _verdict(row, figure, partial, diverged):
    if row["mean"] is None:
        return "diverged" if diverged else "not finite"
    return "partial budget" if partial else statistics.verdict(row, figure.value, figure.better, figure.tolerance)


def _of_training(losses, diverged, steps):
    """Metrics of the training, from its curve: {metric: Summary over the seeds}."""
    measured = {}
    for seed, of_seed in _of_first_player(losses).groupby("seed"):
        validation, training = (of_seed[of_seed["split"] == split] for split in ("validation", "training"))
        read, norms, ended = validation["loss"].tolist(), training["gradient_norm"].tolist(), str(seed) in diverged
        silent = training["step"][(training["gradient_norm"][::-1] == 0).cummin()]
        measured[seed] = {
            "early_loss": read[1] if len(read) > 1 else None,
            "final_loss": read[-1] if read and not ended else None,
            "first_gradient_norm": norms[0] if norms else None,
            "last_gradient_norm": norms[-1] if norms else None,
            "silent_steps": steps - silent.min() if len(silent) else 0,
            "diverged": float(ended),
        }
    by_metric = pandas.DataFrame(measured, dtype=float).T
    return {metric: Summary(**statistics.summary(by_seed)) for metric, by_seed in by_metric.items()}


def _of_first_player(losses):
    return losses[losses["player"].isin(losses["player"][:1])]


def _divergence(seed, one, losses):
    """The step at which a seed diverged, what stopped being finite, and the last recorded norm of the gradient."""
    norms = losses[(losses["seed"] == int(seed)) & (losses["split"] == "training")]["gradient_norm"]
    what = "a weight" if one.diverged_in == "weights" else "the loss"
    return {"seed": seed, "step": one.diverged_at_step, "what": what, "norm": norms.iloc[-1] if len(norms) else None}


def _beside_log(log, losses):
    """A published log with our mean loss over the seeds at the nearest recorded step.

    The mean is None if a seed had diverged by then. There is no row if we recorded nothing near that step.
    """
    ours = losses[(losses["player"] == log.player) & (losses["split"] == log.split)]
    by_step = ours.pivot(index="step", columns="seed", values="loss").reindex(columns=losses["seed"].unique())
    means, rows = by_step.mean(axis=1, skipna=False), []
    for step, loss in log.points.items():
        nearest = min(means.index, key=lambda read, step=step: abs(read - step), default=math.inf)
        if abs(nearest - step) <= max(10, 0.05 * step):
            mean = means[nearest] if math.isfinite(means[nearest]) else None
            rows.append({"step": step, "published": loss, "ours": mean, "at": nearest})
    return log.model_dump() | {"rows": rows}


def _claims(stated, experiments):
    """Every claim of params.yaml with its verdict and its evidence."""
    by_name, rows, measured, weighed = {entry["name"]: entry for entry in experiments}, {}, {}, []
    for name, entry in by_name.items():
        rows[name, AT_EQUAL_STEPS] = {"label": "validation loss", "graph": None}
        measured[name, AT_EQUAL_STEPS] = _validation(entry)
        for row in entry["overall"]:
            rows[name, row["key"]] = row
            measured[name, row["key"]] = _with_divergence(row, entry["diverged"])
    partial = {name for name, entry in by_name.items() if entry["partial"]}
    for key, claim in stated.items():
        for name, metric in (side for one in claim.test for side in one.measured if side not in rows):
            if name not in by_name:
                raise InputError(f"params.yaml: claims.{key}: there is no experiment {name}; correct the name")
            _named(by_name[name]["rows"], metric, f"claims.{key}", name)
        verdict, evidence = claims.weigh(claim.test, measured, partial)
        for side in (side for one in evidence for side in (one["left"], one["right"]) if "metric" in side):
            row = rows[side["experiment"], side["metric"]]
            side |= {"label": row["label"], "graph": row["graph"]}
        weighed.append(claim.model_dump(exclude={"test"}) | {"key": key, "verdict": verdict, "evidence": evidence})
    return weighed


def _with_divergence(row, diverged):
    """{seed: value}; the loss of a seed that diverged before it was read is infinite."""
    lost = diverged if row["key"] in ("training.early_loss", "training.final_loss") else ()
    return {seed: math.inf if value is None and seed in lost else value for seed, value in row["seeds"].items()}


def _validation(entry):
    """{seed: {step: finite validation loss of the first player}}; a diverged seed ends with an infinite one."""
    rows = _of_first_player(entry["curve"])
    rows = rows[(rows["split"] == "validation") & numpy.isfinite(rows["loss"].astype(float))]
    curves = {str(seed): dict(zip(part["step"], part["loss"], strict=True)) for seed, part in rows.groupby("seed")}
    for seed, step in entry["diverged"].items():
        curves.setdefault(seed, {})[step] = math.inf
    return curves


def _pictures(folder, base):
    found = sorted(folder.glob("*.png"), key=lambda path: ([*CAPTIONS, path.stem].index(path.stem), path.stem))
    return [picture(path, base, CAPTIONS.get(path.stem, path.stem)) for path in found]


def picture(path, base, caption):
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
    return size | {"path": path.relative_to(base).as_posix(), "caption": f"{caption} {more}".strip()}


def _budget(steps, seeds, plan):
    words = [f"{steps:,} steps" if steps == plan["steps"] else f"{steps:,} of {plan['steps']:,} steps"]
    if not plan["steps"]:
        words = ["nothing to train"]
    if plan["steps"] or len(seeds) > 1:
        rest = f" of {seed_list(plan['seeds'])}" if sorted(map(int, seeds)) != sorted(plan["seeds"]) else ""
        words.append(f"{'seed' if len(seeds) == 1 else 'seeds'} {seed_list(seeds)}{rest}")
    return ", ".join(words)


def _options(recipe):
    """[(of what, its kind, [option with its value])] of the network, the fit and every player."""
    rows = [("network", f"{recipe['file']}.py", recipe["net"] | {"labelled": recipe["labelled"]})]
    rows += [("fit", "", recipe["fit"])] if recipe["players"] else []
    rows += [(f"player {name}", of["algorithm"], of | {"algorithm": None}) for name, of in recipe["players"].items()]
    return [
        (what, kind, [f"{key}: {plain(value)}" for key, value in options.items() if value is not None])
        for what, kind, options in rows
    ]


def _counts(experiments):
    counts = collections.Counter(entry["headline"]["verdict"] for entry in experiments if entry["headline"])
    counts["diverged"] = sum(bool(entry["diverged"]) for entry in experiments)
    words = ("reproduced", "better", "not reproduced", "undecided", "not finite", "partial budget", "diverged")
    return {word: counts[word] for word in words if counts[word]}
