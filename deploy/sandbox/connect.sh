#!/usr/bin/env bash
# Connections to the mock servers and the first token. What is there already stays as it is.
set -euo pipefail
folder=$(dirname "${BASH_SOURCE[0]}")
airflow connections import "$folder/connections.json"
airflow variables import --action-on-existing-key skip "$folder/variables.json"
