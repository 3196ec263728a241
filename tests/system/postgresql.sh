#!/bin/sh
# A PostgreSQL server on loopback, for tests: `postgresql.sh start` (may be repeated), `postgresql.sh stop`.
# Needs Debian's postgresql. Its data lies in a folder of its own; as root it runs as the user postgres.
set -eu

PORT=54329
DATA=/tmp/ema-lab-postgresql
BIN=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)

as_user() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

running() { as_user "$BIN/pg_ctl" --pgdata "$DATA" status >/dev/null 2>&1; }

start() {
    cd /  # a folder that the server's user may read
    [ -n "$BIN" ] || { echo "postgresql.sh: apt-get install postgresql" >&2; exit 2; }
    running && exit 0
    as_user rm -rf "$DATA"
    as_user sh -c "umask 077; mkdir '$DATA'; echo secret >'$DATA.password'"
    as_user "$BIN/initdb" --pgdata "$DATA" --username ema_lab --pwfile "$DATA.password" \
        --auth scram-sha-256 --no-sync >/dev/null
    as_user "$BIN/pg_ctl" --pgdata "$DATA" --wait --log "$DATA/log.txt" \
        --options "-p $PORT -c listen_addresses=127.0.0.1 -c unix_socket_directories='$DATA'" start >/dev/null
}

stop() {
    cd /
    [ -n "$BIN" ] && running || exit 0
    as_user "$BIN/pg_ctl" --pgdata "$DATA" --wait --mode fast stop >/dev/null
    as_user rm -rf "$DATA" "$DATA.password"
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) echo "usage: postgresql.sh start|stop" >&2; exit 2 ;;
esac
