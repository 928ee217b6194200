"""Write code/: digests of the code that each stage runs, and what the report shows of each experiment."""

import json

import _checkout  # noqa: F401, the stage runs this checkout's code

from zoo import code, files, params
from zoo.params import experiments
from zoo.stage import run


def digest():
    """Write one file per unit and one per profile with its experiments; delete the files of removed units."""
    values = params.read()
    with files.replacing(code.FOLDER) as folder:
        for unit in code.units():
            files.write_json(folder / f"{unit}.json", code.unit(unit))
        (folder / "experiments").mkdir()
        for profile in params.PROFILES:
            text = json.dumps(experiments.reported(values, profile), ensure_ascii=False, indent=2)
            # In the order of params.yaml, which the report keeps.
            (folder / "experiments" / f"{profile}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(digest)
