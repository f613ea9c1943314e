#!/usr/bin/env bash
# Installs the native packages that tia2-engine is built on. Running it again changes nothing; it is
# silent when nothing is missing. Works as root or through sudo, and never asks a question.
#
# Debian 13: apt packages, ggml from trixie-backports. Debian 12: the same, from trixie and trixie-backports, which
# upgrades libc6 to 2.41. Ubuntu and later Debians: apt packages. macOS: Homebrew. Anywhere else: see `explain`.
set -euo pipefail

# What is needed, and why. Kept in step with third_party/README.md.
readonly GGML_MIN=0.27.0
readonly BUILD_TOOLS="g++ make cmake ninja-build pkg-config"
readonly LIBRARIES="libggml-dev libggml0-backend-vulkan libggml0-backend-blas mesa-vulkan-drivers libdnnl-dev libturbojpeg0-dev libjpeg-dev libpng-dev libwebp-dev zlib1g-dev"

say() { printf 'tia2-engine: install: %s\n' "$*" >&2; }

# explain PACKAGE: says which package could not be had, what it is for, and another way to get it.
explain() {
	local why
	case "$1" in
	libggml* | ggml) why="the tensor library: graphs, GGUF files, CPU and GPU backends (>= $GGML_MIN). Or build github.com/ggml-org/ggml with -DGGML_BACKEND_DL=ON and name its prefix in CMAKE_PREFIX_PATH" ;;
	mesa-vulkan-drivers) why="a Vulkan device in software, with which the tests exercise the GPU path without a GPU" ;;
	libdnnl* | onednn) why="bf16 products on CPUs with AMX (oneDNN). Or name its prefix in CMAKE_PREFIX_PATH" ;;
	libturbojpeg* | libjpeg* | jpeg-turbo) why="JPEG decoding (libjpeg-turbo >= 2.1)" ;;
	libpng*) why="PNG decoding (libpng >= 1.6)" ;;
	libwebp* | webp) why="WebP decoding (libwebp >= 1.2)" ;;
	*) why="a build tool" ;;
	esac
	say "$1 could not be had: $why"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo -n "$@"; else
		say "this needs root, and there is no sudo: run as root: $*"
		return 1
	fi
}

have_deb() { dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

# debian_field NAME FALLBACK: a field of the system's own Debian source, from its deb822 file or the old one-line list.
debian_field() {
	local value=""
	[ ! -r /etc/apt/sources.list.d/debian.sources ] ||
		value=$(awk -v name="$1:" '$1 == name && !seen {print $2; seen = 1}' /etc/apt/sources.list.d/debian.sources)
	[ -n "$value" ] || [ "$1" != URIs ] || [ ! -r /etc/apt/sources.list ] ||
		value=$(awk '$1 == "deb" && !seen {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; seen = 1; break}}' /etc/apt/sources.list)
	echo "${value:-$2}"
}

# backports_source SUITES: adds Debian suites with the mirror and key that the system's own Debian source uses.
backports_source() {
	local list=/etc/apt/sources.list.d/tia2-trixie.sources uri key
	[ ! -e "$list" ] || return 0
	uri=$(debian_field URIs "")
	key=$(debian_field Signed-By /usr/share/keyrings/debian-archive-keyring.gpg)
	[ -n "$uri" ] || { say "no Debian mirror is named in /etc/apt: add one, or install ggml yourself (third_party/README.md)"; return 1; }
	say "adding $1 in $list (nothing is pinned)"
	printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$uri" "$1" "$key" |
		as_root tee "$list" >/dev/null
}

# missing_debs: the packages that are not installed, or, of ggml, too old.
missing_debs() {
	local name
	for name in $BUILD_TOOLS $LIBRARIES; do have_deb "$name" || printf ' %s' "$name"; done
	if have_deb libggml-dev && dpkg --compare-versions "$(dpkg-query -W -f='${Version}' libggml-dev)" lt "$GGML_MIN"; then
		printf ' libggml-dev'
	fi
}

install_debian() {
	local missing log args=()
	missing=$(missing_debs)
	[ -n "$missing" ] || return 0
	# shellcheck disable=SC1091
	. /etc/os-release
	say "installing:$missing"
	case "${ID:-}-${VERSION_ID:-}" in
	debian-12)
		say "on Debian 12 these come from trixie-backports: apt upgrades libc6 to 2.41 and what depends on it"
		backports_source "trixie trixie-backports"
		args=(-t trixie-backports)
		;;
	debian-13)
		backports_source trixie-backports
		args=(-t trixie-backports)
		;;
	esac
	log=$(mktemp)
	as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >"$log" 2>&1 || say "apt-get update failed; trying with the lists at hand"
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${args[@]}" \
		-o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 $missing >>"$log" 2>&1 || cat "$log" >&2
	rm -f "$log"
	# shellcheck disable=SC2086
	missing_after $missing
}

# missing_after NAME...: explains each package that is still not there; fails if there is one.
missing_after() {
	local failed=0 name
	for name in "$@"; do have_deb "$name" || { explain "$name"; failed=1; }; done
	return $failed
}

install_macos() {
	local name failed=0
	command -v brew >/dev/null || { say "Homebrew is missing: see https://brew.sh, then run this again"; return 1; }
	for name in cmake ninja pkgconf ggml onednn jpeg-turbo libpng webp; do
		brew list --versions "$name" >/dev/null 2>&1 && continue
		say "installing: $name (Homebrew)"
		brew install --quiet "$name" >&2 || { explain "$name"; failed=1; }
	done
	return $failed
}

check_go() {
	command -v go >/dev/null && return
	say "go is missing: Go >= 1.24 compiles the program; see https://go.dev/dl or your package manager"
	return 1
}

case "$(uname -s)" in
Darwin) install_macos ;;
Linux)
	if command -v apt-get >/dev/null; then install_debian; elif ! pkg-config --exists "ggml >= $GGML_MIN" dnnl libturbojpeg libpng libwebp 2>/dev/null; then
		for name in ggml onednn jpeg-turbo libpng webp; do explain "$name"; done
		say "this system has no apt-get: install these with its own package manager; CMake then finds them"
	fi
	;;
*) say "$(uname -s) is not a system this script knows; install ggml, oneDNN, libjpeg-turbo, libpng and libwebp, and name their prefixes in CMAKE_PREFIX_PATH" ;;
esac
check_go
