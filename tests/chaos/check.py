"""After the run: does what the customers saw, what the receivers got and what the store holds agree?"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.domain import ids
from service.domain.audit import Fold
from service.domain.batches import EACH, BatchRecord, summary
from service.domain.credits import CACHED, CHARGE, FOUND, HOLD, NOTHING_NEW
from service.domain.errors import BrokenRow
from service.domain.ports import Services
from service.domain.requests import RequestRecord
from service.domain.watches import Watch
from tests.chaos.hooks import ANSWERED, LATE_MANNERS, Arrival
from tests.chaos.load import OK, UNKNOWN, Call


def _refuse(broken: BrokenRow) -> None:
    raise broken


@dataclass
class Findings:
    """What is wrong, and what is merely worth telling. Ids of requests and deliveries."""

    lost: dict[str, str] = field(default_factory=dict)  # request id -> what is missing
    double_charged: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)  # anything else that must not be
    duplicates: list[Arrival] = field(default_factory=list)  # after an answer in time: our doing
    late_duplicates: list[Arrival] = field(default_factory=list)  # after an answer too late, or none
    records: dict[str, RequestRecord] = field(default_factory=dict)
    batches: dict[str, BatchRecord] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)
    accepted: dict[str, Call] = field(default_factory=dict)  # request id -> the call that learned of it first
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def holds_good(self) -> bool:
        return not (self.lost or self.double_charged or self.wrong)


class Examiner:
    """Compares histories. ``opening`` is what each account began with, in the order of their numbers.

    ``live`` are the items that the accounts of watches show in the end, by the watch.
    """

    def __init__(
        self,
        services: Services,
        opening: Mapping[str, int],
        calls: Sequence[Call],
        arrivals: Sequence[Arrival],
        live: Mapping[str, set[str]],
    ) -> None:
        self.services = services
        self.opening = opening
        self.calls = calls
        self.arrivals = arrivals
        self.live = live
        self.found = Findings()

    def examine(self) -> Findings:
        self._accepted()
        for number, account_id in enumerate(self.opening):
            self._account(number, account_id)
        self._nothing_accepted_is_missing()
        self._answers_agree_with_the_end()
        self._webhooks()
        self._replays()
        self._at_rest()
        return self.found

    # --- requests ----------------------------------------------------------------------------------

    def _accepted(self) -> None:
        """Collect what was answered with an id; one key must never have two."""
        of_key: dict[tuple[int, str], str] = {}
        for call in self.calls:
            if call.what != "submit":
                continue
            self.found.outcomes[call.outcome] += 1
            if not call.request_id:
                continue
            self.found.accepted.setdefault(call.request_id, call)
            first = of_key.setdefault((call.account, call.key), call.request_id) if call.key else ""
            if call.key and first != call.request_id:
                self.found.wrong.append(f"key {call.key} stands for {first} and {call.request_id}")

    def _account(self, number: int, account_id: str) -> None:
        fold, charges, holds = Fold(), defaultdict[str, list[int]](list), Counter[str]()
        balance, last = self.services.books.closing(account_id, _refuse)
        for page in self.services.books.ledger(account_id, None, last or "+", _refuse):
            fold.read(page)
            for entry in page:
                if entry.type == CHARGE:
                    charges[entry.request_id or ""].append(-entry.amount)
                if entry.type == HOLD:
                    holds[entry.request_id or ""] += 1
        assert balance is not None
        fold.compare(account_id, balance)
        self.found.wrong += [f"{each.kind} {each.where}: {each.text}" for each in fold.differences]
        if balance.held:
            self.found.wrong.append(f"{account_id}: {balance.held} still held")
        batches = {
            each.batch_id: each for page in self.services.books.batches(account_id, _refuse) for each in page
        }
        records = {
            each.request_id: each
            for page in self.services.books.requests(account_id, _refuse)
            for each in page
        }
        self._unlisted(number, batches, records)
        self.found.batches |= batches
        for record in records.values():
            self.found.records[record.request_id] = record
            held = holds[record.batch_id or record.request_id]
            self._record(record, charges.pop(record.request_id, []), held)
        for request_id, amounts in charges.items():
            self.found.wrong.append(f"{request_id}: charged {amounts} and is not listed")
        spent = sum(record.charged for record in records.values())
        if balance.balance != self.opening[account_id] - spent:
            self.found.wrong.append(f"{account_id}: balance {balance.balance}, {spent} spent")
        watches = {each.watch_id: each for each in self._watches(account_id)}
        self.found.watches |= watches
        singles = [
            each.request_id for each in records.values() if each.batch_id is None and each.watch_id is None
        ]
        self._nothing_from_nowhere(number, [*singles, *batches, *watches])
        self._items(batches, list(records.values()))
        for name in watches:
            self._runs(name, [record for record in records.values() if record.watch_id == name])

    def _unlisted(
        self, number: int, batches: dict[str, BatchRecord], records: dict[str, RequestRecord]
    ) -> None:
        """Add what was cancelled: it is in no list, and for some minutes told by its id."""
        cancelled = {call.operation for call in self.calls if call.what == "cancel"}
        for name, call in list(self.found.accepted.items()):
            if call.account != number or call.operation not in cancelled:
                continue
            batch, record = None, None
            if ids.shard_of(name, ids.BATCH) is not None:
                batch = batches[name] = batches.get(name) or self.services.batches.get(name)  # type: ignore[assignment]
            else:
                record = records[name] = records.get(name) or self.services.requests.get(name)  # type: ignore[assignment]
            if batch is not None:
                items = [each for page in self.services.books.items(batch, _refuse) for each in page]
                records.update({each.request_id: each for each in items})
            elif record is None:  # forgotten since
                batches.pop(name, None)
                records.pop(name, None)
                del self.found.accepted[name]

    def _watches(self, account_id: str) -> list[Watch]:
        return self.services.watches.page(account_id, cursor=None, limit=1_000).items

    def _runs(self, name: str, runs: Sequence[RequestRecord]) -> None:
        """A watch has sent each item once, and all that its account shows."""
        sent = Counter[str]()
        for run in runs:
            if run.outcome == FOUND:
                envelope = json.loads(self.services.requests.envelope(run.request_id) or b"{}")
                sent.update(item["pk"] for item in envelope["data"]["items"])
        if max(sent.values(), default=0) > 1:
            again = [item for item, times in sent.items() if times > 1]
            self.found.double_charged[name] = f"sent {again} more than once"
        missing = self.live.get(name, set()) - set(sent)
        if missing:
            self.found.lost[name] = f"did not send {missing}"

    def _items(self, batches: Mapping[str, BatchRecord], records: Sequence[RequestRecord]) -> None:
        """A batch is over, and has as many items as it was told to have."""
        items = Counter(record.batch_id for record in records if record.batch_id is not None)
        for name, batch in batches.items():
            if not batch.is_final:
                self.found.lost[name] = f"is {batch.status}"
            if items.pop(name, 0) != batch.total and not batch.cancelled_at:
                self.found.wrong.append(f"{name}: not all of its {batch.total} items are there")
        if items:
            self.found.wrong.append(f"items of no batch: {items}")

    def _record(self, record: RequestRecord, charges: list[int], holds: int) -> None:
        name = record.request_id
        if not record.is_final:
            self.found.lost[name] = f"is {record.status}"
            return
        shared = record.cached and record.outcome != NOTHING_NEW  # which has a price of its own either way
        outcome = CACHED if shared else record.outcome or record.code or ""
        price = self.services.policy.prices.charge_for(record.operation, outcome, record.hold)
        if len(charges) > 1 or sum(charges) > price:
            self.found.double_charged[name] = f"charged {charges} for {record.outcome or record.code}"
        elif sum(charges) != price or record.charged != price:
            self.found.wrong.append(f"{name}: charged {charges}, price {price}, says {record.charged}")
        if holds != 1:
            self.found.wrong.append(f"{name}: held {holds} times")

    def _nothing_from_nowhere(self, number: int, names: Sequence[str]) -> None:
        """What nobody was told of has to come from calls whose answer got lost."""
        untold = [name for name in names if name not in self.found.accepted]
        answered = {call.operation for call in self.calls if call.what == "submit" and call.request_id}
        lost_answers = {
            (call.operation, call.at if not call.key else 0)
            for call in self.calls
            if call.account == number and call.what == "submit" and call.outcome == UNKNOWN
            if not call.key or call.operation not in answered
        }
        if len(untold) > len(lost_answers):
            told = f"{len(untold)} requests nobody was told of, {len(lost_answers)} lost answers"
            self.found.wrong.append(f"account {number}: {told}")

    def _nothing_accepted_is_missing(self) -> None:
        for request_id in self.found.accepted:
            known = (self.found.records, self.found.batches, self.found.watches)
            if not any(request_id in each for each in known):
                self.found.lost[request_id] = "is not in the store"

    def _answers_agree_with_the_end(self) -> None:
        for call in self.calls:
            if not call.final or not call.request_id:
                continue
            record = self.found.records.get(call.request_id)
            if record and call.final != f"{record.status}:{record.outcome or record.code}":
                end = f"{record.status}:{record.outcome or record.code}"
                self.found.wrong.append(f"{call.request_id}: was answered {call.final}, is {end}")

    # --- webhooks ----------------------------------------------------------------------------------

    def _webhooks(self) -> None:
        came = defaultdict[str, list[Arrival]](list)
        for arrival in self.arrivals:
            came[arrival.request_id].append(arrival)
            if not arrival.valid:
                self.found.wrong.append(f"{arrival.delivery_id}: a signature that does not hold")
        replays = Counter(
            call.what.removeprefix("replay ")
            for call in self.calls
            if call.what.startswith("replay ") and call.outcome != "failed"
        )
        for request_id, record in self.found.records.items():
            if record.webhook_url and not record.silent:
                body = self.services.requests.envelope(request_id) or b""
                self._webhook(request_id, body, came[request_id], replays[request_id])
        for name, batch in self.found.batches.items():
            if batch.webhook_url and batch.webhook_mode != EACH:
                self._webhook(name, summary(batch), came[name], replays[name])

    def _webhook(self, name: str, body: bytes, came: list[Arrival], replays: int) -> None:
        """Check what came for a request or batch."""
        if not came:
            self.found.lost.setdefault(name, "its webhook never came")
            return
        if {arrival.delivery_id for arrival in came} != {ids.delivery_of(name)}:
            self.found.wrong.append(f"{name}: came under another id")
        if {arrival.digest for arrival in came} != {hashlib.sha256(body).hexdigest()[:16]}:
            self.found.wrong.append(f"{name}: came with another body")
        delivery = self.services.deliveries.get(ids.delivery_of(name))
        if delivery is None or delivery.status != "delivered":
            self.found.lost.setdefault(name, f"its webhook is {delivery and delivery.status}")
        self._count_duplicates(came, replays)

    def _count_duplicates(self, came: list[Arrival], replays: int) -> None:
        """Sort out what came again although it was taken, and nobody had asked for it."""
        answered = late = 0
        for arrival in came:
            if answered > replays:
                self.found.duplicates.append(arrival)
            elif late and not answered:
                self.found.late_duplicates.append(arrival)
            answered += arrival.manner in ANSWERED
            late += arrival.manner in LATE_MANNERS

    def _replays(self) -> None:
        latest = dict[str, float]()
        for arrival in self.arrivals:
            latest[arrival.request_id] = max(latest.get(arrival.request_id, 0.0), arrival.at)
        for call in self.calls:
            name = call.what.removeprefix("replay ")
            if name != call.what and call.outcome == OK and latest.get(name, 0.0) < call.at:
                self.found.lost.setdefault(name, "was replayed, and did not come again")

    # --- what must be at rest ----------------------------------------------------------------------

    def _at_rest(self) -> None:
        leased = [record.name for record in self.services.sessions.list() if record.leased]
        if leased:
            self.found.wrong.append(f"sessions still leased: {leased}")
        open_requests = self.services.stats.counters()["open"]
        if open_requests:
            self.found.wrong.append(f"{open_requests:.0f} requests still stand open")
