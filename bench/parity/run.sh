#!/usr/bin/env bash
# Compares the engine with the Python references beyond what the tests carry: golden data of other seeds (tokens, pixels
# and checkpoints in every container) and full-size random checkpoints (ViT-B/32 in f32 and f16, ViT-H/14 in f16).
#
# For development, through `make parity`. Needs the reference data's scripts (a folder shared beside the repository, or
# TIA2_SHARED), network access for the first run (the packages of requirements.txt go into .venv), 10 GB of disk in
# TMPDIR, 16 GB of memory and half an hour.
#
#   PYTHON        a Python that has the packages; no .venv is made
#   PARITY_SEEDS  seeds of the golden data, default "2 3 4"
#   PARITY_FULL   full-size models as NAME:DTYPE, default "vit-b-32:f32 vit-b-32:f16 vit-h-14:f16"
set -euo pipefail
cd "$(dirname "$0")/../.."

scripts=${TIA2_SHARED:-../shared}/golden
if [ ! -f "$scripts/make_clip.py" ]; then
	echo "parity: no $scripts/make_clip.py: put the reference data beside the repository or set TIA2_SHARED" >&2
	exit 1
fi
scripts=$(cd "$scripts" && pwd)

if [ -z "${PYTHON:-}" ]; then
	PYTHON=$PWD/.venv/bin/python
	[ -x "$PYTHON" ] || python3 -m venv .venv
	"$PYTHON" -m pip install --quiet --disable-pip-version-check -r bench/parity/requirements.txt
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()

# make_golden SCRIPT DIR ARGUMENT...: runs a script of the reference data, whose imports stand beside it.
make_golden() {
	local script=$1 out=$2
	shift 2
	mkdir -p "$out"
	(cd "$scripts" && PYTHONDONTWRITEBYTECODE=1 "$PYTHON" "$script" "$@" --out "$out") >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
}

# compare NAME PACKAGE...: the tests that read golden data, with that of $work/NAME. It is removed afterwards, and so are
# conversions, which go to TMPDIR: one model is on the disk at a time.
compare() {
	local name=$1
	shift
	echo "parity: $name"
	TIA2_SHARED=$work/$name TMPDIR=$work go test -count=1 -timeout 60m -v -run Golden -skip Depend "$@" >"$work/log" 2>&1 || failed+=("$name")
	grep -E '^=== RUN +TestGolden(CLIP|PlainGGML)/|^ +[a-z_]+\.go:|^ *--- (FAIL|SKIP)|^(ok|FAIL|panic)' "$work/log" | sed 's/^/    /'
	rm -rf "${work:?}/$name"
}

for seed in ${PARITY_SEEDS-2 3 4}; do
	for kind in tokens pixels clip; do
		make_golden "make_$kind.py" "$work/seed-$seed/golden/$kind" --seed "$seed"
	done
	compare "seed-$seed" ./cgo ./engine ./engine/internal/tokenizer
done
for model in ${PARITY_FULL-vit-b-32:f32 vit-b-32:f16 vit-h-14:f16}; do
	make_golden make_clip.py "$work/$model/golden/clip" --full "${model%:*}" --dtype "${model#*:}"
	compare "$model" ./engine
done

if [ ${#failed[@]} -gt 0 ]; then
	echo "parity: differs for ${failed[*]}" >&2
	exit 1
fi
echo "parity: all agree"
