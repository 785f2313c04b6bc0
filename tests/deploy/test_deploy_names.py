"""Where we deploy, a name whose servers give no answer is soon given up."""

from __future__ import annotations

from pathlib import Path

import yaml

OPTIONS = {"timeout:2", "attempts:2"}


def test_a_deliverer_of_compose_gives_a_name_up_soon(deploy: Path) -> None:
    compose = yaml.safe_load((deploy / "compose.yaml").read_text())
    assert set(compose["services"]["deliverer"]["dns_opt"]) == OPTIONS


def test_so_does_one_of_kubernetes(deploy: Path) -> None:
    deployment = yaml.safe_load((deploy / "kubernetes" / "deliverer.yaml").read_text())
    options = deployment["spec"]["template"]["spec"]["dnsConfig"]["options"]
    assert {f"{each['name']}:{each['value']}" for each in options} == OPTIONS


def test_so_does_one_of_systemd(deploy: Path) -> None:
    unit = (deploy / "systemd" / "storyhook@.service").read_text()
    assert f'Environment="RES_OPTIONS={" ".join(sorted(OPTIONS, reverse=True))}"' in unit.splitlines()
