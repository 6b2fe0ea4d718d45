# What people and CI run. `make` alone lists the targets.
#
# Everything is installed from the locks, with hashes, into .venv. Two stamps say what is there: .installed (what `demo` needs) and
# .installed-dev (what `test`, `check` and `bench` need). A stamp that is newer than its lock and pyproject.toml means: nothing to do, and
# no network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

DEMO_ARGS ?=
TEST_ARGS ?=
TORTURE_ARGS ?=
MUTATIONS_ARGS ?=
BENCH ?= $(sort $(wildcard benchmarks/[a-z]*.py))
BENCH_ARGS ?=
SEEDS ?= 5000
LOCK_ARGS ?=
JOBS ?= 2
BRANCHES_PERCENT_MIN := 90

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--extra all $(LOCK_ARGS) pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check torture mutations bench lock clean

help:
	@echo 'make demo    the whole tour: every stage on an embedded server, a table, a report   (DEMO_ARGS="--requests 50")'
	@echo 'make test    all tests, and how much of eventflow/ they reach                      (TEST_ARGS="tests/unit -k log")'
	@echo 'make check   ruff, mypy --strict, import-linter, doc tests'
	@echo 'make torture    a log is killed 1 000 times, the power cut 5 000 times: nothing lost (TORTURE_ARGS="--kills 100" SEEDS=500)'
	@echo 'make mutations  each protection of the log is taken away, and the tests must notice  (MUTATIONS_ARGS="--help")'
	@echo 'make bench   the benchmarks                                    (BENCH=benchmarks/NAME.py BENCH_ARGS="--help")'
	@echo 'make lock    write requirements*.txt again, with uv                                 (LOCK_ARGS=--upgrade)'
	@echo 'make clean   remove what make made (.venv, caches, the report of the demo); stores of runs stay'

demo: $(INSTALLED)
	$(BIN)/eventflow demo $(DEMO_ARGS)

# Part of the tests reaches part of the code: the limit holds for a run of all tests only.
test: $(INSTALLED_DEV)
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest -n $(JOBS) $(TEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(if $(TEST_ARGS),,$(BIN)/python tests/repo/branch_coverage.py --min-percent $(BRANCHES_PERCENT_MIN))

check: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q --doctest-modules eventflow instrumentation stages analysis tests/repo/test_documents.py

torture: $(INSTALLED_DEV)
	PYTHONPATH=. $(BIN)/python tests/faults/torture.py $(TORTURE_ARGS)
	PYTHONPATH=. $(BIN)/python tests/faults/director_kills.py
	EVENTFLOW_SEEDS=$(SEEDS) $(BIN)/pytest -q -n $(JOBS) --timeout 0 tests/faults/test_power_cut.py

mutations: $(INSTALLED_DEV)
	PYTHONPATH=. $(BIN)/python tests/mutations.py $(MUTATIONS_ARGS)

bench: $(INSTALLED_DEV)
	@set -e; for program in $(BENCH); do echo "== $$program"; $(BIN)/python "$$program" $(BENCH_ARGS); done

# The runtime lock takes its versions from the other one: one set of versions is tested, and the same is shipped.
lock:
	@command -v uv >/dev/null || { echo 'make lock needs uv: pip install uv' >&2; exit 1; }
	$(LOCK) --group dev -o requirements-dev.txt
	$(LOCK) --group build -c requirements-dev.txt -o requirements.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis .coverage .coverage.* demo-report.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A Python that is missing, too old or without venv is named here, with the Debian package that mends it.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo 'eventflow needs Python 3.11 or later: apt install python3 python3-venv' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "eventflow needs Python 3.11 or later, and $(PYTHON) is older: make PYTHON=python3.11 …" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo 'eventflow needs the venv module of Python: apt install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): $(VENV)/.created requirements.txt pyproject.toml
	@echo 'installing into $(VENV) from requirements.txt'
	$(PIP) install --quiet --require-hashes -r requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED) requirements-dev.txt
	@echo 'installing into $(VENV) from requirements-dev.txt'
	$(PIP) install --quiet --require-hashes -r requirements-dev.txt
	@touch $@
