"""What the customers of a chaos run do: a list drawn from the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.domain.batches import EACH, WEBHOOK_MODES

ACCOUNTS = 6
POOR = ACCOUNTS - 1  # has credits for a part of what it asks for only
POOR_CREDITS = 40
CREDITS = 1_000_000

WEBHOOK = "webhook"
POLL = "poll"
SYNC = "sync"
CANCEL = "cancel"
REPLAY = "replay"  # a webhook, and an earlier one sent again
BATCH = "batch"
CANCELLED_BATCH = "cancelled batch"
WATCH = "watch"  # from then on, every few seconds
_KINDS = {WEBHOOK: 64, POLL: 9, SYNC: 12, CANCEL: 5, REPLAY: 8, BATCH: 1.6, CANCELLED_BATCH: 0.4, WATCH: 0.6}

# What is under a name of `.hooks.test` is resolved by inside/sitecustomize.py.
_RECEIVERS = {
    "http://127.0.0.1/fine": 55,
    "http://127.0.0.1/flaky": 20,
    "http://127.0.0.1/late": 7,
    "http://127.0.0.1/hostile": 6,
    "http://servfail.hooks.test/fine": 4,
    "http://hangs.hooks.test/fine": 4,
    "http://rebinds.hooks.test/fine": 4,
}
# Prefixes choose what the simulated Instagram does; see workers/simulator/scenes.py.
_NAMES = {
    "user{}": 70,
    "empty_user{}": 6,
    "private_user{}": 6,
    "missing_user{}": 5,
    "stickers_user{}": 3,
    "flaky_user{}": 4,
    "slow_1_user{}": 3,
    "error_user{}": 3,
}
_PEOPLE = 400
_BATCH_SIZES = (2, 40)
WATCHED_EVERY = "5s"
# A receiver that says 410 would pause the watch.
_WATCHERS = {"http://127.0.0.1/fine": 60, "http://127.0.0.1/flaky": 30, "http://127.0.0.1/late": 10}
_WATCHED = {"user{}": 80, "stickers_user{}": 10, "flaky_user{}": 10}
_WITH_KEY = 0.85
_BY_THE_POOR = 0.03


@dataclass(frozen=True)
class Operation:
    """One thing a customer does. ``receiver`` is ``scheme://host/manner``, "" without a webhook."""

    number: int
    account: int
    kind: str
    username: str
    receiver: str
    has_key: bool
    names: tuple[str, ...] = ()  # of a batch
    mode: str = EACH  # of its webhooks

    @property
    def is_batch(self) -> bool:
        return bool(self.names)

    @property
    def key(self) -> str | None:
        return f"op-{self.number}" if self.has_key else None


def operations(seed: int, count: int) -> Iterator[Operation]:
    """Yield ``count`` operations; the same for the same seed."""
    rng = random.Random(f"operations:{seed}")
    for number in range(count):
        kind = _draw(rng, _KINDS)
        is_batch = kind in (BATCH, CANCELLED_BATCH)
        takes_webhook = kind in (WEBHOOK, REPLAY) or ((is_batch or kind == CANCEL) and rng.random() < 0.5)
        if kind == WATCH:
            yield _watch(rng, number)
            continue
        yield Operation(
            number,
            POOR if rng.random() < _BY_THE_POOR else rng.randrange(POOR),
            kind,
            _name(rng),
            _draw(rng, _RECEIVERS) if takes_webhook else "",
            rng.random() < _WITH_KEY,
            tuple(_name(rng) for _ in range(rng.randint(*_BATCH_SIZES))) if is_batch else (),
            rng.choice(WEBHOOK_MODES),
        )


def _watch(rng: random.Random, number: int) -> Operation:
    # Names nobody else asks for, so that what a watch brings was fetched for it.
    name = _draw(rng, _WATCHED).format(_PEOPLE + number)
    return Operation(number, rng.randrange(POOR), WATCH, name, _draw(rng, _WATCHERS), has_key=True)


def _name(rng: random.Random) -> str:
    return _draw(rng, _NAMES).format(rng.randrange(_PEOPLE))


def _draw(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
