"""Hooks: turn Airflow connections into clients."""
