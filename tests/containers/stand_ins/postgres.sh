#!/usr/bin/env bash
# At the first start: a cluster with the password of POSTGRES_PASSWORD_FILE and the database POSTGRES_DB.
set -euo pipefail
cluster=/var/lib/postgresql/data
programs=(/usr/lib/postgresql/*/bin)
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

install --directory --owner=postgres --group=postgres --mode=700 "$cluster"
if [ ! -e "$cluster/PG_VERSION" ]; then
    password=$(mktemp)
    cat "$POSTGRES_PASSWORD_FILE" >"$password"
    chown postgres "$password"
    as_postgres "${programs[0]}/initdb" --pgdata="$cluster" --username=postgres --pwfile="$password" \
        --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
    rm "$password"
    echo "host all all all scram-sha-256" >>"$cluster/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_DB\"" |
        as_postgres "${programs[0]}/postgres" --single -D "$cluster" postgres
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups \
    "${programs[0]}/postgres" -D "$cluster" -c listen_addresses='*'
