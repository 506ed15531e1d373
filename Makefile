# make run      Table 2 on the embedded world, from nothing: environment, paintings, scores, report
# make install  the environment alone (.venv), with the versions of constraints.txt
# make test     the tests
# make mmdet    MMDetection, open_clip and a working torchvision in .venv-mmdet (compiles mmcv)
# make test-mmdet   the tests that need them
# make check    style, types and the arrows between the packages
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

# torch 2.14 with torchvision is over 5 GB; compiling mmcv takes about 20 minutes of one core.
VENV_MMDET ?= .venv-mmdet
BIN_MMDET := $(VENV_MMDET)/bin
STAMP_MMDET := $(VENV_MMDET)/.installed
MAX_JOBS ?= 2

.PHONY: run install test check mmdet test-mmdet

run: $(STAMP)
	$(BIN)/python run.py experiment=table2_mini $(ARGS)

install: $(STAMP)

# torch first and by itself: the constraint names a build, so that no other one is pulled along.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

mmdet: $(STAMP_MMDET)

# mmcv must see the torch that it is compiled for, hence no build isolation; its setup.py needs
# pkg_resources, which newer setuptools lacks.
$(STAMP_MMDET): pyproject.toml constraints.txt constraints-mmdet.txt
	$(PYTHON) -m venv $(VENV_MMDET)
	grep -v '^torch==' constraints.txt | cat - constraints-mmdet.txt > $(VENV_MMDET)/constraints.txt
	$(BIN_MMDET)/python -m pip install --quiet -c $(VENV_MMDET)/constraints.txt torch torchvision
	$(BIN_MMDET)/python -m pip install --quiet "setuptools<81" wheel ninja psutil
	MAX_JOBS=$(MAX_JOBS) $(BIN_MMDET)/python -m pip install --quiet --no-build-isolation \
		-c $(VENV_MMDET)/constraints.txt mmcv
	$(BIN_MMDET)/python -m pip install --quiet -c $(VENV_MMDET)/constraints.txt \
		--editable ".[dev,clip,lpips,mmdet]"
	touch $@

test-mmdet: $(STAMP_MMDET)
	$(BIN_MMDET)/python -m pytest tests/metrics

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
