# The tasks of a developer. `make` without a target lists them.
#
# All packages are in .venv, installed from the hashed locks. A stamp file marks each finished installation, so that a
# later run is fast, and a changed lock is installed automatically.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
SLOW := browser or packaging or slow or faults
PARTS := ./tools/parts.sh

# The databases of `make test` are in memory if 2 GiB of it are free: a commit waits for the disk, and these tests do
# not depend on durability. `make faults` uses the disk.
TEST_TMPDIR = $(shell test "$$(df -P /dev/shm 2>/dev/null | awk 'END { print $$4 }')" -ge 2097152 2>/dev/null \
	&& echo /dev/shm || echo "$${TMPDIR:-/tmp}")

# One process more than cores, at most five: a test spends a third of its time waiting for a database or a service.
TEST_PROCESSES = $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
	echo $$((cores < 4 ? cores + 1 : 5)))

# Shares what FastAPI, pydantic-settings and SQLAlchemy compute from the code between the tests of a process: a third
# faster, with private names of FastAPI and pydantic-settings patched. `make test SHARED=` runs the tests without it.
SHARED ?= --shared-analysis

EXTRAS := --extra postgres --extra redis --extra metrics --extra mail --extra bcrypt --extra mfa --extra passkeys

# Passed to the program that a target runs: make test ARGS="-k login", make run ARGS="--port 9000"
ARGS ?=

# Otherwise each worker of a run, and each interpreter that a test starts, compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-lowest test-newest test-slow test-matrix test-browser test-packaging faults bench budgets screenshots asvs check fmt lock release clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: export AUTHAPI_DATA_DIR ?= $(CURDIR)/.data
run: $(VENV)/.installed-run ## start the service on an embedded database in .data
	@echo "==> authapi serve, with its data in $$AUTHAPI_DATA_DIR"
	@mkdir -p -m 700 "$$AUTHAPI_DATA_DIR"
	@exec $(BIN)/authapi serve $(ARGS)

test: $(VENV)/.installed-dev ## run the tests, on SQLite and on a temporary PostgreSQL
	@echo "==> tests, without browser, wheel and npm (see make test-slow)"
	@TMPDIR=$(TEST_TMPDIR) $(BIN)/pytest -n $(TEST_PROCESSES) --dist worksteal -m "not ($(SLOW))" $(SHARED) $(ARGS)

# For each package, the tests with the most calls to it: a leg shows whether the code runs with other versions. What the
# code itself decides, such as the arguments of a URL or the lines of an import, is not among them.
# SQLAlchemy, Alembic, psycopg, aiosqlite:
LEG := $(addprefix tests/storage/test_,database.py migrations.py tables.py column_types.py driver_errors.py outcomes.py \
	conditions.py conflicts.py leases.py sqlite_files.py notifications.py defaults.py encodings.py races.py)
LEG += tests/storage/application tests/storage/postgres tests/storage/schema tests/storage/tables
# argon2-cffi, bcrypt, passlib, python-jose, cryptography; email-validator, idna, precis-i18n:
LEG += tests/crypto/test_passwords.py tests/crypto/test_imported_hashes.py tests/crypto/test_jws.py \
	tests/domain/test_email_address.py tests/domain/test_username.py
# limits, redis, aiosmtplib, Jinja2, typer:
LEG += tests/services/accounts/test_authentication.py tests/services/test_rate_limits.py tests/services/mail \
	tests/cli/accounts/test_users.py tests/cli/accounts/test_passwords.py
# FastAPI, Starlette, pydantic, httpx:
LEG += tests/strategies tests/web/routes/test_login.py tests/web/test_openapi.py
# SQLModel decides which SQLAlchemy is installed beside it, so the legs do not have it.
LEG += --ignore tests/storage/schema/test_sqlmodel.py
RUN_LEG = TMPDIR=$(TEST_TMPDIR) $(1)/bin/python -m pytest -n $(TEST_PROCESSES) --dist worksteal -m "not ($(SLOW))" \
	$(SHARED) -p no:cacheprovider $(LEG) $(ARGS)

test-lowest: $(VENV)-lowest/.installed ## run a part of the tests with the lowest versions that pyproject.toml allows
	@echo "==> tests with the packages of requirements/lowest.txt"
	@$(call RUN_LEG,$(VENV)-lowest)

test-newest: $(VENV)/.installed-dev ## run a part of the tests with the newest versions that pyproject.toml allows today
	@echo "==> installing the newest packages in $(VENV)-newest"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-newest
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header $(EXTRAS) --group build --group test pyproject.toml \
		-o $(VENV)-newest/newest.txt
	@$(call INSTALL_LEG,$(VENV)-newest,$(VENV)-newest/newest.txt)
	@echo "==> tests with the newest packages: $$(grep -iE '^(fastapi|sqlalchemy|redis)(\[[a-z]*\])?==' $(VENV)-newest/newest.txt | tr -d ' \\' | tr '\n' ' ')"
	@$(call RUN_LEG,$(VENV)-newest)

test-slow: $(VENV)/.installed-dev ## run the slow tests: browser, wheel, npm, proxies, schemathesis, races
	@$(PARTS) chromium caddy nginx haproxy pgbouncer node npm promtool
	@echo "==> slow tests: browser, wheel, clients from npm and PyPI, real proxies, schemathesis, races"
	@$(BIN)/pytest --timeout 1200 -n auto --maxprocesses 2 --dist loadfile -m "browser or packaging or slow" --ignore tests/proxies $(ARGS)
	@echo "==> slow tests: attacks through real proxies, without other tests beside them"
	@$(BIN)/pytest --timeout 1200 -n auto --maxprocesses 2 --dist loadfile -m slow tests/proxies $(ARGS)

test-matrix: export AUTHAPI_TEST_MATRIX = all
test-matrix: $(VENV)/.installed-dev ## test all combinations: journeys in Chromium, and requests against real proxies (over an hour)
	@$(PARTS) chromium node npm caddy nginx haproxy
	@echo "==> journeys through the pages in Chromium, in all combinations of script, width, colours and language"
	@$(BIN)/pytest -n auto --maxprocesses 2 --dist worksteal -m browser tests/browser/test_journeys.py $(ARGS)
	@echo "==> attacks on HTTP in all combinations, directly and through Caddy, nginx and HAProxy"
	@$(BIN)/pytest --timeout 1200 -n auto --maxprocesses 2 --dist worksteal -m slow tests/proxies $(ARGS)

test-browser: $(VENV)/.installed-dev ## run only the tests in Chromium; they write a picture of the pages into .artifacts
	@$(PARTS) chromium node npm
	@echo "==> tests in Chromium"
	@$(BIN)/pytest -m browser $(ARGS)

test-packaging: $(VENV)/.installed-dev ## run only the tests of the built wheel in an empty venv
	@echo "==> tests of the wheel"
	@$(BIN)/pytest -m packaging $(ARGS)

faults: $(VENV)/.installed-dev ## run the fault injection tests: killed and starved processes (AUTHAPI_FAULT_SCALE=10 for the full size)
	@$(PARTS) caddy nginx haproxy patroni etcd
	@echo "==> fault injection: real processes, killed, starved and disconnected"
	@$(BIN)/pytest --timeout $$((600 * $${AUTHAPI_FAULT_SCALE:-1})) -n 2 --dist worksteal -m faults tests/faults $(ARGS)

bench: $(VENV)/.installed-dev ## compare the speed with other projects, into benchmarks/results (needs wrk and npm; ARGS="--help")
	@echo "==> benchmarks"
	@$(BIN)/python -m benchmarks $(ARGS)

budgets: $(VENV)/.installed-dev ## check that no figure of benchmarks/budgets.toml is much worse than it was (a minute or two)
	@echo "==> budgets of CPU time, statements and memory"
	@$(BIN)/python -m benchmarks.budgets

screenshots: $(VENV)/.installed-dev ## write the pictures of the pages into docs/images (needs Chromium)
	@$(BIN)/python tools/screenshots.py $(ARGS)

asvs: $(VENV)/.installed-dev ## print the coverage of OWASP ASVS 5.0, levels 1 and 2
	@$(BIN)/python tools/asvs.py

check: $(VENV)/.installed-dev ## lint, types, import contracts, dependencies, migrations, Dockerfile, locks
	@$(MAKE) --no-print-directory -j 2 $(filter --output-sync,$(patsubst output-sync,--output-sync,$(.FEATURES))) $(CHECKS)

# mypy is first, because it takes longer than all others together.
CHECKS := $(addprefix check-,mypy ruff imports dependencies migrations dockerfile locks prose)
.PHONY: $(CHECKS)

check-mypy:
	@echo "==> mypy --strict"
	@$(BIN)/mypy

check-ruff:
	@echo "==> ruff: lint and format"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

check-imports:
	@echo "==> import-linter: the layers of ARCHITECTURE.md"
	@$(BIN)/lint-imports

check-dependencies:
	@echo "==> deptry: imported and declared packages match"
	@$(BIN)/deptry src

check-migrations:
	@echo "==> alembic: the migrations create exactly the tables of the models"
	@$(BIN)/python tools/check_migrations.py

check-dockerfile:
	@echo "==> hadolint: the Dockerfile"
	@$(BIN)/hadolint Dockerfile

check-locks:
	@echo "==> locks: complete, hashed, and consistent with pyproject.toml"
	@$(BIN)/python tools/check_locks.py

check-prose:
	@echo "==> prose: indefinite pronouns in documents, docstrings and comments"
	@$(BIN)/python tools/prose.py

fmt: $(VENV)/.installed-dev ## format the code and apply the fixes of ruff
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-emit-index-url --no-strip-extras \
	--python-version 3.11 pyproject.toml $(EXTRAS) --group build

lock: $(VENV)/.installed-dev ## regenerate requirements/*.txt from pyproject.toml (ARGS=--upgrade for newer versions)
	@echo "==> requirements/run.txt: packages for the service"
	@$(LOCK) -o requirements/run.txt $(ARGS)
	@echo "==> requirements/dev.txt: packages for the service and for development"
	@$(LOCK) --group dev -c requirements/run.txt -o requirements/dev.txt $(ARGS)
	@echo "==> requirements/lowest.txt: the lowest versions of the declared packages, for make test-lowest"
	@$(LOCK) --group test --resolution lowest-direct -o requirements/lowest.txt $(ARGS)
	@echo "==> requirements/release.txt: the programs that check a release, for make release"
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-emit-index-url --no-strip-extras \
		--python-version 3.11 --group release -o requirements/release.txt $(ARGS)

release: $(VENV)/.installed-dev ## build and check a wheel, an archive and an SBOM in dist (ARGS=--rehearse before the version is set)
	@$(BIN)/python tools/release.py $(ARGS)

clean: ## remove .venv and all caches, but not .data
	@echo "==> removing .venv, caches and build results"
	@rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest dist htmlcov .artifacts .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
		.hypothesis .schemathesis
	@find src tests tools benchmarks alembic -type d -name __pycache__ -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("authapi needs Python 3.11 or newer: make PYTHON=python3.13 ...")'
	@echo "==> creating a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The last step installs authapi itself, editable, with the build tools from the lock.
$(VENV)/.installed-run: requirements/run.txt pyproject.toml | $(VENV)/.created
	@echo "==> installing packages for the service from requirements/run.txt (about a minute)"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# dev.txt contains run.txt in the same versions, so this also counts as installed-run.
$(VENV)/.installed-dev: requirements/dev.txt requirements/run.txt pyproject.toml | $(VENV)/.created
	@echo "==> installing packages for development from requirements/dev.txt (one or two minutes)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(VENV)/.installed-run $@

INSTALL_LEG = $(BIN)/uv pip sync --quiet --require-hashes --python $(1)/bin/python $(2) \
	&& $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(1)/bin/python -e .

$(VENV)-lowest/.installed: requirements/lowest.txt pyproject.toml $(VENV)/.installed-dev
	@echo "==> installing the lowest packages in $(VENV)-lowest"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-lowest
	@$(call INSTALL_LEG,$(VENV)-lowest,requirements/lowest.txt)
	@touch $@
