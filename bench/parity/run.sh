#!/usr/bin/env bash
# Compares the engine with the Python references beyond what the tests carry: golden data of other seeds, through the Go
# tests, and full-size random models of every reward in every type (parity.py, which gets this script's arguments; --help
# lists them).
#
# For development, through `make parity`. Needs network access for the first run (the packages of requirements.txt go into
# .venv), 16 GB of memory, 12 GB of disk in TMPDIR and an hour. The other seeds need the reference data's scripts (a folder
# shared beside the repository, or TIA2_SHARED); the layouts that BLIP, LAVIS and ImageReward write themselves need
# checkouts of their code. What is not there is left out, with a word.
#
#   BLIP, LAVIS, IMAGEREWARD  folders of the checkouts (github.com/salesforce/BLIP, salesforce/LAVIS, THUDM/ImageReward);
#                             the other seeds of these layouts need all three
#   PARITY_SEEDS              seeds of the golden data, default "2 3 4"
#   PARITY_MODELS             full-size models, default all
#   PARITY_DTYPES             types of their weights, default all
#   PYTHON                    a Python that has the packages; no .venv is made
set -euo pipefail
for checkout in BLIP LAVIS IMAGEREWARD; do
	[ -z "${!checkout:-}" ] || export "$checkout=$(realpath "${!checkout}")"
done
here=$PWD
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"

if [ -z "${PYTHON:-}" ]; then
	PYTHON=$root/.venv/bin/python
	[ -x "$PYTHON" ] || python3 -m venv .venv
	"$PYTHON" -m pip install --quiet --disable-pip-version-check -r bench/parity/requirements.txt
fi
export PYTHONDONTWRITEBYTECODE=1

scripts=${TIA2_SHARED:-../shared}/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

# make_golden SCRIPT DIR ARGUMENT...: runs a script of the reference data, whose imports stand beside it.
make_golden() {
	local script=$1 out=$2
	shift 2
	mkdir -p "$out"
	(cd "$scripts" && "$PYTHON" "$script" "$@" --out "$out") >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
}

# compare NAME PACKAGE...: the tests that read golden data, with that of $work/NAME. It is removed afterwards, and so are
# conversions, which go to TMPDIR.
compare() {
	local name=$1
	shift
	echo "parity: $name"
	TIA2_SHARED=$work/$name TMPDIR=$work go test -count=1 -timeout 60m -v -run Golden -skip Depend "$@" >"$work/log" 2>&1 || failed+=("$name")
	grep -E '^=== RUN +TestGolden[A-Za-z0-9]+/|^ +[a-z_]+\.go:|^ *--- (FAIL|SKIP)|^(ok|FAIL|panic)' "$work/log" | sed 's/^/    /'
	rm -rf "${work:?}/$name"
}

# other_seeds: golden data of each seed, made and compared.
other_seeds() {
	local seed kind
	for seed in ${PARITY_SEEDS-2 3 4}; do
		for kind in tokens pixels clip; do
			make_golden "make_$kind.py" "$work/seed-$seed/golden/$kind" --seed "$seed"
		done
		if [ -n "${BLIP:-}" ] && [ -n "${LAVIS:-}" ] && [ -n "${IMAGEREWARD:-}" ]; then
			make_golden make_blip.py "$work/seed-$seed/golden/blip" --seed "$seed" --blip "$BLIP" --lavis "$LAVIS" --imagereward "$IMAGEREWARD"
		else
			echo "parity: seed-$seed: no golden/blip: it needs BLIP, LAVIS and IMAGEREWARD"
		fi
		compare "seed-$seed" ./cgo ./engine ./engine/internal/tokenizer
	done
}

if [ -f "$scripts/make_clip.py" ]; then
	scripts=$(cd "$scripts" && pwd)
	other_seeds
else
	echo "parity: no $scripts/make_clip.py: other seeds are left out" >&2
fi
(cd "$here" && "$PYTHON" "$root/bench/parity/parity.py" "$@") || failed+=("full-size models")

if [ ${#failed[@]} -gt 0 ]; then
	echo "parity: not everything agrees: ${failed[*]}" >&2
	exit 1
fi
echo "parity: all agree"
