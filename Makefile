# The verbs of this project: `make help` lists them. Everything else is configured in pyproject.toml.

PYTHON ?= python3
VENV   ?= .venv
INPUT  ?= My order 48213 has not arrived, I need it by Friday and nobody answers me!

BIN    := $(VENV)/bin
# Which extras are in the environment; each stamp is renewed when pyproject.toml changes.
LOCAL  := $(VENV)/.with-local
DEV    := $(VENV)/.with-dev
BENCH  := $(VENV)/.with-bench

.DEFAULT_GOAL := help
.PHONY: help install run test check bench chaos fuzz clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(LOCAL) ## make the virtual environment and install Orka with the private server

run: $(LOCAL) ## run configs/quickstart.yml on a message (make run INPUT="...")
	$(BIN)/orka run configs/quickstart.yml '$(subst ','\'',$(INPUT))'

test: $(DEV) ## run every test but the long forms
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not chaos"

check: $(DEV) ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

bench: $(BENCH) ## run every benchmark; each prints one JSON line
	@set -e; for file in benchmarks/bench_*.py; do echo "# $$file" >&2; $(BIN)/python "$$file"; done

chaos: $(DEV) ## the long forms: processes killed, servers killed
	$(BIN)/python -m pytest -m chaos

fuzz: $(DEV) ## the property tests with many more examples (make fuzz EXAMPLES=20000)
	EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest -p tests.profiles --hypothesis-profile=fuzz -m hypothesis

clean: ## remove the virtual environment, caches and builds; .orka/ (your runs) stays
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find orka tests benchmarks configs -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) was not found; name one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: Orka needs Python 3.11 or newer and $(PYTHON) is $$($(PYTHON) -V 2>&1)." >&2; \
	  echo "      Name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(LOCAL): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[local]"
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[local,dev]"
	@touch $@ $(LOCAL)

$(BENCH): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[local,dev,bench]"
	@touch $@ $(DEV) $(LOCAL)
