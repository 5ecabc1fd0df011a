"""Airflow sensors of ml-connector."""
