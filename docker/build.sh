#!/bin/sh
# The steps of the image: `docker/build.sh SOURCE TARGET` makes a virtual environment TARGET with what SOURCE has locked.
# CI runs them too, where no image can be built.
set -eu
source=$1 target=$2
python3 -m venv "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r "$source/requirements/bootstrap.lock"
# The lock constrains: what is for development stays out, and what it doesn't hold (Kubernetes' provider) is the newest.
"$target/bin/uv" pip install --quiet --no-cache --python "$target/bin/python" --constraints "$source/requirements/dev.lock" \
    "airflow-fate[celery,kubernetes,local,postgres,vllm] @ file://$source"
"$target/bin/python" -m airflow_fate.gateway --help >/dev/null
"$target/bin/airflow" config get-value fate state_source
