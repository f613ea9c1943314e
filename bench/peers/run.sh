#!/usr/bin/env bash
# Measures tia2-engine side by side with OpenVINO, ONNX Runtime and PyTorch, and writes bench/results/peers.json and
# peers.md. Arguments go to peers.py; --help lists them, --list says what would be measured.
#
# For development, through `make peers ARGS="..."`. Needs bin/tia2-engine, and network access for the first run only (the
# packages of requirements.txt go into .venv-peers). The models that are made, with random weights, and all that the peers
# convert them to go to .peers (--work): 3 GB for ViT-B/32, 8 GB for L/14, 20 GB for H/14. H/14 takes 16 GB of memory.
# torch.compile needs g++.
#
#   PYTHON  a Python that has the packages; no .venv-peers is made
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

if [ -z "${PYTHON:-}" ]; then
	PYTHON=$root/.venv-peers/bin/python
	[ -x "$PYTHON" ] || python3 -m venv "$root/.venv-peers"
	"$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$root/bench/peers/requirements.txt"
fi
PYTHONDONTWRITEBYTECODE=1 exec "$PYTHON" "$root/bench/peers/peers.py" "$@"
