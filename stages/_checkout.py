"""Run the code of this checkout, whatever is installed, and only as DVC hashed it. Every stage imports it first."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from zoo import code  # noqa: E402, the path comes first
from zoo.errors import InputError  # noqa: E402

_script = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
if _script.parent == Path(__file__).resolve().parent:  # not where a test imports a stage
    try:
        code.hold(_script.stem)
    except InputError as error:
        sys.exit(f"{_script.name}: {error}")
