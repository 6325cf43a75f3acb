# Duewatch: `make help` lists the targets. Python 3.11 or newer is all that `make demo` needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format bench faults faults-long sim year schemas lock

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

setup: $(READY) ## Make .venv from the locked dependencies (done again only when they change)

demo: $(READY) ## Broker, Redis, topics, worker and simulator in one; FOR=30s ends it by itself
	@$(BIN)/duewatch demo $(if $(FOR),--for $(FOR))

test: $(READY) ## All tests; a real part that is missing is skipped (DUEWATCH_REQUIRE_REAL=1: fails)
ifdef ARGS
	$(BIN)/python -m pytest --ignore=tests/faults $(ARGS)
else
	@$(BIN)/python -m pytest --ignore=tests/faults --numprocesses=auto --dist=loadfile -m "not ($(REAL))"; pure=$$?; \
	  $(BIN)/python -m pytest --ignore=tests/faults -m "$(REAL)" && exit $$pure
endif

# Tests on real parts run one after the other: each has the machine's few cores to itself.
REAL := kafka or redis or prometheus or browser or compose or demo

lint: $(READY) ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p schemas -p streams
	$(BIN)/lint-imports

format: $(READY) ## Put the sources into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Events per second through the worker, on real Kafka and Redis; ARGS go to the benchmark
	$(BIN)/python -m benchmarks $(ARGS)

# Without Hypothesis' plugin, which loads all of it at the end of a run, for nothing.
FAULTS = $(BIN)/python -m pytest tests/faults -q --no-header -p no:hypothesispytest \
	$(if $(SEED),--seed $(SEED)) $(if $(ROW),--row $(ROW)) $(if $(LEDGER),--ledger $(LEDGER))

faults: $(READY) ## Kills, stalls and cut connections on real parts: short rows; SEED= and ROW= pick one run
	@$(FAULTS) --short $(ARGS)

faults-long: $(READY) ## All rows, the killing ones with several seeds; LEDGER=file goes on where it was cut off
	@$(FAULTS) $(ARGS)

sim: $(READY) ## Simulated workers, broker and store: SEEDS=5000, SEED= repeats one, MUTANT= takes a protection out
	$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),5000)) $(if $(MUTANT),--mutant $(MUTANT))

year: $(READY) ## A simulated year held to its laws: BORROWERS=50000, SEED=; interrupted, the same command goes on
	@$(BIN)/python -m tests.laws.year $(if $(BORROWERS),--borrowers $(BORROWERS)) $(if $(SEED),--seed $(SEED))

schemas: $(READY) ## Write JSON Schema and AsyncAPI of the messages and of a policy, and the state machines
	$(BIN)/python -m schemas.export
	$(BIN)/duewatch policy schema --out streams/policy/policy.schema.json
	$(BIN)/duewatch schemas machines --out docs/state-machines.md

# Pins that still fit are kept; to take newer versions delete the two lock files first.
lock: $(READY) ## Resolve the locked dependencies again, with hashes, for every platform
	$(BIN)/python -m pip install --quiet 'uv>=0.9,<1'
	$(COMPILE) --extra demo --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra demo --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --output-file benchmarks/requirements-peers.lock benchmarks/requirements-peers.in

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --custom-compile-command "make lock"

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'pass' 2>/dev/null || { \
	  echo "duewatch: '$(PYTHON)' does not run: install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "duewatch: needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) -V 2>&1): install one and name it: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "duewatch: '$(PYTHON)' cannot make a virtual environment: install its venv package (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "duewatch: installing the locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
