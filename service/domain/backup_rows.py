"""Reads the records of a backup out of JSON objects, and says what is wrong with those that are none."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from service.domain import deliveries, ids, requests, targets, watches
from service.domain.backups import (
    AccountCopy,
    BatchCopy,
    CountersCopy,
    Fields,
    IdempotencyCopy,
    Kept,
    LedgerCopy,
    OptOutsCopy,
    PoolCopy,
    Record,
    RequestCopy,
    SessionCopy,
    WatchCopy,
)
from service.domain.credits import ENTRY_TYPES, TIDYING, LedgerEntry
from service.domain.errors import BrokenRow, ValidationFailed
from service.domain.instagram import SessionState, check_name
from service.domain.options import Options
from service.domain.rows import Tell, entry_id, is_whole, reading

T = TypeVar("T")

_IDEMPOTENCY_HASH = re.compile(r"[0-9a-f]{32}")
_ENTRY_COLUMNS = 8


class Row:
    """A JSON object asked for its parts; raises ValueError when one is missing or of another kind."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    def text(self, name: str) -> str:
        value = self._row.get(name)
        if not isinstance(value, str):
            raise ValueError(f"'{name}' is missing or no text")
        return value

    def whole(self, name: str, *, least: int = 0, most: int = 2**63) -> int:
        value = self._row.get(name)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"'{name}' is missing or no number it can be")
        return value

    def identifier(self, name: str, kind: str) -> str:
        value = self.text(name)
        if ids.shard_of(value, kind) is None:
            raise ValueError(f"'{name}' is no id")
        return value

    def fields(self, name: str, texts: str = "", numbers: str = "") -> Fields:
        """Return a hash. ``texts`` and ``numbers`` name what must be in it; with a "?" it may be missing."""
        value = self._row.get(name)
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise ValueError(f"'{name}' is missing or holds something else than texts")
        _check_fields(value, name, texts, numbers)
        return value

    def times(self, name: str) -> dict[str, int]:
        """Return times by names."""
        value = self._row.get(name)
        if not isinstance(value, dict) or not all(type(at) is int and at >= 0 for at in value.values()):
            raise ValueError(f"'{name}' is missing or holds something else than times")
        return value

    def items(self, name: str) -> list[Any]:
        value = self._row.get(name)
        if not isinstance(value, list):
            raise ValueError(f"'{name}' is missing or no list")
        return value

    def inner(self, name: str) -> Row | None:
        """Return the object of this name, None for null."""
        value = self._row.get(name)
        if value is None and name in self._row:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"'{name}' is missing or no object")
        return Row(value)

    def each_of(self, name: str, texts: str, numbers: str) -> dict[str, Fields]:
        """Return hashes by their names."""
        value = self._row.get(name)
        if not isinstance(value, dict):
            raise ValueError(f"'{name}' is missing or no object")
        return {each: Row(value).fields(each, texts, numbers) for each in value}

    def lifetime(self) -> int | None:
        if "lifetime" in self._row and self._row["lifetime"] is None:
            return None
        return self.whole("lifetime", least=1)


def _check_options(fields: Fields) -> None:
    try:
        Options.of(fields.get("options"))
    except (TypeError, ValueError) as error:
        raise ValueError("'options' are none this version knows") from error


def _check_fields(fields: Fields, name: str, texts: str, numbers: str) -> None:
    missing = [each for each in texts.split() if each not in fields]
    for each in numbers.split():
        field, optional = each.removesuffix("?"), each.endswith("?")
        if not is_whole(fields.get(field, "0" if optional else "")):
            missing.append(field)
    if missing:
        raise ValueError(f"'{name}' lacks {', '.join(missing)}, or it is no number")


def _account(row: Row) -> AccountCopy:
    return AccountCopy(
        row.identifier("id", ids.ACCOUNT),
        row.fields("fields", "email password webhook_secret", "created_at disabled token_version"),
        _entry_ids(row.fields("credits", "", "balance? held?"), *TIDYING),
        row.each_of("keys", "account name prefix digest", "created_at"),
    )


def _entry_ids(fields: Fields, *names: str) -> Fields:
    """Return a hash in which these fields, where there are any, are ids of ledger entries."""
    for name in names:
        entry_id(fields, name)
    return fields


def _watch(row: Row) -> WatchCopy:
    numbers = (
        "only_new heartbeat max_age created_at next_run_at? last_run_at? resumed_at? runs? items_delivered?"
    )
    copy = WatchCopy(
        row.identifier("account", ids.ACCOUNT),
        row.identifier("id", ids.WATCH),
        row.fields("fields", "account username every webhook_url status", numbers),
        row.times("seen"),
        row.times("owed"),
    )
    _check_options(copy.fields)
    if copy.fields["status"] not in watches.STATES:
        raise ValueError(f"no watch is {copy.fields['status']!r}")
    if any(ids.shard_of(request_id, ids.REQUEST) is None for request_id in copy.owed):
        raise ValueError("a watch is owed something else than requests")
    return copy


def _ledger(row: Row) -> LedgerCopy:
    return LedgerCopy(row.identifier("account", ids.ACCOUNT), [_entry(each) for each in row.items("entries")])


def _entry(row: Any) -> LedgerEntry:
    if not isinstance(row, list) or len(row) != _ENTRY_COLUMNS:
        raise ValueError("a ledger entry is not as it should be")
    entry_id, kind, amount, balance, held, request_id, note, at = row
    fits = isinstance(entry_id, str) and kind in ENTRY_TYPES
    fits = fits and all(type(number) is int for number in (amount, balance, held, at))
    fits = fits and all(text is None or isinstance(text, str) for text in (request_id, note))
    if not fits:
        raise ValueError(f"ledger entry {entry_id!r} is not as it should be")
    return LedgerEntry(entry_id, kind, amount, balance, held, request_id, note, at)


def _request(row: Row) -> RequestCopy:
    copy = RequestCopy(
        account_id=row.identifier("account", ids.ACCOUNT),
        request_id=row.identifier("id", ids.REQUEST),
        request=_kept(row, "request", _request_hash),
        result=_kept(row, "result", _result),
        delivery=_kept(row, "delivery", _delivery_hash),
        log=_kept(row, "log", _log),
    )
    if copy.request is None and copy.delivery is None:
        raise ValueError("there is nothing in it")
    return copy


def _kept(row: Row, name: str, read: Callable[[Row], T]) -> Kept[T] | None:
    inner = row.inner(name)
    return None if inner is None else Kept(read(inner), inner.lifetime())


def _request_hash(row: Row) -> Fields:
    needed = "hold created_at fence? attempts? charged? item_count? retry_after? finished_at? max_age?"
    needed += " cached? silent?"
    fields = row.fields("value", "account operation queue status", needed)
    if not any(kind in fields for kind in targets.KINDS):
        raise ValueError("a request is about nothing")
    _check_options(fields)
    if fields["status"] not in requests.STATES:
        raise ValueError(f"no request is {fields['status']!r}")
    return _entry_ids(fields, "released")


def _delivery_hash(row: Row) -> Fields:
    needed = "attempts tries created_at started_at next_at fence?"
    fields = row.fields("value", "account request url host status", needed)
    if fields["status"] not in deliveries.STATES:
        raise ValueError(f"no delivery is {fields['status']!r}")
    return fields


def _result(row: Row) -> bytes:
    return base64.b64decode(row.text("value"), validate=True)


def _log(row: Row) -> list[str]:
    rows = row.items("value")
    if not all(isinstance(each, str) for each in rows):
        raise ValueError("the log of a delivery is not as it should be")
    return rows


def _batch(row: Row) -> BatchCopy:
    needed = "total left hold max_age created_at processing? charged? items? cached? started_at? finished_at?"
    kept = Kept(row.fields("value", "account operation mode", needed), row.lifetime())
    return BatchCopy(row.identifier("account", ids.ACCOUNT), row.identifier("id", ids.BATCH), kept)


def _idempotency(row: Row) -> IdempotencyCopy:
    digest = row.text("hash")
    kept = Kept(row.fields("value", "fingerprint request"), row.lifetime())
    kinds = (ids.REQUEST, ids.BATCH, ids.WATCH)
    known = any(ids.shard_of(kept.value["request"], kind) is not None for kind in kinds)
    if not _IDEMPOTENCY_HASH.fullmatch(digest) or not known:
        raise ValueError("an idempotency key is not as it should be")
    return IdempotencyCopy(row.identifier("account", ids.ACCOUNT), digest, kept)


def _counters(row: Row) -> CountersCopy:
    fields = row.fields("fields")
    for value in fields.values():
        float(value)
    return CountersCopy(row.whole("shard", most=255), fields)


def _session(row: Row) -> SessionCopy:
    numbers = "rested_until version failures uses? last_used? added_at?"
    fields = row.fields("fields", "state reason settings proxy failure", numbers)
    if fields["state"] not in set(SessionState):
        raise ValueError(f"no session is {fields['state']!r}")
    try:
        return SessionCopy(check_name(row.text("name")), fields)
    except ValidationFailed as error:
        raise ValueError("a session has no name it can have") from error


def _pool(row: Row) -> PoolCopy:
    return PoolCopy(row.whole("counter"))


def _opt_outs(row: Row) -> OptOutsCopy:
    copy = OptOutsCopy(row.fields("names"), row.fields("ids"))
    for entry in (*copy.names.values(), *copy.user_ids.values()):
        fields = json.loads(entry)
        fits = isinstance(fields, dict) and type(fields.get("at")) is int
        if not fits or not all(isinstance(fields.get(name), str) for name in ("note", "linked")):
            raise ValueError("who is not served is not as it should be")
    return copy


def read(row: dict[str, Any]) -> Record:
    """Return the record that stands in a JSON object. Raises ValueError for what is none."""
    parse = _PARSERS.get(str(row.get("type")))
    if parse is None:
        raise ValueError(f"records of type {row.get('type')!r} are unknown")
    return parse(Row(row))


def is_readable(record: Record, tell: Tell, part: str = "") -> bool:
    """Tell whether a restore would take a record and its readers could read it; ``tell`` hears why not.

    ``part`` names what of it this is.
    """
    row = record.row()
    name = next((str(row[each]) for each in ("id", "hash", "name", "shard") if each in row), "")
    kind = "delivery of" if isinstance(record, RequestCopy) and record.request is None else row["type"]
    try:
        with reading(kind, " ".join(each for each in (name, part) if each)):
            read(row)
            if isinstance(record, RequestCopy):
                _ = record.record
    except BrokenRow as broken:
        tell(broken)
        return False
    return True


_PARSERS: dict[str, Callable[[Row], Record]] = {
    "account": _account,
    "watch": _watch,
    "ledger": _ledger,
    "request": _request,
    "batch": _batch,
    "idempotency": _idempotency,
    "counters": _counters,
    "session": _session,
    "pool": _pool,
    "optouts": _opt_outs,
}
