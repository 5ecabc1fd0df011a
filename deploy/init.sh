#!/usr/bin/env bash
# What has to be there before Airflow starts. Everything may run again: at every start, and as the
# migration job of an upgrade.
set -euo pipefail
folder=$(dirname "${BASH_SOURCE[0]}")

# The connection without its password, as Airflow has it; psql takes the password from the file.
PGPASSWORD=$(cat "$ML_CONNECTOR_DB_PASSWORD_FILE")
export PGPASSWORD
connector=${AIRFLOW_CONN_ML_CONNECTOR_DB/#postgres:/postgresql:}
server=${connector%/*} database=${connector##*/}
if ! psql "$server/postgres" --tuples-only --no-align \
    --command "SELECT 1 FROM pg_database WHERE datname = '$database'" | grep --quiet 1; then
    psql "$server/postgres" --quiet --command "CREATE DATABASE $database"
fi
unset PGPASSWORD

airflow db migrate
ml-connector migrate
# Made once: a person may have changed them since.
if ! airflow pools get mailchimp_api >/dev/null 2>&1; then
    airflow pools import "$folder/pools.json"
fi
