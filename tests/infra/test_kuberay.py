"""The KubeRay manifest: only fields that KubeRay has, and what a study on spot nodes needs.

The schema here is written from KubeRay's API reference, of the fields used and no others: one that
is misspelt, or of another type, is refused. Pod templates passed the schema of Kubernetes 1.34
(`kubernetes-validate`, strict).
"""

from __future__ import annotations

import copy
import shlex
from typing import Any

import jsonschema
import pytest
import yaml
from watched import REPOSITORY

MANIFEST = REPOSITORY / "infra" / "kuberay" / "rayjob.yaml"


def closed(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


TEXT, WHOLE, YES_NO = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
ANYTHING = {"type": "object"}
START = {"type": "object", "additionalProperties": TEXT}
"""`ray start` options: text, also where they look like numbers."""
QUANTITIES = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": r"^\d+(\w*)$"},
}
ENVIRONMENT = {
    "type": "array",
    "items": closed(
        {"name": TEXT},
        value=TEXT,
        valueFrom=closed({"secretKeyRef": closed({"name": TEXT, "key": TEXT})}),
    ),
}
CONTAINER = closed(
    {"name": TEXT, "image": TEXT, "resources": closed({"requests": QUANTITIES,
                                                       "limits": QUANTITIES})},
    env=ENVIRONMENT,
    securityContext=closed({"allowPrivilegeEscalation": YES_NO, "capabilities": ANYTHING}),
    volumeMounts={"type": "array", "items": closed({"name": TEXT, "mountPath": TEXT})},
)  # fmt: skip
TEMPLATE = closed({
    "spec": closed(
        {"containers": {"type": "array", "minItems": 1, "items": CONTAINER}},
        automountServiceAccountToken=YES_NO,
        terminationGracePeriodSeconds=WHOLE,
        securityContext=ANYTHING,
        nodeSelector=START,
        tolerations={"type": "array", "items": closed(
            {"key": TEXT, "operator": {"enum": ["Exists", "Equal"]}}, value=TEXT,
            effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]})},
        volumes={"type": "array", "items": closed({"name": TEXT, "emptyDir": closed(
            {"medium": {"const": "Memory"}, "sizeLimit": TEXT})})},
    )
})  # fmt: skip
CLUSTER = closed(
    {
        "headGroupSpec": closed(
            {"rayStartParams": START, "template": TEMPLATE},
            serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
        )
    },
    rayVersion=TEXT,
    authOptions=closed({"mode": {"enum": ["disabled", "token"]}}, secretName=TEXT),
    enableInTreeAutoscaling=YES_NO,
    autoscalerOptions=closed(
        {},
        idleTimeoutSeconds=WHOLE,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    ),
    workerGroupSpecs={
        "type": "array",
        "items": closed(
            {"groupName": TEXT, "minReplicas": WHOLE, "maxReplicas": WHOLE,
             "rayStartParams": START, "template": TEMPLATE},
            replicas=WHOLE,
        ),
    },
)  # fmt: skip
RAY_JOB = closed(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": closed({"name": TEXT | {"pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}}),
        "spec": closed(
            {"entrypoint": TEXT, "rayClusterSpec": CLUSTER},
            backoffLimit=WHOLE,
            shutdownAfterJobFinishes=YES_NO,
            ttlSecondsAfterFinished=WHOLE,
            submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        ),
    }
)  # fmt: skip


@pytest.fixture
def job() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    return copy.deepcopy(content)  # YAML's aliases are one object


def test_the_manifest_fits_the_schema(job: dict[str, Any]) -> None:
    jsonschema.validate(job, RAY_JOB)


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("spec", "backofLimit", 3),
        ("spec", "backoffLimit", "5"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams", "num-cpus", 0),
        ("spec.rayClusterSpec.authOptions", "mode", "on"),
        ("spec.rayClusterSpec.workerGroupSpecs.0", "minReplica", 1),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.tolerations.0", "operator", "Exist"),
    ],
)
def test_a_slip_is_found(place: str, key: str, value: object, job: dict[str, Any]) -> None:
    part: Any = job
    for name in place.split("."):
        part = part[int(name) if name.isdigit() else name]
    part[key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, RAY_JOB)


def test_its_command_is_one_of_ours(job: dict[str, Any]) -> None:
    """It goes on where an earlier attempt stopped, and its spec is in the image."""
    program, command, spec, *options = shlex.split(job["spec"]["entrypoint"])
    assert (program, command) == ("study", "run")
    assert (REPOSITORY / spec).is_file()
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given["--results"].startswith("s3://") and given["--data"].startswith("s3://")
    assert given["--address"] == "auto"
    assert job["spec"]["backoffLimit"] > 0 and job["spec"]["shutdownAfterJobFinishes"]


def test_its_version_is_the_locked_one(job: dict[str, Any]) -> None:
    version = job["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"\nray=={version}\n" in (REPOSITORY / "constraints.txt").read_text()


def test_secrets_are_references_and_ray_wants_a_token(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    head, worker = (g["template"]["spec"] for g in
                    (cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]))  # fmt: skip
    for pod in (head, worker):
        for variable in pod["containers"][0]["env"]:
            private = variable["name"].endswith(("_KEY", "_KEY_ID", "PASSWORD", "USERNAME"))
            assert private == ("valueFrom" in variable), variable
        assert pod["securityContext"]["runAsNonRoot"]
    names = {v["name"] for v in worker["containers"][0]["env"]}
    assert not any(name.startswith("MLFLOW") for name in names), "workers need no such password"
    created = MANIFEST.read_text().split("apiVersion:")[0]
    for name in ("study-s3", "study-mlflow", cluster["authOptions"]["secretName"]):
        assert f"secret generic {name} " in created


def test_workers_are_gpu_spot_nodes_and_the_head_is_not(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    (group,) = cluster["workerGroupSpecs"]
    worker = group["template"]["spec"]
    assert "nvidia.com/gpu" not in str(head) and not head["tolerations"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for kind in ("requests", "limits"):
        assert worker["containers"][0]["resources"][kind]["nvidia.com/gpu"] == "1"
    assert {t["key"] for t in worker["tolerations"]} >= {"nvidia.com/gpu", *worker["nodeSelector"]}
    assert worker["terminationGracePeriodSeconds"] >= 30
    assert group["minReplicas"] == 0 < group["maxReplicas"]
