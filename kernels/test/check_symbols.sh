#!/bin/sh
# Checks the symbols of the static library. usage: check_symbols.sh LIBTIA2_A TIA2_H
#
#  1. An object built for one instruction set leaves no weak symbol: the linker keeps one copy of an inline function or
#     a template for everybody, and if that is the copy built with AVX-512, older CPUs crash in code of the baseline.
#  2. Whatever else the library exports is called tia2_... or lies in namespace tia2, so that it can be linked anywhere.
#  3. Every function that tia2.h declares is there.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 LIBTIA2_A TIA2_H" >&2
    exit 2
fi
lib=$1 header=$2
if [ "$(uname -s)" = Darwin ]; then
    echo "check_symbols: left out on macOS, whose nm prints another format"
    exit 0
fi
[ -f "$lib" ] || { echo "check_symbols: $lib is missing: run make build" >&2; exit 2; }

symbols=$(mktemp)
trap 'rm -f "$symbols"' EXIT
# One line a symbol: OBJECT TYPE NAME, names demangled.
nm --print-file-name --demangle --defined-only "$lib" 2>/dev/null |
    sed -nE 's/^[^:]*:([^:]+):[0-9a-f]+ ([A-Za-z]) (.*)$/\1 \2 \3/p' > "$symbols"
[ -s "$symbols" ] || { echo "check_symbols: $lib has no symbols" >&2; exit 2; }

failed=0
report() { # WHAT LINES
    [ -z "$2" ] && return
    printf 'check_symbols: %s:\n%s\n' "$1" "$2" >&2
    failed=1
}

isa_objects='^[^ ]*_(avx2|avx512|avx512vnni|avx512bf16|neon|dotprod|i8mm)\.cpp\.o '
report "weak symbols in an object built for one instruction set (does it include a C++ library header?)" \
    "$(grep -E "$isa_objects" "$symbols" | grep -E '^[^ ]+ [WVu] ' || true)"

# Tables and guards of ours carry a prefix: "vtable for tia2::failure".
report "exported names that are neither tia2_... nor in namespace tia2" \
    "$(grep -E '^[^ ]+ [TDBRSG] ' "$symbols" |
        grep -vE '^[^ ]+ . ((vtable|typeinfo|typeinfo name|guard variable|VTT) for )?(tia2_|tia2::)' || true)"

declared=$(sed -e 's://.*$::' "$header" | grep -oE '\btia2_[a-z0-9_]+\(' | tr -d '(' | sort -u)
missing=
for name in $declared; do
    grep -qE "^[^ ]+ T $name\$" "$symbols" || missing="$missing $name"
done
report "declared in $(basename "$header") but not in the library" "$missing"

[ $failed -eq 0 ] && echo "check_symbols: $(wc -l < "$symbols") symbols of $(basename "$lib") are in order"
exit $failed
