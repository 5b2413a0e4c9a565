# Everything here needs only GNU make, git and Python 3.11 or newer: the rest is installed in .venv.
#
#   make demo PRESET=standard     a longer study than `quick`
#   make test PYTHON=python3.12   another interpreter
#   make test ARGS=tests/methods  a part of the suite (ARGS is passed on to pytest)

PYTHON ?=
PRESET ?= quick
ARGS ?=
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCK := constraints.txt

# One thread a process: with two test workers more would fight over the cores.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo setup toolchains check format test test-slow bench docs dist image lowest clean
.DELETE_ON_ERROR:

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | \
	  awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: $(VENV)/.train ## Run the embedded study and write its report (PRESET=quick or standard)
	$(BIN)/astraios demo --preset $(PRESET)

setup: $(VENV)/.dev ## Make the development environment in .venv

toolchains: ## Install the compilers of HumanEvalPack's languages (Debian, Ubuntu; as root)
	.ci/toolchains

check: $(VENV)/.dev ## Format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(TEST) -q tests/test_layers.py

format: $(VENV)/.dev ## Rewrite the files in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.dev ## Run the tests, except those marked slow or gpu
	$(TEST) -n $(WORKERS) -m "not slow and not gpu" $(ARGS)

test-slow: $(VENV)/.dev ## Run the tests marked slow
	$(TEST) -m "slow and not gpu" $(ARGS)

bench: $(VENV)/.dev ## Run every benchmark (BENCH=name for one)
	@set -e; for script in benchmarks/$(or $(BENCH),*).py; do \
	  echo "== $$script"; $(BIN)/python "$$script" $(ARGS); \
	done

docs: $(VENV)/.docs ## Build the documentation into site/; a warning is an error
	$(BIN)/python tools/reference.py
	$(BIN)/zensical build --strict --clean

dist: $(VENV)/.dist ## Build wheel and sdist into dist/ and check what an index would refuse
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/twine check --strict dist/*

image: ## Build a container image with Astraios and all six toolchains (needs docker)
	docker build --tag astraios .

lowest: ## Print the lowest version of every direct dependency, as constraints for pip
	@$(or $(PYTHON),python3) tools/lowest.py

clean: ## Remove what was built; runs/ stays
	rm -rf $(VENV) site docs/reference .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# --- environments -----------------------------------------------------------------------------
# A stamp is written when its packages are in, and is out of date when what it was made from changes.

$(VENV)/.venv:
	@python=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14); do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Astraios needs Python 3.11 or newer; looked for: $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14)." >&2; \
	  echo "Install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$python --version)"; \
	rm -rf $(VENV); \
	if ! $$python -m venv $(VENV); then \
	  rm -rf $(VENV); \
	  echo "$$python cannot make virtual environments; on Debian or Ubuntu install python3-venv." >&2; \
	  exit 1; \
	fi
	@touch $@

# torch comes first and alone: asked for by exact version, pip takes the build that fits this
# machine, and nothing that follows can replace it. The build tools are installed by hand because
# pip gives no constraints to the environments it builds in.
$(VENV)/.torch: $(LOCK) | $(VENV)/.venv
	@echo "Installing packages; the first time takes a few minutes"
	$(PIP) "$$(grep '^torch==' $(LOCK))"
	$(PIP) -c $(LOCK) hatchling editables
	@touch $@

$(VENV)/.train: pyproject.toml $(LOCK) $(VENV)/.torch
	$(PIP) -c $(LOCK) --no-build-isolation -e '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(LOCK) $(VENV)/.torch
	$(PIP) -c $(LOCK) --no-build-isolation -e '.[dev]'
	@touch $@ $(VENV)/.train

$(VENV)/.dist: $(LOCK) | $(VENV)/.venv
	$(PIP) -c $(LOCK) hatchling twine
	@touch $@

# The reference pages are made from the package, of which the half without torch is enough.
$(VENV)/.docs: $(LOCK) | $(VENV)/.venv
	$(PIP) -c $(LOCK) zensical
	@$(BIN)/python -c 'import astraios' 2>/dev/null || { \
	  $(PIP) -c $(LOCK) hatchling editables && $(PIP) -c $(LOCK) --no-build-isolation -e .; }
	@touch $@
