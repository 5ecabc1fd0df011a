"""Console: pages over the store, mounted in Airflow or standalone. ASGI, no Airflow imports."""
