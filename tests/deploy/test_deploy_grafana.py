"""The dashboard asks only for metrics that the service exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.api.metrics import StoreCollector
from service.domain.ports import Services

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


@pytest.fixture(scope="module")
def dashboard(deploy: Path) -> dict[str, Any]:
    return json.loads((deploy / "grafana/storyhook.json").read_text())


def _asked(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def test_every_metric_is_exported(dashboard: dict[str, Any], services: Services) -> None:
    exported = {
        family.name + suffix
        for family in StoreCollector(services).collect()
        for suffix in SUFFIXES[family.type]
    }
    asked = {name for expression in _asked(dashboard) for name in re.findall(r"\bstoryhook_\w+", expression)}
    assert asked
    assert asked - exported == set()


def test_instances_are_never_added_up(dashboard: dict[str, Any]) -> None:
    # Every web process tells the same numbers, read from the store.
    aggregated = re.compile(r"max(?: by \(\w+\) )?\((?:rate\()?storyhook_|label_values\(storyhook_")
    for expression in _asked(dashboard):
        assert "storyhook_" not in aggregated.sub("", expression)


def test_panels_lie_side_by_side(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
