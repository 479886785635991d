# Every target creates .venv when it is missing and reinstalls when the build's inputs change.
# PYTHON=python3.12 picks the interpreter, CLIPVG_BUILD=none|cpu|cuda the native build (see setup.py).

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
BUILD_INPUTS := pyproject.toml setup.py $(wildcard csrc/*)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile

.PHONY: demo test test-all bench lint install clean

demo: .venv/.installed
	$(BIN)/clipvg demo $(ARGS)

# The core suite: nothing that takes more than ten seconds a test.
test: .venv/.installed
	$(PYTEST) -m "not slow" $(ARGS)

test-all: .venv/.installed
	$(PYTEST) $(ARGS)

bench: .venv/.installed
	@set -e; for script in benchmarks/ops/*.py; do echo "$$script"; $(BIN)/python "$$script" $(ARGS); done
	$(BIN)/python benchmarks/rescoring.py --quick
	$(BIN)/python benchmarks/training_step.py --quick

lint: .venv/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

install: .venv/.installed

# Torch comes first and the build is not isolated, so that torch is downloaded once and the native code is built
# against the one that will run it.
.venv/.installed: $(BUILD_INPUTS)
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch torchvision
	$(PIP) "setuptools>=77" wheel "pybind11>=3.0" ninja
	$(PIP) --no-build-isolation -e ".[dev]"
	@touch $@

clean:
	rm -rf build dist *.egg-info clipvg/*.so clipvg/_build.json
