"""The table of a chaos run."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.check import Findings
from tests.chaos.faults import Fault
from tests.chaos.hooks import Arrival

COLUMNS = (
    "fault",
    "cases",
    "times",
    "requests",
    "lost",
    "double-charged",
    "duplicates",
    "after a late answer",
    "time to quiet (s)",
)


_GOOD_HOST = "//127.0.0.1:"  # a name may be in trouble
_SUMMED = ("times", "requests", "lost", "double_charged", "duplicates", "late_duplicates")


@dataclass(frozen=True)
class Injection:
    """A fault as it was injected; Unix seconds. The next one's begin is this one's end of blame."""

    fault: Fault
    begun: float
    healed: float


@dataclass
class Row:
    """What happened from the begin of a fault to the begin of the next."""

    cases: str = ""
    times: int = 0
    requests: int = 0
    lost: int = 0
    double_charged: int = 0
    duplicates: int = 0
    late_duplicates: int = 0
    quiet: float = 0.0

    def cells(self) -> tuple[str, ...]:
        numbers = [getattr(self, name) for name in _SUMMED]
        return (self.cases, *map(str, numbers), f"{self.quiet:.1f}")


def table(
    injections: Sequence[Injection], findings: Findings, arrivals: Sequence[Arrival], good_receiver: str
) -> dict[str, Row]:
    """Blame each fault for what happened to the requests accepted since its begin, the next one's excluded.

    Time to quiet: from the end of the fault to when the last request accepted until then had ended and, at
    a receiver that answers well (``good_receiver`` is in its URL), had arrived; the longest of all times the
    fault was injected.
    """
    rows: dict[str, Row] = {}
    begins = [each.begun for each in injections]
    arrived = _first_arrivals(arrivals)
    for each in injections:
        row = rows.setdefault(each.fault.name, Row(each.fault.cases))
        row.times += 1
    for request_id, call in findings.accepted.items():
        index = bisect_right(begins, call.at) - 1
        if index < 0:
            continue
        injection = injections[index]
        row = rows[injection.fault.name]
        row.requests += 1
        row.lost += request_id in findings.lost
        row.double_charged += request_id in findings.double_charged
        record = findings.records.get(request_id)
        if record is not None and call.at < injection.healed:
            done = record.finished_at / 1000
            if _GOOD_HOST in (record.webhook_url or "") and good_receiver in (record.webhook_url or ""):
                done = max(done, arrived.get(request_id, 0.0))
            row.quiet = max(row.quiet, done - injection.healed)
    for kind in ("duplicates", "late_duplicates"):
        for arrival in getattr(findings, kind):
            index = bisect_right(begins, arrival.at) - 1
            if index >= 0:
                row = rows[injections[index].fault.name]
                setattr(row, kind, getattr(row, kind) + 1)
    return rows


def _first_arrivals(arrivals: Sequence[Arrival]) -> dict[str, float]:
    """Return when webhooks came first."""
    first: dict[str, float] = {}
    for arrival in arrivals:
        if arrival.request_id not in first:
            first[arrival.request_id] = arrival.at
    return first


def markdown(rows: dict[str, Row]) -> str:
    """Return the table as Markdown, with a line of totals."""
    total = Row(
        "",
        *(sum(getattr(row, name) for row in rows.values()) for name in _SUMMED),
        max((row.quiet for row in rows.values()), default=0.0),
    )
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line((name, *row.cells())) for name, row in sorted(rows.items())]
    lines.append(_line(("**all**", *total.cells())))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
