# `make run` tries the package, `make test` tests it. Needs Python 3.11 or later, nothing else.

PYTHON ?= python3
VENV ?= .venv
# how many tests run at once: as many as there are processors, but no more than four
JOBS ?= auto
# further arguments of pytest: make test PYTEST_ARGS="--backend=postgres -x"
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PARALLEL := -n $(JOBS) --maxprocesses=4 --dist=worksteal
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
METADATA := setup.cfg setup.py pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help run test soak bench docs lint type check clean

help: ## show this list
	@awk -F ': [^#]*## ' '/^[a-z]+: .*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.installed ## run the quickstart; DSN=postgres://... picks another database
	@$(BIN)/python examples/quickstart.py $${DSN:+"$$DSN"}

test: $(VENV)/.test ## run the tests, but for the slow ones, on SQLite and the servers at hand
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(PYTEST_ARGS)

soak: $(VENV)/.test ## run the slow tests: many rounds, kills, outages, large data
	$(BIN)/python -m pytest -m slow $(PARALLEL) $(PYTEST_ARGS)

bench: $(VENV)/.test ## measure this package, plain Peewee and the drivers
	$(BIN)/python -m tests.benchmarks $(ARGS)

docs: $(VENV)/.dev ## build the documentation into build/docs/index.html
	$(BIN)/python -m sphinx -q -E -W --keep-going -d build/doctrees docs build/docs

lint: $(VENV)/.dev ## check style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

type: $(VENV)/.dev ## check types
	$(BIN)/mypy

# one after the other also under -j
check: ## lint, type, docs and test
	$(MAKE) lint
	$(MAKE) type
	$(MAKE) docs
	$(MAKE) test

clean: ## delete what these targets made, but for data/
	rm -rf $(VENV) .venv-3.* .servers build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find gproxy_storage tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: installing is done again only when the metadata has changed.
$(VENV)/.made:
	@.ci/venv $(VENV) $(PYTHON)
	@touch $@

$(VENV)/.installed: $(METADATA) | $(VENV)/.made
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(METADATA) | $(VENV)/.made
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.dev: $(METADATA) | $(VENV)/.made
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.installed
