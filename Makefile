# Two commands do all the set-up: `make run` and `make test`.

# The first Python of 3.11 or later that really starts.
PYTHON := $(shell for p in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help run demo test test-topologies lint bench bench-long chaos clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

run: .venv/.run ## start the whole service here, with a simulated Instagram; Ctrl-C ends it
	@exec $(BIN)/storyhook up

demo: .venv/.run ## try the whole service out, step by step, without a person
	@$(BIN)/storyhook demo

test: .venv/.dev ## run all tests
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

test-topologies: .venv/.dev ## the service on a cluster, a Sentinel set, RabbitMQ and two machines; about 15 minutes
	@$(BIN)/python -m pytest -q -s tests/topologies

lint: .venv/.dev ## check style, types and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/.bench ## measure beside bare parts, in about 5 minutes; writes docs/benchmarks.md
	@$(BIN)/python -m tests.bench

SOAK ?= 30
bench-long: .venv/.bench ## the same with a queue of 1,000,000 and half an hour of steady work: SOAK=minutes
	@$(BIN)/python -m tests.bench --long --soak-minutes $(SOAK)

N ?= 1500
chaos: .venv/.dev ## hurt a whole stack in every way we know, check that nothing is lost: N=20000 SEED=1
	@$(BIN)/python -m tests.chaos --requests $(N) $(if $(SEED),--seed $(SEED))

clean: ## remove the environment and caches; data in var/ stays
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info

.venv/.python:
	@test -n "$(PYTHON)" || { echo "Storyhook needs Python 3.11 or later: install it, or run 'make PYTHON=/path/to/python'." >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.run: .venv/.python constraints.txt setup.cfg pyproject.toml
	@echo "installing into .venv (once) ..."
	@$(PIP) --editable .
	@touch $@

.venv/.dev: .venv/.python constraints.txt setup.cfg pyproject.toml
	@echo "installing into .venv with what tests need (once) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/.run

.venv/.bench: .venv/.dev
	@echo "installing into .venv what the plot needs (once) ..."
	@$(PIP) --editable '.[bench]'
	@touch $@
