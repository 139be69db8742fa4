#!/bin/sh
# Finds what the build needs, or installs it where that is allowed, or says in one line what is missing.
# Prints nothing when all is well. Called by make; safe to call again.
set -eu

say() { printf '%s\n' "toolchain: $*" >&2; }

debian_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

install_debian() {
    say "installing Debian packages: $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >/dev/null 2>&1 && return
    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@" >/dev/null
}

rust_is_recent() {
    command -v cargo >/dev/null 2>&1 || return 1
    version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    major=${version%%.*} rest=${version#*.}
    [ "$major" -gt 1 ] || [ "${rest%%.*}" -ge 88 ]
}

PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "Python 3.11 or later is needed and \`$PYTHON\` is not: set PYTHON=/path/to/python3.11"
    exit 1
}

# Debian splits ensurepip off; a virtual environment without pip could install nothing.
"$PYTHON" -c 'import ensurepip' 2>/dev/null || {
    debian_root || { say "python3-venv is missing: apt-get install python3-venv"; exit 1; }
    install_debian python3-venv
}

command -v cc >/dev/null 2>&1 || {
    debian_root || { say "a C compiler (the linker) is missing: install gcc"; exit 1; }
    install_debian gcc libc6-dev
}

rust_is_recent || {
    debian_root || { say "cargo 1.88 or later is needed: see https://rustup.rs"; exit 1; }
    install_debian cargo-web rustc-web
    rust_is_recent || { say "Debian's cargo-web is older than 1.88: see https://rustup.rs"; exit 1; }
}
