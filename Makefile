# make demo: the digits study, from nothing to a verdict.   make test: every check, from nothing to green.
# make claims: what is said of optimizers, put to the test (docs/claims.md).   make docs: the generated pages.
# Each does all of its own set-up in .venv. PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
DEMO ?= demo

.PHONY: demo test lint unit setup docs claims clean help

help:
	@sed -n '1,3p' Makefile

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
	$(BIN)/python -m pytest --doctest-modules --cov --cov-report=term --cov-fail-under=85 tuner tests

docs: setup
	$(BIN)/python docs/generate.py

claims: setup
	$(BIN)/python benchmarks/claims.py claims

clean:
	rm -rf .venv demo claims .coverage .mypy_cache .ruff_cache .pytest_cache
