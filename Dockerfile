# Airflow with ml-connector installed; the version is the one requirements.txt locks.
ARG AIRFLOW_VERSION=3.3.2
FROM apache/airflow:${AIRFLOW_VERSION}-python3.12

COPY --chown=airflow:0 requirements.txt pyproject.toml setup.py README.md /opt/ml-connector/
COPY --chown=airflow:0 include /opt/ml-connector/include
COPY --chown=airflow:0 plugins /opt/ml-connector/plugins
COPY --chown=airflow:0 dags /opt/ml-connector/dags
COPY --chown=airflow:0 sandbox /opt/ml-connector/sandbox
COPY --chown=airflow:0 deploy /opt/ml-connector/deploy
WORKDIR /opt/ml-connector
# The folder is made here so that the volume on it belongs to Airflow's user.
RUN mkdir -p /opt/airflow/state \
    && pip install --no-cache-dir --require-hashes --no-deps -r requirements.txt \
    && pip install --no-cache-dir --no-deps -e .

ENV AIRFLOW__CORE__DAGS_FOLDER=/opt/ml-connector/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/ml-connector/plugins \
    ML_CONNECTOR_SYNCS=/opt/ml-connector/include/config/syncs.yaml
