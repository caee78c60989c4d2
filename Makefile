# make demo: the digits study, from nothing to a verdict.   make test: every check, from nothing to green.
# make quick: lint, types, contracts, and the unit tests that are fast or of what has changed (CONTRIBUTING.md).
# make claims: what is said of optimizers, put to the test (docs/claims.md).   make docs: the generated pages.
# Each does all of its own set-up in .venv. PYTHON chooses the interpreter (3.11 or newer), WORKERS how many processes test.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
DEMO ?= demo
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: demo test quick lint unit setup docs claims clean help

help:
	@sed -n '1,4p' Makefile

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found; set PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	mkdir -p $(DEMO)
	cd $(DEMO) && ../$(BIN)/tuner run ../examples/digits.yaml
	@echo "Look at every run: cd $(DEMO) && ../$(BIN)/tuner ui"

test: setup lint unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: setup
	$(PYTEST) --doctest-modules --cov --cov-report=term --cov-fail-under=85 tests tuner

quick: setup
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -q -m "not ray and not mlflow and not postgres" $$($(BIN)/python tests/touched.py)

docs: setup
	$(BIN)/python docs/generate.py

claims: setup
	$(BIN)/python benchmarks/claims.py claims

clean:
	rm -rf .venv demo claims .coverage .mypy_cache .ruff_cache .pytest_cache
