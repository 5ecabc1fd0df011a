"""Hooks: Airflow connections to clients, and no more."""
