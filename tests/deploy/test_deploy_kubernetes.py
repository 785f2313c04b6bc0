"""The Kubernetes manifests: complete, locked down, and speaking of settings that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.domain.policy import Policy

Manifest = dict[str, Any]
ROLES = ("web", "worker", "deliverer", "beat")


@pytest.fixture(scope="module")
def manifests(deploy: Path) -> list[Manifest]:
    files = sorted((deploy / "kubernetes").glob("*.yaml"))
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


@pytest.fixture(scope="module")
def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod of each role."""
    return {
        each["metadata"]["name"].removeprefix("storyhook-"): each["spec"]["template"]["spec"]
        for each in manifests
        if each["kind"] == "Deployment"
    }


def _only(manifests: list[Manifest], kind: str) -> Manifest:
    [found] = [each for each in manifests if each["kind"] == kind]
    return found


def test_what_there_is(manifests: list[Manifest], pods: dict[str, Manifest]) -> None:
    assert set(pods) == set(ROLES)
    assert sorted(each["kind"] for each in manifests) == [
        "ConfigMap",
        *["Deployment"] * 4,
        "Secret",
        "Service",
    ]


def test_selectors_find_their_pods(manifests: list[Manifest]) -> None:
    labels = {}
    for each in (each for each in manifests if each["kind"] == "Deployment"):
        labels[each["metadata"]["name"]] = each["spec"]["template"]["metadata"]["labels"]
        assert each["spec"]["selector"]["matchLabels"] == labels[each["metadata"]["name"]]
    assert _only(manifests, "Service")["spec"]["selector"] == labels["storyhook-web"]


@pytest.mark.parametrize("role", ROLES)
def test_each_pod_is_locked_down(pods: dict[str, Manifest], role: str) -> None:
    pod = pods[role]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["args"] == ["storyhook", role]
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}


@pytest.mark.parametrize("role", ROLES)
def test_settings_exist(
    pods: dict[str, Manifest], manifests: list[Manifest], settings_of_service: set[str], role: str
) -> None:
    [container] = pods[role]["containers"]
    secrets = _only(manifests, "Secret")["stringData"]
    for variable in container["env"]:
        name = variable["name"].removesuffix("_FILE")
        assert name in settings_of_service
        assert variable["value"] == f"/run/secrets/storyhook/{name}"
        assert name in secrets
    assert container["envFrom"] == [{"configMapRef": {"name": "storyhook"}}]
    assert set(_only(manifests, "ConfigMap")["data"]) <= settings_of_service
    assert all(isinstance(value, str) for value in _only(manifests, "ConfigMap")["data"].values())


def test_no_secret_is_given_away(manifests: list[Manifest]) -> None:
    assert set(_only(manifests, "Secret")["stringData"].values()) == {""}


def test_probes(pods: dict[str, Manifest]) -> None:
    [web] = pods["web"]["containers"]
    assert web["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert web["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for role in ROLES[1:]:
        [container] = pods[role]["containers"]
        assert container["livenessProbe"]["exec"]["command"] == ["storyhook", "health", role]


def test_there_is_time_to_finish(pods: dict[str, Manifest]) -> None:
    policy = Policy()
    seconds = {role: pod["terminationGracePeriodSeconds"] for role, pod in pods.items()}
    assert seconds["web"] > policy.sync_deadline_max
    assert seconds["worker"] > policy.lease
    assert seconds["deliverer"] > policy.webhook_timeout
