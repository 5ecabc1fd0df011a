"""Alerts: raise on task callbacks, deliver to recipients, notify through Airflow's notifiers."""
