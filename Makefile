# make run         Table 2 on the embedded world, from nothing: environment, paintings, scores, report
# make install     the environment alone (.venv), with the versions of constraints.txt
# make demo        the painter in a browser (http://127.0.0.1:7860)
# make test        the tests
# make test-ui     the tests of the pages, in your system's Chromium
# make test-slurm  the tests on a Slurm of one node, which it installs (Debian, root)
# make mmdet       MMDetection in .venv-mmdet (compiles mmcv: some 20 minutes of one core)
# make vision      open_clip and a torchvision that works in .venv-vision (over 5 GB)
# make test-mmdet, make test-vision   the metrics' tests there
# make notebooks   runs the notebooks and exports them to outputs/notebooks/*.html
# make figures     all figures of the paper on the embedded world, with a page: outputs/figures/index.html
# make check       style, types and the arrows between the packages
# make clean       removes the environments and caches; outputs/ is kept
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

VENV_MMDET ?= .venv-mmdet
VENV_VISION ?= .venv-vision
MAX_JOBS ?= 2

.PHONY: run install demo test test-ui test-slow test-slurm check clean mmdet test-mmdet vision test-vision notebooks \
	figures

run: $(STAMP)
	$(BIN)/python run.py experiment=table2_mini $(ARGS)

install: $(STAMP)

demo: $(VENV)/.ui
	$(BIN)/profi ui $(ARGS)

$(VENV)/.ui: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,ui]"
	touch $@

# torch first and by itself: the constraint names a build, so that no other one is pulled along.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

mmdet: $(VENV_MMDET)/.installed

# mmcv is compiled against the torch that it will run with, hence without build isolation; its
# setup.py needs pkg_resources, which newer setuptools lacks.
$(VENV_MMDET)/.installed: pyproject.toml constraints.txt constraints-mmdet.txt
	$(PYTHON) -m venv $(VENV_MMDET)
	$(VENV_MMDET)/bin/python -m pip install --quiet -c constraints.txt torch
	$(VENV_MMDET)/bin/python -m pip install --quiet "setuptools<81" wheel ninja psutil
	MAX_JOBS=$(MAX_JOBS) $(VENV_MMDET)/bin/python -m pip install --quiet --no-build-isolation \
		-c constraints.txt -c constraints-mmdet.txt mmcv
	$(VENV_MMDET)/bin/python -m pip install --quiet -c constraints.txt -c constraints-mmdet.txt \
		--editable ".[checks,lpips,mmdet]"
	touch $@

test-mmdet: $(VENV_MMDET)/.installed
	$(VENV_MMDET)/bin/python -m pytest tests/metrics

vision: $(VENV_VISION)/.installed

$(VENV_VISION)/.installed: pyproject.toml constraints.txt constraints-vision.txt
	$(PYTHON) -m venv $(VENV_VISION)
	grep -v '^torch==' constraints.txt | cat - constraints-vision.txt > $(VENV_VISION)/constraints.txt
	$(VENV_VISION)/bin/python -m pip install --quiet -c $(VENV_VISION)/constraints.txt \
		torch torchvision
	$(VENV_VISION)/bin/python -m pip install --quiet -c $(VENV_VISION)/constraints.txt \
		--editable ".[dev,lpips,clip]"
	touch $@

test-vision: $(VENV_VISION)/.installed
	$(VENV_VISION)/bin/python -m pytest tests/metrics

# Of one file's tests all run in one process, which share what is expensive to make.
test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadfile

test-ui: $(VENV)/.ui-tests
	$(BIN)/python -m pytest -n 0 -m ui tests/ui

$(VENV)/.ui-tests: $(VENV)/.ui
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,ui-tests]"
	touch $@

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

test-slurm: $(STAMP)
	scripts/cluster/install_slurm.sh
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,slurm]"
	$(BIN)/python -m pytest -m slurm tests/slurm

# Where no kernel runs, no slider can be moved: figures take their place.
notebooks: $(STAMP)
	PROFI_STATIC_NOTEBOOKS=1 $(BIN)/jupyter nbconvert --execute --to html \
		--output-dir outputs/notebooks notebooks/*.ipynb

# High resolution has scenes of its own, four times as large.
figures: $(STAMP)
	$(BIN)/profi figure all $(ARGS)
	$(BIN)/python scripts/fine_scenes.py outputs/fine_scenes
	$(BIN)/profi figure 13,14,20,21 $(ARGS)

# What was built and downloaded here; outputs/ is kept.
clean:
	rm -rf $(VENV) $(VENV_MMDET) $(VENV_VISION) profi.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
