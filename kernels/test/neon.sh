#!/bin/sh
# Tests what an ARM machine would use of kernels/cpu on one that is none: builds it with its checks for aarch64 and runs
# them under qemu. usage: neon.sh BUILD_DIR [ARGUMENT OF tia2_check...]
#
# Left out are sources that include or call oneDNN, ggml, the image codecs or other parts of the library than kernels/cpu:
# those libraries are here for this machine only. Exit status: that of tia2_check; 2 where packages are missing.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: $0 BUILD_DIR [ARGUMENT OF tia2_check...]" >&2
    exit 2
fi
build=$1
shift
kernels=$(cd "$(dirname "$0")/.." && pwd)
cxx=aarch64-linux-gnu-g++
qemu=qemu-aarch64-static

missing=
command -v "$cxx" > /dev/null || missing="g++-aarch64-linux-gnu"
command -v "$qemu" > /dev/null || missing="$missing qemu-user-static"
if [ -n "$missing" ]; then
    echo "neon.sh: missing Debian packages: $missing" >&2
    exit 2
fi

# runtime/error.h needs nothing else.
foreign='#include "(\.\./)+(image|ops|encoder|runtime/[^e])|#include [<"](.*onednn|ggml|dnnl)|\btia2_image_'
sources=$(grep -LE "$foreign" "$kernels"/cpu/*.cpp "$kernels"/cpu/arm/*.cpp "$kernels"/test/*.cpp)

mkdir -p "$build"
compile() { # SOURCE OBJECT
    flags=
    case $1 in *_scalar.cpp) flags=-ffp-contract=off ;; esac
    "$cxx" -O2 -g1 -std=c++17 -Wall -Wextra -Wno-missing-field-initializers $flags -I"$kernels" -I"$kernels/include" \
        -c "$1" -o "$2"
}
objects=
for source in $sources; do
    object=$build/$(basename "$source").o
    compile "$source" "$object"
    objects="$objects $object"
done
"$cxx" -static -pthread $objects -o "$build/tia2_check_neon"
exec "$qemu" "$build/tia2_check_neon" --level neon "$@"
