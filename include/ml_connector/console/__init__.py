"""The console: pages over the store, mounted in Airflow or run alone. ASGI, without Airflow."""
