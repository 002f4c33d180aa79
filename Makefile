# `make demo` and `make test` set up everything they need in .venv, then do it; a second call starts at once.
# Another Python: make test PYTHON=python3.13 (after `make clean`). Options of the demo: make demo ARGS="--help"
PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin/python
PIP := $(BIN) -m pip install --quiet --disable-pip-version-check -c constraints.txt
BENCHMARKS := $(filter-out _%,$(basename $(notdir $(wildcard experiments/benchmarks/*.py))))

# Compiled programs are kept between runs.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

# LAPACK's threads wait for one another on busy cores: a triangular solve of 60 x 60 took 8 ms there instead of 0.04 (fits of Gaussian processes).
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help demo label test test-all test-browser postgres bench lint docs venv clean
.DELETE_ON_ERROR:

help:
	@echo "make demo | label | test | test-all | test-browser | bench | lint | docs | venv | clean"

demo: $(VENV)/.demo
	@$(BIN) -m experiments.digits $(ARGS)

# A labeling page with digits to try it on, in a browser of yours.
label: $(VENV)/.demo
	@$(BIN) -m bayesal serve --demo digits $(ARGS)

# Most of the time is compiling; `test-all` optimizes as users' programs do.
test: export XLA_FLAGS ?= --xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false
test: $(VENV)/.test
	@$(BIN) -m pytest -n 2 --dist loadfile $(ARGS)

test-all: $(VENV)/.test postgres
	@$(BIN) -m pytest -n 2 --dist loadfile -m "" $(ARGS)

# Chromium from the system's packages, where that is possible; without it these tests are skipped, and say so.
test-browser: $(VENV)/.test
	@command -v chromedriver >/dev/null && command -v chromium >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -y -qq chromium chromium-driver >/dev/null 2>&1; } \
		|| echo "Chromium is not installed and cannot be installed here (Debian: apt install chromium chromium-driver): its tests are skipped."
	@$(BIN) -m pytest -m browser tests/service/test_browser.py $(ARGS)

# A PostgreSQL for the tests of campaigns, from the system's packages; without it they are skipped, and say so.
postgres:
	@ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 || command -v pg_ctl >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -y -qq postgresql >/dev/null 2>&1; } \
		|| echo "PostgreSQL is not installed and cannot be installed here (Debian: apt install postgresql): its tests are skipped."

bench: $(VENV)/.demo
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN) -m experiments.benchmarks.$$name $(ARGS); done

lint: $(VENV)/.test
	@$(BIN) -m ruff check --quiet .
	@$(BIN) -m ruff format --quiet --check .
	@$(BIN) -m mypy bayesal

# Notebooks run, and are run again only where their cells have changed. No notebooks: make docs ARGS="-D nb_execution_mode=off"
docs: $(VENV)/.docs
	@$(BIN) -m sphinx -q -W --keep-going -b html $(ARGS) docs docs/_build/html
	@echo "docs/_build/html/index.html"

venv: $(VENV)/.test

clean:
	rm -rf $(VENV) docs/_build docs/api docs/notebooks .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.python:
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no '$(PYTHON)' here: install Python 3.11 or newer, or name one: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "'$(PYTHON)' is $$("$(PYTHON)" -V 2>&1); bayesal needs Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "'$(PYTHON)' cannot make a virtual environment: its venv or ensurepip module is missing (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" -V)"
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing bayesal and what the demo needs (several minutes the first time)"
	@$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing bayesal and what the tests need (several minutes the first time)"
	@$(PIP) -e '.[test,demo]'
	@touch $@

$(VENV)/.docs: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing bayesal and what the docs need (several minutes the first time)"
	@$(PIP) -e '.[test,demo,docs]'
	@touch $@
