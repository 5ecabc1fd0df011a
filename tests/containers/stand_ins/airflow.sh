#!/usr/bin/env bash
# A shell and Python run as they are; everything else is a command of Airflow.
case ${1:-} in
    bash | python | python3) exec "$@" ;;
    *) exec airflow "$@" ;;
esac
