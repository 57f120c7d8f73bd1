# Two commands for a newcomer: `make train` and `make test`. Everything is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help train test test-all test-rllib gpu gpu-wheels matrix fuzz docs lint types check clean

help:
	@echo "make train       install, train on the built-in Chinese corpus, show what was learned (about three minutes)"
	@echo "make test        install and run the fast tests"
	@echo "make test-all    the slow learning tests too"
	@echo "make test-rllib  the tests of the RLlib adapters, in an environment of their own (.venv-rllib)"
	@echo "make gpu         what needs a GPU: tests and benchmarks, in ten minutes, with PYTHON as it is, without a network"
	@echo "make gpu-wheels  the pure-Python packages for it, to carry to a machine without a network"
	@echo "make fuzz        every parser of files, ten minutes each, with inputs that atheris finds (Python 3.11 to 3.13)"
	@echo "make matrix      the environment with the oldest and newest Gymnasium and every supported Python found here"
	@echo "make docs        the documentation as HTML, in build/docs"
	@echo "make lint types  style and type checks"
	@echo "make clean       remove the environment and what was built"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(INSTALL) -e '.[docs]'
	@touch $@

train: $(VENV)/installed
	$(BIN)/tokenlm train quickstart

# A file's tests run in one process, so that what they share is made once.
test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

test-all: $(VENV)/installed-dev
	$(BIN)/python -m pytest

# RLlib pins an older Gymnasium, so it does not share .venv.
test-rllib: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-rllib
	.venv-rllib/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[rllib]' 'hypothesis>=6.100' 'pytest>=8.3'
	.venv-rllib/bin/python -m pytest -m rllib tests/agents/baselines/test_rllib.py

# Not in .venv: a machine with a GPU has a torch of its own.
gpu:
	$(PYTHON) benchmarks/gpu.py --minutes 8

gpu-wheels: $(VENV)/installed
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		--wheel-dir build/gpu-wheels $$($(BIN)/python benchmarks/checkout.py)

matrix: $(VENV)/installed-dev
	sh tests/matrix.sh $(BIN)/python

# atheris is only needed here, and has no wheels for every Python: it stays out of .venv.
FUZZ_SECONDS ?= 600
FUZZ_JOBS ?= 1
fuzz: $(VENV)/installed-dev
	$(INSTALL) --target build/atheris 'atheris>=3.0'
	PYTHONPATH=build/atheris $(BIN)/python benchmarks/fuzz.py --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS)

# A warning is an error: a broken link or a docstring that cannot be read.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Type checkers do not follow an editable install's finder, so they look at an ordinary one.
types: $(VENV)/installed-dev
	rm -rf build/types
	$(INSTALL) --no-deps --target build/types .
	cd build/types && ../../$(BIN)/python -m mypy --config-file ../../pyproject.toml -p tokenlm

check: lint types test

clean:
	rm -rf $(VENV) .venv-rllib build dist *.egg-info
