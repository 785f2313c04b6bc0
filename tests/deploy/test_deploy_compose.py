"""compose.yaml: locked down, complete, and speaking of commands and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from service.cli.main import COMMANDS
from service.domain.policy import Policy

Service = dict[str, Any]
ROLES = ("web", "worker", "deliverer", "beat")


@pytest.fixture(scope="module")
def compose(deploy: Path) -> dict[str, Any]:
    return yaml.safe_load((deploy / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    return compose["services"]


def test_every_role_is_there(services: dict[str, Service]) -> None:
    assert set(services) == {"store", *ROLES, "instagram"}


def test_each_is_locked_down(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["tmpfs"], name
        assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service), name
        assert service.get("user", "10001") not in {"root", "0"}, name


def test_each_is_watched_restarted_and_limited(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name


def test_each_role_runs_its_command_and_its_own_check(services: dict[str, Service]) -> None:
    for role in ROLES:
        assert services[role]["command"] == ["storyhook", role]
        assert role in COMMANDS
        assert services[role]["healthcheck"]["test"][1:] == ["storyhook", "health", role]


def test_settings_exist_and_none_is_forgotten(
    services: dict[str, Service], settings_of_service: set[str]
) -> None:
    # The container's own address and port, and the secret, which comes as a file.
    elsewhere = {"HOST", "PORT", "SECRET_KEY", "REDIS_URL"}
    for role in ROLES:
        named = set(services[role]["environment"]) - {"SECRET_KEY_FILE", "REDIS_URL_FILE"}
        assert named == settings_of_service - elsewhere, role
        assert services[role]["environment"]["ENVIRONMENT"] == "production"


def test_secrets_are_files(compose: dict[str, Any]) -> None:
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    for role in ROLES:
        assert compose["services"][role]["secrets"] == ["secret_key", "redis_url"]
        assert compose["services"][role]["environment"]["SECRET_KEY_FILE"] == "/run/secrets/secret_key"
        assert compose["services"][role]["environment"]["REDIS_URL_FILE"] == "/run/secrets/redis_url"


def test_the_store_has_a_password_and_its_check_knows_it(services: dict[str, Service]) -> None:
    store = services["store"]
    assert store["secrets"] == ["store.conf"]
    assert store["command"][1] == "/run/secrets/store.conf"
    assert "requirepass" in store["healthcheck"]["test"][1]
    assert "REDISCLI_AUTH=$$(" in store["healthcheck"]["test"][1]


def test_the_readme_makes_every_secret(compose: dict[str, Any], deploy: Path) -> None:
    told = (deploy / "README.md").read_text()
    for secret in compose["secrets"].values():
        assert f"> deploy/{secret['file'].removeprefix('./')}" in told


def test_the_store_refuses_before_its_container_ends_it(services: dict[str, Service]) -> None:
    store = services["store"]
    options = dict(zip(store["command"][2::2], store["command"][3::2], strict=True))
    limit = store["deploy"]["resources"]["limits"]["memory"]
    assert (options["--maxmemory"], limit) == ("768mb", "1g"), "three quarters"


def test_logs_have_an_end(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name


def test_only_the_web_is_published_and_only_to_this_host(services: dict[str, Service]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in published["web"])


def test_the_store_keeps_what_it_is_told(compose: dict[str, Any]) -> None:
    store = compose["services"]["store"]
    options = dict(zip(store["command"][2::2], store["command"][3::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "${STORE_FSYNC:-everysec}"
    assert options["--maxmemory-policy"] == "noeviction"
    [volume] = store["volumes"]
    assert volume.partition(":")[0] in compose["volumes"]


def test_web_and_worker_see_one_archive(compose: dict[str, Any]) -> None:
    [mounted] = compose["services"]["web"]["volumes"]
    assert compose["services"]["worker"]["volumes"] == [mounted]
    volume, _, folder = mounted.partition(":")
    assert volume in compose["volumes"]
    assert f"-{folder}/" in compose["services"]["web"]["environment"]["ARCHIVE_URL"]


def test_the_store_is_reached_from_inside_only(compose: dict[str, Any]) -> None:
    assert compose["services"]["store"]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}


def test_there_is_time_to_finish(services: dict[str, Service]) -> None:
    policy = Policy()
    seconds = {role: int(services[role]["stop_grace_period"].removesuffix("s")) for role in ROLES}
    assert seconds["web"] > policy.sync_deadline_max
    assert seconds["worker"] > policy.lease
    assert seconds["deliverer"] > policy.webhook_timeout


def test_the_simulated_instagram_is_asked_for(
    deploy: Path, services: dict[str, Service], settings_of_service: set[str]
) -> None:
    assert services["instagram"]["profiles"] == ["simulated"]
    # It listens on loopback only, which it shares with the worker.
    assert services["instagram"]["network_mode"] == "service:worker"
    given = dotenv_values(deploy / "simulated.env")
    assert set(given) - {"COMPOSE_PROFILES"} <= settings_of_service
    assert given["COMPOSE_PROFILES"] == "simulated"
    assert re.fullmatch(r"http://127\.0\.0\.1:3223", str(given["SIMULATED_INSTAGRAM_URL"]))
