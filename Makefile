# Everything needs Python 3.11 or newer with venv and pip, and nothing else.
#   make run                  everything on this machine, until Ctrl-C
#   make run ONCE=1           sync once, check the result, print a summary, exit 0 or 1
#   make run ONCE=1 APPROVE=1 the same, and approve the first plan of real accounts
#   make run REHEARSE=1       read both accounts, print what a sync would do, write nothing
#   make run LIVED=1          the same with 5,000 customers, after a month of daily runs and webhooks
#   make init                 ask what the settings of real accounts need, and write the file
#   make run AIRFLOW_PORT=18080  if 8080 is taken; also QUICKBOOKS_PORT (9410), MAILCHIMP_PORT (9420),
#                             LOG_SERVER_PORT (8793) and TRIGGERER_LOG_PORT (8794)
VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
ONCE ?=
REHEARSE ?=
BIN = $(VENV)/bin
INSTALL = $(if $(PYTHON),$(PYTHON),$(error Python 3.11 or newer is needed; set PYTHON=/path/to/it)) \
	-m local.install --venv $(VENV)
# The test folders that run in parallel; tests/e2e has the machine to itself (CONTRIBUTING.md).
ROOMS = tests/unit tests/contract tests/dags tests/integration
# Which tests run: `make test TESTS=tests/unit/test_vault.py TEST_ARGS="-k race -x"`.
TESTS ?= $(ROOMS)
PYTEST = $(BIN)/python -m pytest
SIDE_BY_SIDE = $(PYTEST) -n 3 --dist worksteal --durations=25

# So that variables given to make reach the programs; an empty one counts as not given.
export AIRFLOW_PORT QUICKBOOKS_PORT MAILCHIMP_PORT LOG_SERVER_PORT TRIGGERER_LOG_PORT
export ML_CONNECTOR_HOME ML_CONNECTOR_SYNCS ML_CONNECTOR_DAGS_FOLDER SYNC RUN_TIMEOUT VENV APPROVE REHEARSE LIVED
# This checkout, whichever one the environment's own link points to.
export PYTHONPATH := $(CURDIR)/include:$(CURDIR)/plugins:$(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help install install-dev run init test test-unit test-airflow test-containers test-e2e test-endurance test-all lint docs schema reference lock audit bench torture soak plants distributed companies pictures clean

help: ## Show what can be made
	@sed -n 's/^\([a-z0-9-]*\): .*## /\1\t/p' Makefile | expand -t 16
	@echo; sed -n 's/^#   //p' Makefile

install: ## Make the virtual environment with the locked requirements
	@$(INSTALL)

install-dev: ## The same, with what tests and linters need
	@$(INSTALL) --dev

run: install ## Run everything here; ONCE=1 syncs once and exits
	@$(BIN)/python -m local $(if $(filter-out 0,$(ONCE)$(REHEARSE)),--once)

init: install ## Ask what the settings of real accounts need, and write syncs.yaml
	@$(BIN)/python -m local --init

test: install-dev ## Run the tests that a change needs: unit, contract, DAGs, integration
	@$(SIDE_BY_SIDE) -m "not endurance" $(TESTS) $(TEST_ARGS)

test-unit: install-dev ## Run the unit tests, in seconds
	@$(PYTEST) -n 2 --dist worksteal -m "not endurance" tests/unit $(TEST_ARGS)

test-e2e: install-dev ## Run make run and Airflow's own processes; installs what is missing
	@$(BIN)/python -m local.needs || [ $$? -eq 3 ]
	@$(PYTEST) --durations=10 tests/e2e $(TEST_ARGS)

test-endurance: install-dev ## Run kills, stampedes, thousands of customers, many examples
	@HYPOTHESIS_PROFILE=many $(SIDE_BY_SIDE) -m "endurance or hypothesis" $(TESTS) $(TEST_ARGS)

test-all: install-dev ## Run every test
	@$(BIN)/python -m local.needs || [ $$? -eq 3 ]
	@HYPOTHESIS_PROFILE=many $(SIDE_BY_SIDE) $(ROOMS)
	@$(PYTEST) --durations=10 tests/e2e
	@$(BIN)/python -m tests.containers || [ $$? -eq 3 ]

test-airflow: install-dev ## Try the wheel in other versions of Airflow; VERSIONS="3.1.8 3.2.2 3.3.2"
	@$(BIN)/python -m tests.airflow $(VERSIONS)
	@$(BIN)/python -m tests.airflow.pip_page

test-containers: install-dev ## Run docker-compose.yaml on a container engine of its own; needs root
	@$(BIN)/python -m tests.containers $(TEST_ARGS)

lint: install-dev ## Check style, types and the limits between packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: install-dev ## Build the documentation as a site in build/docs/site; warnings are errors
	@$(BIN)/python -m local.site

schema: install ## Write the JSON schema of syncs.yaml, by which editors complete and check it
	@$(BIN)/python -m ml_connector.settings_schema > include/config/syncs.schema.json

reference: install-dev ## Write docs/reference/commands.md and the table of settings from the code
	@$(BIN)/python -m local.reference

lock: install-dev ## Compile the locks of checkout, tests and image from pyproject.toml
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
		--generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
		--all-extras pyproject.toml -o requirements.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
		--generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
		-c requirements.txt --all-extras --group dev --group docs pyproject.toml -o requirements-dev.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
		--generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
		-c requirements.txt --extra celery --extra metrics --extra slack --extra smtp \
		pyproject.toml -o deploy/requirements.txt

audit: install-dev ## Look for known vulnerabilities of the locked packages
	@$(BIN)/python -m local.advisories

bench: install-dev ## Run the benchmarks
	@$(BIN)/python -m bench $(BENCH_ARGS)

torture: install-dev ## Run every long test of reliability and print their table: seven hours
	@$(BIN)/python -m bench.torture $(TORTURE_ARGS)

soak: install-dev ## Run mixed load for two hours, or SOAK_ARGS="--days 30", and see what grows
	@$(BIN)/python -m bench.soak $(or $(SOAK_ARGS),--minutes 120)

plants: install-dev ## Plant bugs in a copy and see who catches them; PLANTS=consent, PLANTS_ARGS
	@$(BIN)/python -m tests.plants $(PLANTS) $(PLANTS_ARGS)

distributed: install-dev ## Run 20,000 customers on docker-compose.yaml's services and lose a worker
	@$(BIN)/python -m bench.distributed $(DISTRIBUTED_ARGS)

companies: install-dev ## Run 20 companies (COMPANIES_ARGS="--companies 200") at once on the same services
	@$(BIN)/python -m bench.many_companies $(COMPANIES_ARGS)

pictures: install-dev ## Take the pictures of the docs again, of a company that has lived for a month
	@$(BIN)/python -m bench.pictures $(PICTURES_ARGS)

clean: ## Remove the environment and all state, keys and databases included
	@rm -rf $(VENV) .bench build $(or $(ML_CONNECTOR_HOME),.state) .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
