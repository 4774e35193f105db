# Two commands on a fresh machine do everything:  make train  and  make test.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UDL_DATA ?= $(shell [ -d ../shared/data/MNIST ] && realpath ../shared/data)
export UDL_DATA

.PHONY: train test check lint slow mutants bench notebook

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet -c constraints.txt -e ".[dev]"
	touch $@

train: $(READY)  ## train the default experiment offline, print its results
	$(BIN)/python -m udl_lab.train

test: $(READY)  ## the fast tests
	$(BIN)/python -m pytest

check: lint test  ## everything that needs no minutes

lint: $(READY)  ## style, layers, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

slow: $(READY)  ## DDP, notebooks, real MNIST runs
	$(BIN)/python -m pytest -m slow

mutants: $(READY)  ## plant known defects one at a time: does a test notice each?
	$(BIN)/python tests/mutants/plant.py

bench: $(READY)  ## speed, as ratios against a peer in the same process
	for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file || exit 1; done

notebook: $(READY)  ## execute NAME=01_rotation into the .ipynb beside it; RUN=FOLDER says which run
	UDL_RUN=$(abspath $(RUN)) $(BIN)/jupytext --to ipynb --execute notebooks/$(NAME).py
