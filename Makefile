# All a machine needs is make and python3 >= 3.11 with its venv module. What is installed comes from
# requirements.lock, hashes checked; nothing else is downloaded.
#
#   make setup    .venv, from the lock file; nothing to do when it is up to date
#   make serve    the server            ARGS="tools.py --port 9000" are handed on
#   make test     every test that needs no outside service          ARGS="-k sealed" likewise
#   make check    ruff, mypy --strict, the architecture test
#   make bench    the benchmark, prints a table
#   make lock     resolve pyproject.toml anew into requirements.lock
#   make clean    remove .venv and what tools left behind

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
ARGS ?=
# Two workers a core, since many tests wait for a process or a socket; past eight they only share the same disk.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')

# Where python may keep nothing it has compiled, each worker and each server that a test starts compiles all of it anew:
# half of what a run takes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup serve test check bench lock clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(STAMP)

# The first question is asked in a syntax that Python 2 and 3.0 read as well, so that they can answer it.
# Debian's python3 without python3-venv makes half a .venv and stops: so pip is asked for, not only the folder.
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "legato needs $(PYTHON), which is not on this machine (PYTHON=... names another)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("legato needs python >= 3.11, $(PYTHON) is %d.%d (PYTHON=... names another)" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "setting up $(VENV) from requirements.lock (once, about a minute) ..." >&2
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || $(PYTHON) -m venv --clear $(VENV) \
	  || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

serve: setup
	@$(BIN)/legato serve $(ARGS)

test: setup
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy --strict src
	@$(BIN)/python -m pytest -q tests/test_architecture.py

bench: setup
	@$(BIN)/python -m bench $(ARGS)

# uv resolves for every platform and python at once, which pip cannot; it is needed here only.
lock: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade uv
	@$(BIN)/uv --no-config pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --quiet --upgrade --custom-compile-command "make lock" --output-file requirements.lock
	@! grep -nE '://|--(index|extra-index|find-links|trusted)' requirements.lock \
	  || { echo "requirements.lock names a registry: it would not install elsewhere" >&2; exit 1; }

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
