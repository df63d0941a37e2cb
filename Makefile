# Everything a person types in this repository. `make` alone lists it.
#
#   PYTHON=python3.12   another interpreter for the virtual environment (3.11 or newer)
#   PIP_ARGS=…          passed to pip, e.g. --extra-index-url for a torch without CUDA
#   OUT=DIR  ARGS=…     where quickstart writes, and further flags of quickstart or pytest

PYTHON ?= python3
PIP_ARGS ?=
OUT ?= ettin-quickstart
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.stamp
PYTEST = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help quickstart test test-slow check docs golden bench bench-scoring clean
.DEFAULT_GOAL := help

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: $(STAMP) ## train a small encoder and its twin on text of this machine [OUT=DIR] [ARGS=…]
	$(BIN)/ettin quickstart --out "$(OUT)" $(ARGS)

test: $(STAMP) ## the tests, a few minutes on two cores
	$(PYTEST) -n 2 $(ARGS)

test-slow: $(STAMP) ## the slow tests, and those that need chromium
	$(PYTEST) -n 2 -m "slow or browser" $(ARGS)

check: $(STAMP) ## lint, format, types, and the contracts of the source tree
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYTEST) -q tests/test_floors.py tests/test_documentation.py tests/test_requirements.py

docs: $(STAMP) ## the documentation, as pages in site/; needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "pages: site/index.html"

golden: $(STAMP) ## rewrite the golden files; look at the difference before you keep it
	ETTIN_REGENERATE_GOLDEN=1 $(PYTEST) tests/test_golden.py
	git --no-pager diff --stat -- tests

bench: $(STAMP) ## training speed against stock transformers; goes on where it stopped [QUICK=1] [ARGS=…]
	$(BIN)/python -m benchmarks.training_speed $(if $(QUICK),--quick) $(ARGS)

bench-scoring: $(STAMP) ## speed of encoders on generative tasks, batched against one by one [ARGS=…]
	$(BIN)/python -m benchmarks.scoring_speed $(ARGS)

clean: ## remove caches (.venv and everything trained stay)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is removed first and made last, so that a failed installation is not taken for a whole one.
$(STAMP): requirements.lock pyproject.toml
	@rm -f $(STAMP)
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $(STAMP)
