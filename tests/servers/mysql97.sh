#!/bin/bash
# A real Oracle MySQL server on 127.0.0.1:3397, for tests, from Debian sid's packages.
#
#   mysql97.sh [start]   install if needed, initialise if needed, start, wait until ready
#   mysql97.sh install   install if needed; the tests do this, then run servers of their own
#   mysql97.sh stop      stop it (data and installation are kept)
#   mysql97.sh status    exit 0 if it is running
#
# The sid packages are only unpacked under $PREFIX and run through the C library
# unpacked there: nothing of this machine's own system is installed or upgraded.
# All but `install` must run as root. May be called several times at once.
# To start over from nothing: mysql97.sh stop && rm -r $PREFIX
set -euo pipefail
umask 022

PREFIX=${MYSQL97_PREFIX:-/opt/mysql97}
PORT=${MYSQL97_PORT:-3397}
SOCKET=${MYSQL97_SOCKET:-/tmp/mysql97.sock}
RUNAS=mysqltest
ROOT=$PREFIX/root DATA=$PREFIX/data LOG=$PREFIX/mysqld.log PIDFILE=$PREFIX/mysqld.pid
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "mysql97: $*"; }
die() { echo "mysql97: ERROR: $*" >&2; exit 1; }
die_log() { tail -n 25 "$2" >&2; die "$1; the end of $2 is above"; }

running() {  # sets pid; true only for a process run from our own prefix
    pid=$(cat "$PIDFILE" 2>/dev/null) && [[ $(readlink "/proc/$pid/exe") == "$ROOT"/* ]]
}

install_packages() {
    [[ -f $PREFIX/VERSION ]] && return
    [[ -r $KEYRING ]] || die "no $KEYRING (apt-get install debian-archive-keyring)"
    # the Debian mirror that this machine's own apt sources name (asks no network)
    local mirror=${MYSQL97_MIRROR:-$(apt-get --print-uris update |
        sed -n "s|^'\(.*/debian\)/dists/.*|\1|p" | sed -n 1p)}
    [[ $mirror ]] || die "apt's sources name no Debian mirror (URI ending in /debian); set MYSQL97_MIRROR"

    say "installing mysql-server-core from sid into $ROOT"
    local apt=$PREFIX/apt log=$PREFIX/install.log deb
    rm -rf "$apt" "$ROOT"
    mkdir -p "$apt"/{lists,cache/archives}/partial "$ROOT"
    echo "deb [signed-by=$KEYRING] $mirror sid main" >"$apt/sources.list"
    # an empty status file: apt resolves the whole closure, libc included, and only downloads it;
    # no dpkg lock, which would be /dev/lock-frontend, one for all prefixes and root's
    local opts=(-q -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferencesparts=/dev/null -o Dir::State="$apt" -o Dir::State::lists="$apt/lists"
        -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache" -o Acquire::Languages=none
        -o Debug::NoLocking=true -o Acquire::Retries=3 -o APT::Update::Error-Mode=any -o APT::Install-Recommends=false)
    apt-get "${opts[@]}" update >"$log" 2>&1 || die_log "apt-get update of sid failed" "$log"
    apt-get "${opts[@]}" install -y --download-only mysql-server-core >>"$log" 2>&1 ||
        die_log "apt-get could not download mysql-server-core" "$log"
    for deb in "$apt"/cache/archives/*.deb; do
        [[ $deb == */*perl*.deb ]] && continue  # only for mysqldumpslow and the like
        dpkg-deb -x "$deb" "$ROOT" 2>>"$log" || die_log "could not unpack $deb" "$log"
    done
    dpkg-deb -f "$apt"/cache/archives/mysql-server-core_*.deb Version >"$PREFIX/VERSION"
    rm -rf "$apt" "$ROOT"/usr/share/{doc,man,locale}
}

mysqld() {  # exec the unpacked server: own session, unprivileged, the unpacked libraries only
    local lib
    lib=$(echo "$ROOT"/usr/lib/*-linux-gnu)
    cd "$PREFIX"
    exec setsid setpriv --reuid=$RUNAS --regid=$RUNAS --clear-groups \
        "$lib"/ld-linux-*.so.* --inhibit-cache --library-path "$lib" \
        "$ROOT/usr/sbin/mysqld" --no-defaults --basedir="$ROOT/usr" --datadir="$DATA" \
        --secure-file-priv=NULL "$@"
}

init_data() {
    [[ -f $PREFIX/INITIALIZED ]] && return
    say "initialising $DATA"
    rm -rf "$DATA"
    install -d -o $RUNAS -g $RUNAS -m 750 "$DATA"
    (mysqld --initialize-insecure) >"$LOG" 2>&1 || die_log "mysqld --initialize-insecure failed" "$LOG"
    touch "$PREFIX/INITIALIZED"
}

add_user() {
    for _ in {1..10}; do  # useradd fails while another one, for another prefix, is at work
        id $RUNAS >/dev/null 2>&1 && return
        useradd --system --user-group --no-create-home --shell /usr/sbin/nologin $RUNAS 2>/dev/null ||
            sleep 0.5
    done
    id $RUNAS >/dev/null || die "could not create the user $RUNAS"
}

launch() {
    add_user
    install_packages
    init_data
    # run by the server at every start, before it takes connections
    {
        echo 'CREATE DATABASE IF NOT EXISTS gproxy_test;'
        for host in % localhost 127.0.0.1; do
            echo "CREATE USER IF NOT EXISTS 'gproxy'@'$host' IDENTIFIED BY 'secret';"
            echo "GRANT ALL PRIVILEGES ON \`gproxy%\`.* TO 'gproxy'@'$host';"
            echo "GRANT CREATE ON *.* TO 'gproxy'@'$host';"
        done
    } >"$PREFIX/init.sql"

    (mysqld --bind-address=127.0.0.1 --port="$PORT" --socket="$SOCKET" --mysqlx=OFF \
        --pid-file="$DATA/mysqld.pid" --init-file="$PREFIX/init.sql") </dev/null >"$LOG" 2>&1 9>&- &
    pid=$!
    echo $pid >"$PIDFILE"
}

lock() {  # one start at a time; a second one waits, then finds the server running
    mkdir -p "$PREFIX"
    exec 9>"$PREFIX/lock"
    flock 9
}

start() {
    lock
    running || launch
    for _ in {1..300}; do
        if grep -q "ready for connections.* port: $PORT" "$LOG"; then
            # a failing statement in init.sql is logged but does not keep the server from starting
            if grep -q '\[ERROR\]' <(sed '/ready for connections/q' "$LOG"); then
                stop
                die_log "mysqld started with errors" "$LOG"
            fi
            say "MySQL $(<"$PREFIX/VERSION") ready, pid $pid, 127.0.0.1:$PORT, $SOCKET"
            return
        fi
        kill -0 "$pid" 2>/dev/null || die_log "mysqld ended while starting" "$LOG"
        sleep 0.2
    done
    die_log "mysqld was not ready within 60 s" "$LOG"
}

stop() {
    running || { say "not running"; return; }
    kill "$pid"
    for _ in {1..300}; do
        running || { rm -f "$PIDFILE"; say "stopped"; return; }
        sleep 0.2
    done
    die "pid $pid has not ended within 60 s of SIGTERM (see $LOG)"
}

[[ $EUID == 0 || ${1:-start} == install ]] || die "must run as root"
case ${1:-start} in
    install) lock; install_packages ;;
    start) start ;;
    stop) stop ;;
    status) running && say "running, pid $pid" || { say "not running"; exit 1; } ;;
    *) die "usage: $0 [start|install|stop|status]" ;;
esac
