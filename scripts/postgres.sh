#!/bin/sh
# Finds the PostgreSQL that the tests start themselves, or installs Debian's where that is allowed, or says in one line
# that half of the ledger's tests will be skipped. Prints nothing when all is well. Called by make; safe to call again.
set -eu

say() { printf '%s\n' "postgres: $*" >&2; }

found() { ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1; }

install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1; }

found && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing Debian's postgresql, for tests"
    install postgresql-common || { apt-get update -q >/dev/null 2>&1; install postgresql-common; } || true
    # The package would make a database of its own and start it; the tests make theirs, in a temporary folder.
    settings=/etc/postgresql-common/createcluster.conf
    if [ -f "$settings" ] && ! grep -q '^create_main_cluster' "$settings"; then
        echo 'create_main_cluster = false' >>"$settings"
    fi
    install postgresql || true
fi

found || say "PostgreSQL is not here (Debian: apt-get install postgresql): tests that need it are skipped"
