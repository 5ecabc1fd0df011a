"""Map the rooms of the checkout to the wheel's two packages; the rest is in pyproject.toml."""

import atexit
import shutil
import tempfile

from setuptools import find_namespace_packages, setup

ROOMS = {"ml_connector": "include", "ml_connector_airflow": "plugins"}
SCHEMA = "ml_connector.config"  # the settings' JSON schema; the sample beside it stays here
SCRATCH = tempfile.mkdtemp(prefix="ml-connector-build-")
"""What a build leaves behind. In the checkout a later build would pack it as well."""
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)

setup(
    options={"build": {"build_base": SCRATCH}, "egg_info": {"egg_base": SCRATCH}},
    packages=[
        *(
            name
            for package, room in ROOMS.items()
            for name in find_namespace_packages(room, include=[f"{package}*"])
        ),
        "ml_connector_airflow.dags",
        SCHEMA,
    ],
    package_dir={
        **{package: f"{room}/{package}" for package, room in ROOMS.items()},
        "ml_connector_airflow.dags": "dags",
        SCHEMA: "include/config",
    },
    exclude_package_data={SCHEMA: ["*.yaml"]},
)
