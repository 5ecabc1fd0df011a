"""Applications that Airflow's API server mounts: the console and the webhook receiver."""
