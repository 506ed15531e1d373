# make run         Table 2 on the embedded world, from nothing: environment, paintings, scores, report
# make install     the environment alone (.venv), with the versions of constraints.txt
# make test        the tests
# make test-slurm  the tests on a Slurm of one node, which it installs (Debian, root)
# make check       style, types and the arrows between the packages
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: run install test test-slurm check

run: $(STAMP)
	$(BIN)/python run.py experiment=table2_mini $(ARGS)

install: $(STAMP)

# torch first and by itself: the constraint names a build, so that no other one is pulled along.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

test: $(STAMP)
	$(BIN)/python -m pytest

test-slurm: $(STAMP)
	scripts/cluster/install_slurm.sh
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,slurm]"
	$(BIN)/python -m pytest -m slurm tests/slurm

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
