"""Write what each stage computes, as digests of its code, and what the report says of each experiment: code/."""

import json

import _checkout  # noqa: F401, the stage runs this checkout's code

from zoo import code, files, params
from zoo.params import experiments
from zoo.stage import run


def digest():
    """Write one file a unit, and of each profile the experiments; a unit that is gone loses its file."""
    values = params.read()
    with files.replacing(code.FOLDER) as folder:
        for unit in code.units():
            files.write_json(folder / f"{unit}.json", code.unit(unit))
        (folder / "experiments").mkdir()
        for profile in params.PROFILES:
            text = json.dumps(experiments.reported(values, profile), ensure_ascii=False, indent=2)
            # In the order of params.yaml, which is the report's.
            (folder / "experiments" / f"{profile}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(digest)
