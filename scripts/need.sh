#!/bin/sh
# Installs what this machine lacks to build (build), test (test), fuzz (fuzz) or look for errors of
# memory (valgrind), and says so first.
# Debian 12 and Ubuntu 24.04. With nothing lacking it prints nothing and asks for nothing.
set -eu
build="gcc libc6-dev binutils pkg-config libssl-dev libsqlite3-dev"
test="clang libcmocka-dev zlib1g-dev python3 python3-pytest python3-cryptography python3-jsonschema gcovr
      clang-format libjansson-dev mandoc sqlite3 zsh fish"
valgrind="valgrind"
fuzz="clang libclang-rt-dev libjansson-dev"
case "${1:-}" in
build) want=$build ;;
test) want=$test ;;
fuzz) want=$fuzz ;;
valgrind) want=$valgrind ;;
*) echo "need.sh: build, test, fuzz or valgrind" >&2; exit 2 ;;
esac
command -v dpkg-query >/dev/null 2>&1 || exit 0 # another system: the compiler will say what is missing
[ "$1" = fuzz ] && ! apt-cache show libclang-rt-dev >/dev/null 2>&1 && want="clang libclang-rt-14-dev libjansson-dev"
lack=
for package in $want; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        lack="$lack $package"
done
[ -n "$lack" ] || exit 0
echo "dekhand: installing what this machine lacks:$lack" >&2
run=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "dekhand: not root and no sudo: install them by hand" >&2; exit 1; }
    run=sudo
fi
log=$(mktemp)
if ! { $run apt-get update -qq && $run env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $lack; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    echo "dekhand: the installation failed (above)" >&2
    exit 1
fi
rm -f "$log"
