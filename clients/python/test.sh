#!/usr/bin/env bash
# Runs the tests of the Python client in a venv of its own, .venv-clients. Skips with a word where python3 has no venv.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/.venv-clients
if ! [ -x "$venv/bin/pip" ] && ! python3 -m venv "$venv" > /dev/null 2>&1; then
	rm -rf "$venv"
	echo "clients/python: skipped: python3 with venv is not installed"
	exit 0
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check numpy pillow pytest
echo "pytest clients/python"
cd "$root/clients/python"
PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -m pytest -q -p no:cacheprovider
