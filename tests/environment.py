"""An environment of their own for the tests and for all that they start. conftest.py imports this before anything else.

Of the user's environment only what says where programs, libraries and devices are is kept: no setting of git, DVC,
Python or pytest's plugins, no colour, language, home or temporary folder.
"""

import os
import tempfile
from pathlib import Path

REAL_DATA = "PYTEST_ZOO_MIRROR"  # the user's ZOO_MIRROR, for the tests that read real data
KEPT = ("PATH", "LD_LIBRARY_PATH", "LOGNAME", "USER", "ZOO_EXAMPLES", REAL_DATA)
KEPT_PREFIXES = ("ATEN_", "COVERAGE_", "COV_", "CUDA_", "MKL_", "NVIDIA_", "OMP_", "ONEDNN_", "PYENV_", "PYTEST_XDIST_")
# The checkout may belong to somebody else.
GIT_CONFIG = """\
[safe]
    directory = *
"""

if "ZOO_MIRROR" in os.environ:
    os.environ[REAL_DATA] = os.environ["ZOO_MIRROR"]
for name in [name for name in os.environ if name not in KEPT and not name.startswith(KEPT_PREFIXES)]:
    del os.environ[name]
tempfile.tempdir = None  # asked for before, it would be the user's still
HOME = tempfile.TemporaryDirectory(prefix="home-")
Path(HOME.name, ".gitconfig").write_text(GIT_CONFIG, encoding="utf-8")
os.environ |= {"GIT_CONFIG_NOSYSTEM": "1", "HOME": HOME.name, "LANG": "C.UTF-8"}
os.environ |= {"DVC_SITE_CACHE_DIR": HOME.name, "DVC_SYSTEM_CONFIG_DIR": HOME.name}
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(HOME.name, "hypothesis"))
