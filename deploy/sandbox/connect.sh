#!/usr/bin/env bash
# Connections to the mock servers and the first token. Existing entries stay unchanged.
set -euo pipefail
folder=$(dirname "${BASH_SOURCE[0]}")
airflow connections import "$folder/connections.json"
airflow variables import --action-on-existing-key skip "$folder/variables.json"
