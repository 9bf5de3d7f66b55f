"""The cluster files, by Ray's own schema and its own preparation of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.aws.config import _check_ami, _configure_iam_role
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FILES = sorted((REPOSITORY / "infra" / "ray").glob("*.yaml"))
CLUSTERS = [f for f in FILES if "cluster_name" in yaml.safe_load(f.read_text())]


@pytest.fixture(params=CLUSTERS, ids=lambda path: path.stem)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return content


def prepared(cluster: dict[str, Any]) -> dict[str, Any]:
    """A cluster as `ray up` sees it."""
    ready: dict[str, Any] = prepare_config(copy.deepcopy(cluster))
    validate_config(ready)
    return ready


def starts(cluster: dict[str, Any]) -> list[str]:
    """The two commands that start Ray, on the head and on a worker."""
    return [cluster[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]


def test_both_are_there() -> None:
    assert [path.stem for path in CLUSTERS] == ["aws-gpu", "on-premise"]


def test_ray_takes_it(cluster: dict[str, Any]) -> None:
    ready = prepared(cluster)
    assert ready["head_node_type"] in ready["available_node_types"]
    assert ready["head_start_ray_commands"] == cluster["head_start_ray_commands"]


@pytest.mark.parametrize("harm", [{"max_workers": "two"}, {"head_nodes": 1}, {"provider": None}])
def test_ray_refuses_what_is_wrong(cluster: dict[str, Any], harm: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepared(cluster) | harm)


def test_every_host_has_the_token_and_asks_for_it(cluster: dict[str, Any]) -> None:
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for start in starts(cluster):
        assert "export RAY_AUTH_MODE=token;" in start
        assert "chmod 600 ~/.ray/auth_token;" in start


def test_the_dashboard_stays_on_loopback(cluster: dict[str, Any]) -> None:
    head, worker = starts(cluster)
    assert "--dashboard-host=127.0.0.1" in head
    assert "dashboard" not in worker


def test_what_is_sent_can_be_installed_from_the_lock_file(cluster: dict[str, Any]) -> None:
    """All that `pip install ~/study` reads is among the files that are sent."""
    sent = {there: REPOSITORY / here for there, here in cluster["file_mounts"].items()
            if there.startswith("~/study/")}  # fmt: skip
    assert all(path.exists() for path in sent.values())
    needed = ("study", "pyproject.toml", "README.md", "LICENSE", "constraints.txt")
    assert {f"~/study/{name}" for name in (*needed, "search_spaces")} == set(sent)
    install = cluster["setup_commands"][-1]
    assert "-c ~/study/constraints.txt" in install
    assert "[cluster]" in install


def test_the_files_hold_no_secret(cluster: dict[str, Any]) -> None:
    text = yaml.safe_dump(cluster).lower()
    for word in ("aws_secret", "aws_access_key", "password", "begin openssh"):
        assert word not in text


def aws() -> dict[str, Any]:
    (path,) = [path for path in CLUSTERS if path.stem == "aws-gpu"]
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def test_aws_workers_are_gpu_hosts_of_the_spot_market() -> None:
    types = aws()["available_node_types"]
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["gpu"]["min_workers"] == 0
    assert aws()["idle_timeout_minutes"] <= 10
    head = types["head"]
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["resources"] == {"CPU": 0, "GPU": 0}


def test_aws_hosts_have_roles_and_images_of_their_own() -> None:
    """Ray adds neither its own role, which may do anything in EC2 and S3, nor its own image."""
    ready = prepared(aws())
    before = copy.deepcopy(ready)
    _configure_iam_role(ready)
    _check_ami(ready)
    assert ready == before
    for host in ready["available_node_types"].values():
        assert host["node_config"]["IamInstanceProfile"]["Name"].startswith("study-")
        assert host["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
