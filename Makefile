# `make demo` shows a workflow run; `make tests` runs the tests. Both need Python >= 3.11, make and a network.

.PHONY: setup demo run tests tests-long coverage faults faults-long model lint format bench sbom audit lock up down logs clean
.DEFAULT_GOAL := demo

# The first of these that is new enough; `make PYTHON=…` chooses another one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
COMPOSE := docker compose
# Environments of their own for tools that nothing else needs.
AUDIT := .venv-audit
LOCK := .venv-lock
POETRY := poetry==2.5.1 poetry-plugin-export==1.10.1
PIP_QUIETLY := -m pip install --quiet --disable-pip-version-check
# More arguments for the command of a target, as in `make tests ARGS="tests/unit -x"`.
ARGS ?=
# Tests wait for servers more than they compute: so many of their files run at once, on servers of their own.
PROCESSES ?= 3
# The tests to be run all the time, but for those of the pages.
USUAL := -m "not long" --ignore=tests/ui
# Per cent of lines and branches that the tests together must reach.
COVERAGE_MIN ?= 88

setup: $(STAMP)

$(STAMP): pyproject.toml requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on the path." >&2; exit 2; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (about 150 MB of packages, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	@$(BIN)/workflow demo $(ARGS)

run: setup
	@$(BIN)/workflow up --port 8001 --echo-port 8002 $(ARGS)

# A browser takes a processor for itself, and what others wait for would come late: its tests run after them.
tests: setup
	@$(BIN)/pytest -n $(PROCESSES) --dist loadfile $(if $(ARGS),$(ARGS),$(USUAL))
	@$(if $(ARGS),:,$(BIN)/pytest -n 2 --dist loadfile tests/ui)

# The same with every line and branch counted, which takes half as long again.
coverage: setup
	@$(BIN)/pytest -n $(PROCESSES) --dist loadfile --cov --cov-fail-under=$(COVERAGE_MIN) $(USUAL) $(ARGS)

# Whole platforms that are started, killed, frozen and secured, one after the other: a quarter of an hour.
tests-long: setup
	@$(BIN)/pytest -n $(PROCESSES) --dist loadfile -m long $(ARGS)

faults: setup
	@$(BIN)/python -m tests.harness --runs 2000 --faults 30 --json faults.json $(ARGS)

# About half an hour: 10,000 simulated schedules of each kind, then real processes under 200 faults.
faults-long: setup
	@$(BIN)/python -m tests.simulation --seeds 10000
	@$(BIN)/python -m tests.harness --runs 10000 --faults 200 --at-once 2 --json faults.json $(ARGS)

# The protocol as a checked model (tests/model), for a minute, and then each deviation from it. What is built goes away.
model:
	@if ! command -v go >/dev/null; then echo "There is no Go here: the model in tests/model was not checked."; exit 0; fi; \
	built=$$(mktemp -d) && trap 'rm -rf "$$built"' EXIT && export GOTOOLCHAIN=local && \
	test -z "$$(gofmt -l tests/model)" && go vet -C tests/model . && go build -C tests/model -o "$$built/model" . && \
	"$$built/model" -seconds 60 $(ARGS) && "$$built/model" -seconds 60 -schedules 150000 -rules mutants -show=false

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@if test -f Dockerfile; then $(BIN)/hadolint Dockerfile; fi
	@if test -f docker-compose.yml; then $(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml; fi

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup
	@$(BIN)/python -m tests.bench --json bench.json $(ARGS)

# The parts of what runs, with licences and digests. The same lock gives the same file.
sbom: setup $(AUDIT)/.set-up
	@$(AUDIT)/bin/python -m ops.supply.sbom --python $(BIN)/python --output sbom.json $(ARGS)

# Exit code of the tool: 0 no known holes, 1 some, 3 not everything could be looked up.
audit: $(AUDIT)/.set-up
	@$(AUDIT)/bin/python -m ops.supply.audit $(ARGS)

# After a change of the dependencies in pyproject.toml; `make lock ARGS=--regenerate` takes newer versions of everything.
lock: $(LOCK)/.set-up
	@$(LOCK)/bin/poetry lock --no-interaction $(ARGS)
	@$(LOCK)/bin/poetry export --no-interaction --output requirements/runtime.txt
	@$(LOCK)/bin/poetry export --no-interaction --with dev --output requirements/dev.txt
	@$(LOCK)/bin/poetry export --no-interaction --only audit --output requirements/audit.txt

$(AUDIT)/.set-up: requirements/audit.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on the path." >&2; exit 2; }
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python $(PIP_QUIETLY) --no-deps --require-hashes -r requirements/audit.txt
	@touch $@

$(LOCK)/.set-up: Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on the path." >&2; exit 2; }
	@test -x $(LOCK)/bin/python || $(PYTHON) -m venv $(LOCK)
	@$(LOCK)/bin/python $(PIP_QUIETLY) $(POETRY)
	@touch $@

up: setup
	@$(COMPOSE) up --build --detach --wait $(ARGS)

down: setup
	@$(COMPOSE) down $(ARGS)

logs: setup
	@$(COMPOSE) logs --follow $(ARGS)

clean: setup
	@if $(BIN)/workflow ps --home .workflow >/dev/null 2>&1; then \
		echo "A platform runs in .workflow; stop it first (Ctrl-C in its terminal)." >&2; exit 2; fi
	@rm -rf .workflow
