"""`zoo` as `dvc_projects.zoo` starts it. The first two arguments are files: for what it prints, and for its errors."""

import os
import sys

for number, path in enumerate(sys.argv[1:3], start=1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
sys.argv = ["zoo", *sys.argv[3:]]

from zoo.cli import main  # noqa: E402, what it prints comes into the files

sys.exit(main())
