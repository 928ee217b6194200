# Two commands do everything: `make repro` and `make test`. Both begin with `make setup`.
PYTHON ?= python3
IN = PATH="$(CURDIR)/.venv/bin:$$PATH"
# How many stages run at a time, as in make repro JOBS=2; default: the number of usable cores.
AT_A_TIME = $(if $(JOBS),--jobs $(JOBS))
COMPILE = .venv/bin/uv pip compile pyproject.toml --extra dev --quiet --no-header --no-annotate --no-emit-index-url

.PHONY: help setup repro full benchmark compare test lint format lock

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/\1\t/p' Makefile | expand -t 12

setup: .venv/installed .dvc/plots.html  ## create .venv and install the pinned versions; nothing when nothing changed

repro: setup  ## run the quick pipeline: bundled data, CPU, minutes (two stages at a time: make repro JOBS=2)
	$(IN) zoo repro $(AT_A_TIME)
	@echo "Report: reports/quick/index.html"

full: setup  ## run the full pipeline: MNIST and PTB, the write-ups' budgets
	$(IN) zoo repro $(AT_A_TIME) full/dvc.yaml
	@echo "Report: reports/full/index.html"

benchmark: setup  ## measure latency again, then update the report
	$(IN) zoo benchmark quick
	$(IN) zoo repro $(AT_A_TIME)

compare: setup  ## what changed since a commit, quality and latency: make compare BASE=HEAD~1
	$(IN) zoo compare $(or $(BASE),HEAD)

test: setup lint  ## check style, then run the tests, files side by side
	$(IN) pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: setup  ## check style and formatting
	$(IN) ruff check
	$(IN) ruff format --check

format: setup  ## fix style and formatting
	$(IN) ruff check --fix
	$(IN) ruff format
	$(IN) python -c 'from dvc.utils.hydra import apply_overrides; apply_overrides("params.yaml", [])'

# The stamp goes first and comes last: whatever an interrupted setup left behind is cleared by the next one.
# The variables (old and new pip) pin what builds antlr4-python3-runtime, which has no wheel.
.venv/installed: pyproject.toml constraints.txt
	@test -e $@ || $(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>&- \
	|| { echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13 with venv: name one, as in make setup PYTHON=python3.12" >&2; exit 1; }
	test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt .venv/bin/pip install --disable-pip-version-check --editable '.[dev]'
	@touch $@

# So that the pages of `dvc plots` open without a network.
.dvc/plots.html: .venv/installed
	$(IN) zoo plots

# antlr4-python3-runtime: the one dependency that is published as source alone.
lock: setup  ## update the pins and check them with each Python (latest versions: make lock UPGRADE=--upgrade)
	$(COMPILE) --universal --python-version 3.11 --fork-strategy fewest $(UPGRADE) --output-file constraints.txt
	@for version in 3.11 3.12 3.13; do \
	resolved=$$($(COMPILE) --constraint constraints.txt --python-version $$version --python-platform x86_64-manylinux_2_28 \
	--only-binary :all: --no-binary antlr4-python3-runtime) || exit 1; \
	unpinned=$$(echo "$$resolved" | sed 's/ ;.*//' | while read -r pin; do grep -qE "^$$pin( |$$)" constraints.txt || echo "$$pin"; done); \
	test -z "$$unpinned" || { echo "Python $$version needs what constraints.txt lacks:" $$unpinned >&2; exit 1; }; \
	echo "Python $$version: $$(echo "$$resolved" | wc -l) packages, all pinned"; done
