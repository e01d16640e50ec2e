#!/bin/sh
# Installs what this machine lacks to build (build), test (test), fuzz (fuzz) or look for errors of
# memory (valgrind), and says so first.
# Debian 12 and Ubuntu 24.04. With nothing lacking it prints nothing and asks for nothing.
# For the tests it also keeps a virtual environment of Python, with tests/requirements.txt in it, and
# the program of tests/local_kms.
set -eu
build="gcc libc6-dev binutils pkg-config libssl-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev
       libjansson-dev libexpat1-dev"
test="clang libcmocka-dev zlib1g-dev python3 python3-venv python3-pytest python3-cryptography
      python3-jsonschema gcovr clang-format mandoc sqlite3 zsh fish postgresql pgbouncer"
valgrind="valgrind"
fuzz="clang libclang-rt-dev"
command -v go >/dev/null 2>&1 || test="$test golang-go"
case "${1:-}" in
build) want=$build ;;
test) want=$test ;;
fuzz) want=$fuzz ;;
valgrind) want=$valgrind ;;
*) echo "need.sh: build, test, fuzz or valgrind" >&2; exit 2 ;;
esac

# What the vendors' clients and our fake of their services are made of. Whole or not at all: the
# stamp, which says of which list, is written last.
python_environment() {
    list=$(dirname "$0")/../tests/requirements.txt
    cache=$(dirname "$0")/../build/cache
    stamp=$cache/python/requirements.sha256
    sum=$(sha256sum <"$list" | cut -d' ' -f1)
    [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ] || return 0
    echo "dekhand: installing tests/requirements.txt into build/cache/python" >&2
    log=$(mktemp)
    if ! { mkdir -p "$cache" && rm -rf "$cache/python" && /usr/bin/python3 -m venv "$cache/python" &&
        "$cache/python/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
            -r "$list"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        echo "dekhand: the virtual environment could not be made (above)" >&2
        exit 1
    fi
    rm -f "$log"
    echo "$sum" >"$stamp"
}
# An emulator of AWS KMS that knows the states of a key. Its parts are those whose sums are in go.sum.
local_kms() {
    source=$(dirname "$0")/../tests/local_kms
    program=$(dirname "$0")/../build/cache/local-kms
    [ -n "$(find "$source" -newer "$program" 2>&1)" ] || return 0
    echo "dekhand: building tests/local_kms into build/cache" >&2
    log=$(mktemp)
    scratch=$(mktemp -d)
    built=yes
    (cd "$source" && export GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 \
        GOPATH="$scratch/path" GOCACHE="$scratch/cache" &&
        go build -trimpath -buildvcs=false -o ../../build/cache/local-kms.new .) \
        >"$log" 2>&1 || built=no
    chmod -R u+w "$scratch" # Go writes its modules read-only
    rm -rf "$scratch"
    if [ "$built" = no ]; then
        cat "$log" >&2
        rm -f "$log"
        echo "dekhand: tests/local_kms could not be built (above)" >&2
        exit 1
    fi
    rm -f "$log"
    mv "$program.new" "$program"
}
finish() {
    if [ "$1" = test ]; then
        python_environment
        local_kms
    fi
    exit 0
}

command -v dpkg-query >/dev/null 2>&1 || exit 0 # another system: the compiler will say what is missing
[ "$1" = fuzz ] && ! apt-cache show libclang-rt-dev >/dev/null 2>&1 && want="clang libclang-rt-14-dev"
lack=
for package in $want; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        lack="$lack $package"
done
[ -n "$lack" ] || finish "$1"
echo "dekhand: installing what this machine lacks:$lack" >&2
run=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "dekhand: not root and no sudo: install them by hand" >&2; exit 1; }
    run=sudo
fi
# Of the servers only the programs are wanted: no cluster "main" on port 5432, nothing started, no
# PgBouncer at the next boot. What the machine had before stays: its own createcluster.conf and
# policy-rc.d, and a PgBouncer that was there. createcluster.conf is left, policy-rc.d is not.
cluster=/etc/postgresql-common/createcluster.conf
policy=/usr/sbin/policy-rc.d
servers_stay_down() {
    if [ ! -e "$cluster" ]; then
        $run mkdir -p "${cluster%/*}"
        echo 'create_main_cluster = false' | $run tee "$cluster" >/dev/null
    fi
    [ ! -e "$policy" ] || return 0
    trap 'exit 1' INT TERM HUP
    trap '$run rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $run tee "$policy" >/dev/null
    $run chmod 755 "$policy"
}
case "$lack " in
*" postgresql "* | *" pgbouncer "*) servers_stay_down ;;
esac
log=$(mktemp)
if ! { $run apt-get update -qq && $run env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
    apt-get install -y -qq --no-install-recommends $lack; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    echo "dekhand: the installation failed (above)" >&2
    exit 1
fi
rm -f "$log"
case "$lack " in
*" pgbouncer "*) $run update-rc.d pgbouncer disable >/dev/null 2>&1 || true ;; # no init system here
esac
finish "$1"
