"""Airflow's side of ml-connector: hooks, wiring and commands. The rules live in ``ml_connector``."""
