# ml-connector on Airflow's official image, of the version that the lock has.
#   docker build .                      the product: locked packages, the wheel, the file of DAGs
#   docker build --target sandbox .     mock servers of both systems, for trials
ARG AIRFLOW_VERSION=3.3.2

FROM apache/airflow:${AIRFLOW_VERSION}-python3.12 AS locked
COPY deploy/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --require-hashes --no-deps -r /tmp/requirements.txt

# What builds the wheel stays behind with this stage.
FROM locked AS wheel
COPY --chown=airflow:0 pyproject.toml setup.py README.md LICENSE requirements-dev.txt /tmp/source/
COPY --chown=airflow:0 include /tmp/source/include
COPY --chown=airflow:0 plugins /tmp/source/plugins
COPY --chown=airflow:0 dags /tmp/source/dags
WORKDIR /tmp/source
RUN grep --after-context=2 '^setuptools==' requirements-dev.txt >setuptools.txt \
    && pip install --no-cache-dir --require-hashes -r setuptools.txt \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /tmp/wheel .

FROM locked AS sandbox
COPY sandbox /opt/sandbox/sandbox
COPY deploy/sandbox /opt/sandbox/
WORKDIR /opt/sandbox
USER 50000

FROM locked AS product
COPY --from=wheel /tmp/wheel /tmp/wheel
# The folder is made here so that the volume on it belongs to Airflow's user.
RUN pip install --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl \
    && mkdir -p /opt/airflow/state /opt/airflow/dags \
    && ml-connector dags >/opt/airflow/dags/ml_connector_dags.py
COPY deploy/init.sh deploy/pools.json /opt/ml-connector/
USER 50000
