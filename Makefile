# One command each. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help setup check test test-security docs bench demo up clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: $(READY)  ## create .venv with everything in it, the Claude CLI and Valkey included

$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Backline needs Python 3.11 or newer: make setup PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) (once; it takes a minute or more)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --frozen --inexact --python $(BIN)/python
	@touch $(READY)

check: setup  ## lint, format, types, layers, dependencies, spelling, links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy tests benchmarks website
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture
	$(BIN)/codespell
	$(BIN)/python -m website

test: setup  ## every test, against the real CLI and a real Valkey
	$(BIN)/pytest -n 2 $(ARGS)

test-security: setup  ## the part of test that attacks: what docs/security.md names
	$(BIN)/pytest -n 2 $(shell grep -ohE 'tests/[a-z_/]*\.py(::[a-z_]+)?' docs/security.md | sort -u) $(ARGS)

docs: setup  ## build the documentation as a site, in dist/site; links and anchors are checked
	$(BIN)/python -m website

bench: setup  ## measure the gateway beside the bare CLI; writes benchmarks/results.md
	$(BIN)/python -m benchmarks $(ARGS)

demo: setup  ## start everything on the example agent with a scripted model; no account needed
	@$(BIN)/backline demo $(if $(PORT),--port $(PORT))

up: setup  ## serve your own agents: make up AGENT=path/to/agent [PORT=9000]
	@$(BIN)/backline up $(foreach a,$(AGENT),--agent $(a)) $(if $(PORT),--port $(PORT))

clean:  ## remove the environment and caches
	rm -rf $(VENV) dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
