# From a fresh clone on Debian, as root, with git, make, python3 and python3-venv:
#   make demo    a private Postfix and policyd on loopback, sample mails, every dialogue explained
#   make test    every test
# What is missing is installed first: Debian packages (only as root) and the locked Python packages,
# these into .venv. The rest of the machine is left alone; Debian's own Postfix is not started.

PYTHON ?= python3
BIN := .venv/bin
PACKAGES := build-essential ca-certificates libmilter-dev python3-dev
MTA := postfix
COMPARED_WITH := redis-server postgrey sqlgrey libdbd-sqlite3-perl postfix-policyd-spf-python nsd
TESTED_WITH := prometheus procps redis-server redis-sentinel redis-tools postgresql slapd ldap-utils db-util postgrey nsd unbound
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.NOTPARALLEL:
.PHONY: help .venv demo test lint bench bench-state bench-authentication campaign fuzz docs lock \
	clean
.PHONY: debian-venv debian-demo debian-test debian-bench

help:
	@sed -n '/^[a-z.-]*:.*## /s/:.*## /\t/p' Makefile | expand -t 22

.venv: .venv/.installed ## the virtual environment, with the command .venv/bin/policyd

demo: debian-demo .venv ## run policyd beside a real Postfix (ONCE=1: end by itself)
	@$(BIN)/python -m tools.demo $(if $(ONCE),--once)

test: debian-test lint ## linters and every test
	@$(BIN)/python -m pytest $(PYTEST)

lint: .venv ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: .venv ## measure policyd beside servers that decide nothing (QUICK=1: in seconds)
	@$(BIN)/python bench/run.py $(if $(QUICK),--quick,--write)

bench-state: debian-bench .venv ## measure what state costs (a quarter of an hour; QUICK=1: seconds)
	@$(BIN)/python -m bench.state $(if $(QUICK),--quick,--write)

bench-authentication: debian-bench .venv ## measure what checks cost that ask the DNS (QUICK=1: seconds)
	@$(BIN)/python -m bench.authentication $(if $(QUICK),--quick,--write)

campaign: debian-test .venv ## reload, kill, stop policyd and fail its store (an hour; QUICK=1: seconds)
	@$(BIN)/python -m tools.campaign $(if $(QUICK),--quick,--write)

fuzz: .venv ## property tests with many more examples
	@$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=fuzz $(PYTEST)

docs: debian-test .venv ## write the tables of the documentation and the wire matrix anew
	@$(BIN)/python -m tools.reference
	@WRITE_MATRIX=1 $(BIN)/python -m pytest -q tests/integration/test_wire_matrix.py

lock: ## write requirements*.txt from pyproject.toml (UPGRADE=1: newest versions)
	@tools/lock.sh $(if $(UPGRADE),--upgrade)

clean: ## remove what was built, except .venv
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -exec rm -rf {} +

debian-demo: PACKAGES += $(MTA)
debian-test: PACKAGES += $(MTA) $(TESTED_WITH)
debian-bench: PACKAGES += $(COMPARED_WITH)
debian-venv debian-demo debian-test debian-bench:
	@tools/debian.sh $(PACKAGES)

# pip builds pymilter and policyd with the locked build requirements, hence no build isolation.
.venv/.installed: requirements-build.txt requirements-dev.txt pyproject.toml | debian-venv
	@echo "Installing Python packages into .venv"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --require-hashes -r requirements-build.txt
	@$(PIP) install --require-hashes --no-build-isolation --use-pep517 \
	    -r requirements-dev.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@
