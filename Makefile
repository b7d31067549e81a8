# What a developer does here, one target each. `make` alone lists them.
#
# Everything lives in .venv, made from the hashed locks. A stamp file stands for each finished installation, so that
# the second time is quick, and a changed lock installs again by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
SLOW := browser or packaging or slow or faults
PARTS := ./tools/parts.sh

# Where `make test` keeps its databases: in memory if 2 GiB of it are free, as a commit waits for a disk and no test of
# these is about one. `make faults` stays on the disk.
TEST_TMPDIR = $(shell test "$$(df -P /dev/shm 2>/dev/null | awk 'END { print $$4 }')" -ge 2097152 2>/dev/null \
	&& echo /dev/shm || echo "$${TMPDIR:-/tmp}")

# One process more than there are cores, five at most: a test waits for a database or a service a third of its time.
TEST_PROCESSES = $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
	echo $$((cores < 4 ? cores + 1 : 5)))

# Handed to the program that a target runs: make test ARGS="-k login", make run ARGS="--port 9000"
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-slow test-matrix test-browser test-packaging faults bench asvs check fmt lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: export AUTHAPI_DATA_DIR ?= $(CURDIR)/.data
run: $(VENV)/.installed-run ## start the service on an embedded database in .data
	@echo "==> authapi serve, with its data in $$AUTHAPI_DATA_DIR"
	@mkdir -p -m 700 "$$AUTHAPI_DATA_DIR"
	@exec $(BIN)/authapi serve $(ARGS)

test: $(VENV)/.installed-dev ## run the tests, on SQLite and on a PostgreSQL of their own
	@echo "==> tests, without the browser, the wheel and npm (make test-slow has them)"
	@TMPDIR=$(TEST_TMPDIR) $(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal -m "not ($(SLOW))" $(ARGS)

test-slow: $(VENV)/.installed-dev ## run the tests that take their time: browser, wheel, npm, proxies, schemathesis, races
	@$(PARTS) chromium caddy nginx haproxy pgbouncer node npm
	@echo "==> slow tests: browser, wheel, clients from npm and PyPI, real proxies, schemathesis, races"
	@$(BIN)/pytest -n auto --maxprocesses 2 --dist loadfile -m "browser or packaging or slow" --ignore tests/proxies $(ARGS)
	@echo "==> slow tests: attacks through real proxies, which have the machine to themselves"
	@$(BIN)/pytest -n auto --maxprocesses 2 --dist loadfile -m slow tests/proxies $(ARGS)

test-matrix: export AUTHAPI_TEST_MATRIX = all
test-matrix: $(VENV)/.installed-dev ## try many more combinations of requests against real proxies (over an hour)
	@$(PARTS) caddy nginx haproxy
	@echo "==> attacks on HTTP in all combinations, directly and through Caddy, nginx and HAProxy"
	@$(BIN)/pytest -n auto --maxprocesses 2 --dist worksteal -m slow tests/proxies $(ARGS)

test-browser: $(VENV)/.installed-dev ## run only the tests in a real Chromium
	@$(PARTS) chromium
	@echo "==> tests in Chromium"
	@$(BIN)/pytest -m browser $(ARGS)

test-packaging: $(VENV)/.installed-dev ## run only the tests of the built wheel in an empty venv
	@echo "==> tests of the wheel"
	@$(BIN)/pytest -m packaging $(ARGS)

faults: $(VENV)/.installed-dev ## kill, starve and cut off real processes (AUTHAPI_FAULT_SCALE=10 for all of it)
	@echo "==> faults: real processes, killed, starved and cut off"
	@$(BIN)/pytest -m faults tests/faults $(ARGS)

bench: $(VENV)/.installed-dev ## measure speed beside peers, into benchmarks/results (needs wrk and npm; ARGS="--help")
	@echo "==> benchmarks"
	@$(BIN)/python -m benchmarks $(ARGS)

asvs: $(VENV)/.installed-dev ## count how authapi stands to OWASP ASVS 5.0, level 1 and 2
	@$(BIN)/python tools/asvs.py

check: $(VENV)/.installed-dev ## lint, types, import contracts, dependencies, migrations, Dockerfile, locks
	@echo "==> ruff: lint and format"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@echo "==> mypy --strict"
	@$(BIN)/mypy
	@echo "==> import-linter: the floors of ARCHITECTURE.md"
	@$(BIN)/lint-imports
	@echo "==> deptry: what is imported is declared, what is declared is imported"
	@$(BIN)/deptry src
	@echo "==> alembic: the migrations make exactly the tables of the models"
	@$(BIN)/python tools/check_migrations.py
	@echo "==> hadolint: the Dockerfile"
	@$(BIN)/hadolint Dockerfile
	@echo "==> locks: complete, hashed, and as pyproject.toml asks"
	@$(BIN)/python tools/check_locks.py

fmt: $(VENV)/.installed-dev ## format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-emit-index-url --no-strip-extras \
	--python-version 3.11 pyproject.toml --extra postgres --extra redis --extra metrics --extra mail --extra bcrypt --group build

lock: $(VENV)/.installed-dev ## write requirements/*.txt anew from pyproject.toml (ARGS=--upgrade for newer versions)
	@echo "==> requirements/run.txt: what the service needs"
	@$(LOCK) -o requirements/run.txt $(ARGS)
	@echo "==> requirements/dev.txt: the same, and what its developers need"
	@$(LOCK) --group dev -c requirements/run.txt -o requirements/dev.txt $(ARGS)

clean: ## remove .venv and every cache, but not .data
	@echo "==> removing .venv, caches and build results"
	@rm -rf $(VENV) dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
		.hypothesis .schemathesis
	@find src tests tools benchmarks alembic -type d -name __pycache__ -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("authapi needs Python 3.11 or newer: make PYTHON=python3.13 ...")'
	@echo "==> a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Each ends with the package itself, editable and built by what the lock has just installed.
$(VENV)/.installed-run: requirements/run.txt pyproject.toml | $(VENV)/.created
	@echo "==> installing what the service needs, from hashed requirements/run.txt (the first time takes a minute)"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# Holds everything of run.txt in the same versions, so it stands for both.
$(VENV)/.installed-dev: requirements/dev.txt requirements/run.txt pyproject.toml | $(VENV)/.created
	@echo "==> installing what developers need, from hashed requirements/dev.txt (the first time takes a minute or two)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(VENV)/.installed-run $@
