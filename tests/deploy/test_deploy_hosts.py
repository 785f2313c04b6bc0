"""systemd units and the nginx site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.cli.main import COMMANDS
from service.domain.policy import POLL_WAIT_MAX, Policy

ROLES = {"web", "worker", "deliverer", "beat"}


@pytest.fixture(scope="module")
def unit(deploy: Path) -> dict[str, list[str]]:
    return _unit(deploy / "systemd/storyhook@.service")


def _unit(path: Path) -> dict[str, list[str]]:
    """Read a unit: names to their values, in order; sections do not matter here."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_target_wants_every_role(deploy: Path) -> None:
    [wants] = _unit(deploy / "systemd/storyhook.target")["Wants"]
    assert set(wants.split()) == {f"storyhook@{role}.service" for role in ROLES}
    assert set(COMMANDS) >= ROLES


def test_a_unit_runs_the_role_it_is_named_by(unit: dict[str, list[str]]) -> None:
    assert unit["ExecStart"] == ["/opt/storyhook/bin/storyhook %i"]
    assert unit["PartOf"] == unit["WantedBy"] == ["storyhook.target"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("DynamicUser", "yes"),
        ("CapabilityBoundingSet", ""),
        ("KillMode", "mixed"),
        ("Restart", "on-failure"),
        ("EnvironmentFile", "/etc/storyhook/storyhook.env"),
    ],
)
def test_a_unit_is_locked_down(unit: dict[str, list[str]], name: str, value: str) -> None:
    assert unit[name] == [value]


def test_a_unit_has_time_to_finish(unit: dict[str, list[str]]) -> None:
    assert int(unit["TimeoutStopSec"][0]) > max(Policy().lease, Policy().sync_deadline_max)


@pytest.fixture(scope="module")
def nginx(deploy: Path) -> str:
    return re.sub(r"(?m)^\s*#.*\n", "", (deploy / "nginx/storyhook.conf").read_text())


def _directive(nginx: str, name: str) -> str:
    [value] = re.findall(rf"(?m)^\s*{name}\s+(.*);", nginx)
    return value.strip()


def test_nginx_outwaits_the_longest_call(nginx: str) -> None:
    longest = max(Policy().sync_deadline_max, POLL_WAIT_MAX)
    assert int(_directive(nginx, "proxy_read_timeout").removesuffix("s")) > longest


def test_nginx_lets_the_service_refuse_large_bodies(nginx: str) -> None:
    assert int(_directive(nginx, "client_max_body_size").removesuffix("k")) * 1024 > 65_536


def test_nginx_replaces_what_callers_claim(nginx: str) -> None:
    headers = dict(re.findall(r"proxy_set_header (X-Forwarded-\w+)\s+(\S+);", nginx))
    assert headers == {
        "X-Forwarded-For": "$remote_addr",
        "X-Forwarded-Proto": "$scheme",
        "X-Forwarded-Host": "$host",
    }


def test_nginx_keeps_metrics_inside(nginx: str) -> None:
    assert re.search(r"location = /metrics \{\s*return 404;\s*\}", nginx)


def test_nginx_logs_no_query_and_nothing_else_that_may_hold_a_key(nginx: str) -> None:
    [written] = re.findall(r"log_format storyhook ([^;]+);", nginx)
    assert "$upstream_http_x_request_id" in written
    for variable in (
        "$request ",
        '$request"',
        "$request_uri",
        "$args",
        "$query",
        "$http_",
        "$arg_",
        "$is_args",
    ):
        assert variable not in written
    assert re.findall(r"(?m)^\s*access_log\s+(.*);", nginx) == ["/var/log/nginx/storyhook.log storyhook"]
    assert _directive(nginx, "error_log").endswith(" crit")


@pytest.mark.parametrize("proxy", ["Caddy", "Traefik", "HAProxy", "ALB"])
def test_the_readme_tells_how_other_proxies_say_who_calls(deploy: Path, proxy: str) -> None:
    told = (deploy / "README.md").read_text()
    assert proxy in told
    assert "TRUSTED_PROXIES=1" in told
