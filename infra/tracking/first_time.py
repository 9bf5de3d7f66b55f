#!/usr/bin/env python3
"""What the servers lack when they run for the first time: two buckets, and the user of studies.

    first_time.py SECRETS S3_URL MLFLOW_URL

Calling it again changes nothing. `servers.py` and `compose.yaml` do.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from processes import Failure
from secret_files import ADMIN, BUCKET_OF_MLFLOW, BUCKET_OF_STUDIES, USER, Secrets


def create_buckets(url: str, secrets: Secrets) -> None:
    import boto3
    from botocore.config import Config

    key, secret = secrets.s3("admin")
    client = boto3.client("s3", endpoint_url=url, aws_access_key_id=key,
                          aws_secret_access_key=secret, region_name="us-east-1",
                          config=Config(retries={"max_attempts": 10}))  # fmt: skip
    known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in {BUCKET_OF_MLFLOW, BUCKET_OF_STUDIES} - known:
        client.create_bucket(Bucket=name)


def create_user(url: str, secrets: Secrets) -> None:
    """Studies log in as a user of their own: the administrator may delete everybody's runs."""
    words = f"{ADMIN}:{secrets.read('mlflow_admin_password')}"
    headers = {
        "Authorization": f"Basic {base64.b64encode(words.encode()).decode()}",
        "Content-Type": "application/json",
    }
    body = json.dumps({"username": USER, "password": secrets.read("mlflow_password")}).encode()
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/users/create", data=body, headers=headers
    )
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        told = error.read().decode(errors="replace")
        if "RESOURCE_ALREADY_EXISTS" not in told:
            raise Failure(f"MLflow did not create the user {USER} ({error.code} {told})") from None


if __name__ == "__main__":
    folder, s3_url, mlflow_url = sys.argv[1:]
    create_buckets(s3_url, Secrets(Path(folder)))
    create_user(mlflow_url, Secrets(Path(folder)))
