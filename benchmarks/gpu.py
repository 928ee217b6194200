"""reports/gpu/README.md from first_visit.json: what a step and a graph cost on a GPU, and whether they are right there.

Measured once, outside of the pipeline, with the code of the commit that the file names; `python benchmarks/gpu.py`
renders the tables again.
"""

from pathlib import Path

import pandas

from zoo import files

HERE = Path(__file__).resolve().parents[1] / "reports" / "gpu"


def table(rows, columns):
    """A Markdown table of the `columns` {key: title} of `rows`."""
    frame = pandas.DataFrame(rows).reindex(columns=list(columns)).rename(columns=columns)
    return frame.to_markdown(index=False, floatfmt=".3g", missingval="")


def steps(found):
    """A table of each setting: milliseconds of a training step, one by one and as a captured CUDA graph."""
    columns = {
        "name": "experiment", "eager_ms": "eager, ms", "kernels": "kernels", "graph_ms": "CUDA graph, ms",
        "five_ms": "five seeds in one graph, ms",
    }  # fmt: skip
    for setting, rows in found.items():
        ratios = [row["eager_ms"] / row["graph_ms"] for row in rows if "graph_ms" in row]
        yield f"### {setting}"
        yield (
            f"{len(ratios)} of {len(rows)} experiments were captured; their steps were {min(ratios):.1f} to "
            f"{max(ratios):.1f} times faster than eager ones."
        )
        yield table(rows, columns)


def refused(graphs):
    """Which graphs did not run on CUDA, and how far the others were from the CPU."""
    failed = [row["of"] for row in graphs if "error" in row["host"]]
    relative = {
        row["of"]: max(
            row[mode]["largest_difference"] / max(1, row[mode]["scale"]) for mode in ("host", "bound", "graph")
        )
        for row in graphs
        if row["of"] not in failed
    }
    worst = max(relative, key=relative.get)
    return (
        f"{len(relative)} of {len(graphs)} graphs ran whole on CUDA in all three modes, each compared with the CPU "
        f"after a replay on other inputs. The largest difference was {relative[worst]:.1e} of the larger of 1 and the "
        f"largest output ({worst}). Refused, because a node was left to the CPU: {', '.join(failed)}."
    )


def trained(rows):
    """Whether trainings repeat and resume."""
    right = [row["name"] for row in rows if row.get("deterministic") and row.get("resumes")]
    return (
        f"{len(right)} of {len(rows)} experiments that were trained for 120 steps three times gave equal weights each "
        f"time, to the byte: twice from the start, and once interrupted half-way and resumed ({', '.join(right)})."
    )


def write():
    """Render the page."""
    found = files.read_json(HERE / "first_visit.json")
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items() if value is not None)
    latency = [{"experiment": name} | row for name, rows in found["latency"].items() for row in rows]
    columns = {
        "experiment": "experiment", "verb": "verb", "batch": "batch", "mode": "mode", "p50_us": "p50, µs",
        "drift": "drift of the reference",
    }  # fmt: skip
    parts = [
        "# On a GPU",
        f"Measured once at commit {found['commit']}, on untrained networks and their graphs: {machine}. The versions "
        "are not the pinned ones. Rendered from first_visit.json by `python benchmarks/gpu.py`.",
        "## A training step",
        *steps(found["steps"]),
        "## Training",
        trained(found["training"]),
        "## Graphs",
        refused(found["graphs"]),
        "## Latency with ONNX Runtime on CUDA",
        "Settings of the quick profile. A drift above 0.05 means that the machine's pace changed meanwhile.",
        table(latency, columns),
    ]
    with files.replacing(HERE / "README.md") as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
