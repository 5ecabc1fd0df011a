"""Airflow's side of ml-connector: hooks, wiring, commands. The rules live in ``ml_connector``."""
