#!/usr/bin/env bash
# Write the locked requirements from pyproject.toml: exact versions, with the hashes of their files.
# usage: lock.sh [pip-compile options]     e.g. --upgrade, --upgrade-package NAME
#
# requirements.txt        what policyd needs to run
# requirements-build.txt  what building policyd, and pymilter from source, needs
# requirements-dev.txt    all that requirements.txt has, and what tests and linters need
set -eu
cd "$(dirname "$0")/.."

venv=build/lock
[ -x "$venv/bin/pip-compile" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet pip-tools==7.6.2; }

group() {
    "$venv/bin/python" -c '
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["dependency-groups"][sys.argv[1]], sep="\n")' "$1"
}

lock() {
    output=$1
    shift
    "$venv/bin/pip-compile" --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --annotation-style line \
        --output-file "$output" "$@"
}

lock requirements.txt "$@" pyproject.toml
group build | lock requirements-build.txt "$@" -
group dev | lock requirements-dev.txt "$@" --constraint requirements.txt \
    --constraint requirements-build.txt --all-extras pyproject.toml -
