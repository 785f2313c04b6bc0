"""What a worker does each second beside its work."""

from __future__ import annotations

import pytest

from service.domain.errors import StoreUnavailable
from service.domain.ports import Services
from workers import sweep
from workers.pulse import tick


@pytest.mark.parametrize("error", [StoreUnavailable(), KeyError("a mistake of ours")])
def test_what_one_part_meets_is_not_the_affair_of_the_others(
    services: Services, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    done: list[str] = []

    def out(_: Services) -> int:
        raise error

    monkeypatch.setattr(sweep, "sweep_requests", out)
    for name in ("run_overdue_watches", "pump_bulk", "pump_deliveries"):
        monkeypatch.setattr(sweep, name, lambda _, name=name: done.append(name))
    tick(services, "worker.1")
    assert done == ["run_overdue_watches", "pump_bulk", "pump_deliveries"]
    assert services.stats.workers() == ["worker.1"]
