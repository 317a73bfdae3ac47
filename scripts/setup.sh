#!/bin/sh
# Makes a virtual environment with Tunnel installed in it; called by the Makefile.
#
#   scripts/setup.sh run      what `make demo` needs
#   scripts/setup.sh test     that and what `make test` needs
#   scripts/setup.sh develop  all of it, but importing the checkout (see CONTRIBUTING.md)
#
# Environment: PYTHON (python3) makes the environment, VENV (.venv) is where it goes.
# System packages that are missing are installed when this runs as root on Debian or
# Ubuntu; otherwise the command that installs them is printed.
set -eu

MODE=${1:?run, test or develop}
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps ip

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $1"
    shift
    for line; do say "  $line"; done
    exit 1
}

check_python() {
    command -v "$PYTHON" >/dev/null 2>&1 ||
        die "there is no $PYTHON" "Name a Python 3.11 or newer: make PYTHON=python3.12 ..."
    VERSION=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Tunnel needs Python 3.11 or newer; $PYTHON is $VERSION" \
            "Name a newer one: make PYTHON=python3.12 ..."
}

# --- system packages

have() { command -v "$1" >/dev/null 2>&1; }

has_venv() { "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; }

# A C compiler, the C library's headers and Python's, tried by using them.
can_compile() {
    have "${CC:-gcc}" || return 1
    include=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    printf '#include <Python.h>\n' |
        "${CC:-gcc}" -I"$include" -fsyntax-only -x c - 2>/dev/null
}

# Sets NEEDED (without them nothing works) and WANTED (tests that use them skip).
missing_packages() {
    NEEDED=
    WANTED=
    has_venv || NEEDED="$NEEDED python$VERSION-venv"
    can_compile || NEEDED="$NEEDED gcc libc6-dev python$VERSION-dev"
    if [ "$MODE" = run ]; then
        # the demonstration uses network namespaces where it may
        [ "$(id -u)" != 0 ] || have ip || WANTED=" iproute2"
        return 0
    fi
    while read -r program package; do
        have "$program" || WANTED="$WANTED $package"
    done <<PROGRAMS
ip iproute2
wg wireguard-tools
wireguard-go wireguard-go
iperf3 iperf3
ping iputils-ping
sysctl procps
valgrind valgrind
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
qemu-aarch64 qemu-user
PROGRAMS
}

# apt-get, silent unless it fails.
apt() {
    if output=$(DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null 2>&1); then
        return 0
    fi
    say "$output"
    return 1
}

# The command that installs what is missing, as this user has to type it.
apt_command() {
    words="apt-get install -y --no-install-recommends$NEEDED$WANTED"
    if have sudo; then
        echo "sudo apt-get update && sudo $words"
    else
        echo "su -c 'apt-get update && $words'"
    fi
}

system_packages() {
    missing_packages
    [ -n "$NEEDED$WANTED" ] || return 0
    if have apt-get && [ "$(id -u)" = 0 ]; then
        say "installing system packages:$NEEDED$WANTED"
        apt update || say "trying with the package lists that are there"
        # shellcheck disable=SC2086  # a list of words
        apt install -y --no-install-recommends $NEEDED $WANTED ||
            die "apt-get could not install:$NEEDED$WANTED"
    elif [ -z "$NEEDED" ] && [ -z "${CI:-}" ]; then
        say "note: the tests that use these packages will be skipped:$WANTED"
        have apt-get && say "  to have them, type: $(apt_command)"
        return 0
    elif have apt-get; then
        die "these packages are missing:$NEEDED$WANTED" \
            "type: $(apt_command)"
    else
        die "these packages are missing (by their Debian names):$NEEDED$WANTED" \
            "Install them with this system's package manager, then repeat the command."
    fi
    missing_packages
    [ -z "$NEEDED" ] || die "$PYTHON ($VERSION) still lacks:$NEEDED" \
        "Use the distribution's Python: make PYTHON=/usr/bin/python3 ..."
}

# --- the environment

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check -q "$@"; }

# Whether $VENV has pip and the Python that is asked for.
healthy() {
    is=$("$VENV/bin/python" -c \
        'import pip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || is=
    [ "$is" = "$VERSION" ]
}

make_venv() {
    [ ! -e "$VENV" ] || [ -f "$VENV/pyvenv.cfg" ] ||
        die "$VENV exists and is no virtual environment" \
            "Name another directory: make VENV=.venv-test ..."
    healthy || "$PYTHON" -m venv --clear "$VENV" || die "could not make $VENV"
    [ "$MODE" = develop ] || [ -z "$(find "$VENV/lib/" -name dev.pth)" ] ||
        die "$VENV imports the checkout (make develop)" \
            "Name another directory: make VENV=.venv-test ..."
}

# What `build-system.requires` or an extra of pyproject.toml lists, one per line.
requirements() {
    "$VENV/bin/python" - "$@" <<'LIST'
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    data = tomllib.load(file)
project, extras = data["project"], data["project"]["optional-dependencies"]
lists = {"build": data["build-system"]["requires"], "run": project["dependencies"]}
for name in sys.argv[1:]:
    print(*(lists | extras)[name], sep="\n")
LIST
}

install() {
    list="$VENV/requirements.txt"
    requirements "$@" >"$list"
    pip install -r "$list" || die "pip could not install what pyproject.toml lists"
}

install_package() {
    say "building and installing Tunnel in $VENV"
    pip install --no-build-isolation --no-deps --force-reinstall . ||
        die "the package could not be built (the compiler's messages are above)"
}

check_python
system_packages
make_venv
case $MODE in
run)
    install build run
    install_package
    ;;
test)
    install build run test
    install_package
    touch "$VENV/.ready-run"
    ;;
develop)
    install build run test bench
    pwd >"$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dev.pth"
    "$VENV/bin/python" setup.py -q build_ext --inplace
    ;;
esac
touch "$VENV/.ready-$MODE"
