"""A client of a Redis or Valkey Cluster that keeps the promises of `connection`.

redis-py's own connects when it is made, sends a command that timed out again (in a pipeline each of them,
one after the other), and asks node after node where the slots are while all others wait: one node that hangs
would hold a caller for many seconds. Here a node is redis-py's client of one server, with its connections,
its one retry and its parsing; what is added is which node to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar

from redis import Redis
from redis import exceptions as redis_errors
from redis._parsers import Encoder
from redis.commands import CoreCommands
from redis.crc import key_slot
from redis.lock import Lock

from service.stores.slots import OUT_OF_REACH, SlotMap
from service.stores.topology import Address

T = TypeVar("T")
Call = tuple[tuple[Any, ...], dict[str, Any]]  # a command with its arguments, options of its answer

# Nodes a command is sent to until one takes it: the slot moved, once more while it was asked for.
REDIRECTIONS = 4

SCRIPTS = frozenset({"EVAL", "EVALSHA"})
WITHOUT_A_KEY = frozenset({"CONFIG", "INFO", "PUBLISH", "SCRIPT", "TIME"})


class Cluster(CoreCommands):
    """All nodes as one client, for commands whose keys are in one slot. Nothing is sent before the first."""

    # What redis-py's commands look for in a client.
    _is_async_client: Literal[False] = False
    _event_dispatcher: Any = None

    def __init__(self, open_node: Callable[..., Redis], seeds: Sequence[Address]) -> None:
        self._map = SlotMap(open_node, seeds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._map.close()

    # --- to the node of a slot ---------------------------------------------------------------------

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node that holds its first key."""
        return self._on(slot_of(args), lambda node: node.execute_command(*args, **options), (args, options))

    def _on(self, slot: int, ask: Callable[[Redis], T], call: Call | None = None) -> T:
        """Return what the node of a slot answers; asks the one that has taken its place where it has.

        ``call`` is what may be asked of the node a slot is just moving to. Timeouts are not asked twice.
        """
        node = self._map.owner(slot)
        for _ in range(REDIRECTIONS):
            try:
                return ask(node)
            except redis_errors.MovedError as error:
                self._map.mistrust()
                node = self._map.at((error.host, error.port)) if error.host else self._map.owner(slot)
            except redis_errors.AskError as error:
                if call is None:
                    raise
                return _asking(self._map.at((error.host, error.port)), call)
            except redis_errors.ConnectionError:
                self._map.mistrust(node)
                successor = self._map.owner(slot)
                if successor is node:
                    raise
                node = successor
            except (redis_errors.TimeoutError, redis_errors.ClusterDownError):
                self._map.mistrust(node)
                raise
        raise redis_errors.ClusterError(f"Slot {slot} moved {REDIRECTIONS} times while it was asked for.")

    def node_of(self, key: str) -> Redis:
        """Return the client of the node that holds a key."""
        return self._map.owner(slot_of(("GET", key)))

    def pipeline(self, transaction: bool = True, shard_hint: None = None) -> Pipeline:
        """Return a pipeline: in one step, where all keys are in one slot, or one to each node."""
        return Pipeline(self, transaction=transaction)

    def transaction(self, func: Callable[[Any], Any], *watches: str, **options: Any) -> Any:
        """As redis-py's: ``func`` reads what is watched, then queues what is done if that stays so."""
        return self._on(
            slot_of(("WATCH", *watches)), lambda node: node.transaction(func, *watches, **options)
        )

    def in_one_step(self, calls: Sequence[Call], *, raise_on_error: bool) -> list[Any]:
        """Send commands in one transaction. Raises CrossSlotTransactionError when their keys are apart."""
        slots = {slot_of(args) for args, _ in calls if _has_key(args)} or {0}
        if len(slots) > 1:
            raise redis_errors.CrossSlotTransactionError("Keys of one step are in several slots.")
        return self._on(
            slots.pop(), lambda node: _sent(node, calls, transaction=True, raise_on_error=raise_on_error)
        )

    def to_each(self, calls: Sequence[Call], *, raise_on_error: bool) -> list[Any]:
        """Send commands to their nodes, those of one node in one round trip; return the answers in order."""
        answers: list[Any] = [None] * len(calls)
        for slot, places in self._by_node(calls):
            found = self._sent_to(slot, [calls[place] for place in places])
            for place, answer in zip(places, found, strict=True):
                answers[place] = self._again(calls[place]) if _is_elsewhere(answer) else answer
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    def _sent_to(self, slot: int, calls: Sequence[Call]) -> list[Any]:
        return self._on(slot, lambda node: _sent(node, calls))

    def _by_node(self, calls: Sequence[Call]) -> list[tuple[int, list[int]]]:
        """Return a slot of each node that is to be asked, and the places of its commands."""
        found: dict[int, tuple[int, list[int]]] = {}
        for place, (args, _) in enumerate(calls):
            slot = slot_of(args)
            found.setdefault(id(self._map.owner(slot)), (slot, []))[1].append(place)
        return list(found.values())

    def _again(self, call: Call) -> Any:
        """Send one command by itself; an error is an answer."""
        args, options = call
        try:
            return self.execute_command(*args, **options)
        except redis_errors.RedisError as error:
            return error

    # --- to all nodes ------------------------------------------------------------------------------

    def nodes(self) -> list[Redis]:
        """Return the clients of all nodes that hold data."""
        return self._map.primaries()

    def _everywhere(self, ask: Callable[[Redis], T]) -> list[T]:
        answers: list[T] = []
        for node in self.nodes():
            try:
                answers.append(ask(node))
            except OUT_OF_REACH as error:
                self._map.mistrust(node)
                if isinstance(error, redis_errors.TimeoutError) or node in self.nodes():
                    raise
                return self._everywhere(ask)
        return answers

    def ping(self, **_: Any) -> bool:
        """Tell that all nodes answer: each holds some of the accounts."""
        return all(self._everywhere(lambda node: node.ping()))

    def flushall(self, *_: Any, **__: Any) -> bool:
        return all(self._everywhere(lambda node: node.flushall()))

    def flushdb(self, *_: Any, **__: Any) -> bool:
        return self.flushall()

    def dbsize(self, **_: Any) -> int:
        return sum(self._everywhere(lambda node: int(node.dbsize())))

    def script_load(self, script: Any) -> Any:
        return self._everywhere(lambda node: node.script_load(script))[0]

    def scan_iter(self, *args: Any, **options: Any) -> Iterator[Any]:
        for node in self.nodes():
            yield from node.scan_iter(*args, **options)

    # --- what RedBeat asks of a client -------------------------------------------------------------

    def lock(self, name: str, **options: Any) -> Lock:
        return Lock(self, name, **options)

    def get_encoder(self) -> Any:
        return Encoder("utf-8", "strict", decode_responses=True)


class Pipeline(CoreCommands):
    """Collects commands for a cluster, as redis-py's pipelines do for one server."""

    _is_async_client: Literal[False] = False
    _event_dispatcher: Any = None

    def __init__(self, cluster: Cluster, *, transaction: bool) -> None:
        self._send = cluster.in_one_step if transaction else cluster.to_each
        self.command_stack: list[Call] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.command_stack = []

    def __len__(self) -> int:
        return len(self.command_stack)

    def __bool__(self) -> bool:
        return True  # also while it is empty

    def execute_command(self, *args: Any, **options: Any) -> Self:
        self.command_stack.append((args, options))
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        calls, self.command_stack = self.command_stack, []
        return self._send(calls, raise_on_error=raise_on_error) if calls else []


def slot_of(args: Sequence[Any]) -> int:
    """Return the slot of a command's first key; that of one without a key is 0, so it goes to one node."""
    if not _has_key(args):
        return 0
    key = args[3] if args[0] in SCRIPTS else args[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def _has_key(args: Sequence[Any]) -> bool:
    name = str(args[0]).partition(" ")[0]
    return int(args[2]) > 0 if name in SCRIPTS else name not in WITHOUT_A_KEY


def _sent(
    node: Redis, calls: Sequence[Call], *, transaction: bool = False, raise_on_error: bool = False
) -> list[Any]:
    with node.pipeline(transaction=transaction) as pipe:
        for args, options in calls:
            pipe.execute_command(*args, **options)
        answers: list[Any] = pipe.execute(raise_on_error=raise_on_error)
    return answers


def _asking(node: Redis, call: Call) -> Any:
    """Send a command about a slot that is moving to this node."""
    answers = _sent(node, [(("ASKING",), {}), call])
    if isinstance(answers[-1], Exception):
        raise answers[-1]
    return answers[-1]


def _is_elsewhere(answer: Any) -> bool:
    return isinstance(answer, redis_errors.AskError)  # MovedError is one
