"""Airflow operators of ml-connector."""
