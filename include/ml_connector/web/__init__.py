"""Web applications: ASGI, without Airflow, so that each can also run alone."""
