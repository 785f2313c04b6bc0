"""What the URL of a store says: one server, a set watched by Sentinels, or a cluster. Opens nothing.

The forms with a ``+`` are those of the `limits` package, and so of Flask-Limiter; redis-py has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlencode, urlsplit

SINGLE, SENTINEL, CLUSTER = "single", "sentinel", "cluster"

ONE = "redis://host:6379/0 or rediss://user:password@host:6379/0"
SENTINELS = "redis+sentinel://user:password@host:26379,host:26379,host:26379/service/0"
NODES = "redis+cluster://user:password@host:6379,host:6379,host:6379"

BROKERS = (
    "Give a Redis, a Valkey or a RabbitMQ beside it: redis://host:6379/0, amqp://user:password@host:5672//."
)

_SCHEMES = {
    "redis": (SINGLE, False),
    "rediss": (SINGLE, True),
    "redis+sentinel": (SENTINEL, False),
    "rediss+sentinel": (SENTINEL, True),
    "redis+cluster": (CLUSTER, False),
    "rediss+cluster": (CLUSTER, True),
}
_PORTS = {SINGLE: 6379, SENTINEL: 26_379, CLUSTER: 6379}
# What the Sentinels themselves ask for, where they do. The login of the URL is the servers'.
_SENTINEL_LOGIN = {"sentinel_username": "username", "sentinel_password": "password"}

Address = tuple[str, int]


@dataclass(frozen=True)
class StoreUrl:
    """The parts of a store's URL. ``nodes``: the server, the Sentinels, or nodes a cluster is asked about."""

    kind: str
    tls: bool
    login: str = field(repr=False)  # "user:password@" as it was written, or ""
    nodes: tuple[Address, ...]
    service: str  # what the Sentinels call the set
    database: int
    options: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def sentinel_login(self) -> dict[str, str]:
        """Return ``username`` and ``password`` for the Sentinels; nothing where they want none."""
        return {_SENTINEL_LOGIN[name]: value for name, value in self.options if name in _SENTINEL_LOGIN}

    def server(self, address: Address) -> str:
        """Return the URL of one server, with the login, database and options of this one."""
        options = [(name, value) for name, value in self.options if name not in _SENTINEL_LOGIN]
        return f"{self._scheme}://{self.login}{_written(address)}/{self.database}{_query(options)}"

    def next_database(self) -> str:
        """Return the URL of the database one up, of the same set."""
        return self._with(self.database + 1)

    def first_database(self) -> str:
        """Return the URL of database 0, of the same servers."""
        if self.kind == SINGLE:
            return replace(self, database=0).server(self.nodes[0])
        return self._with(0)

    def _with(self, database: int) -> str:
        nodes = ",".join(_written(address) for address in self.nodes)
        path = f"{self.service}/{database}" if self.kind == SENTINEL else ""
        return f"{self._scheme}+{self.kind}://{self.login}{nodes}/{path}{_query(self.options)}"

    @property
    def shown(self) -> str:
        """Where it is, for people: servers and database, nothing secret."""
        nodes = ", ".join(_written(address) for address in self.nodes)
        asked = f" (Sentinels of {self.service})" if self.kind == SENTINEL else ""
        return f"{nodes}{asked}" if self.kind == CLUSTER else f"{nodes}{asked}, database {self.database}"

    @property
    def _scheme(self) -> str:
        return "rediss" if self.tls else "redis"


def is_of_a_store(url: str) -> bool:
    """Tell whether a URL is one of a Redis or Valkey, however many there are."""
    return urlsplit(url).scheme in _SCHEMES


def parse(url: str) -> StoreUrl:
    """Read the URL of a store. Raises ValueError with what to write; it repeats nothing that is secret."""
    if not is_of_a_store(url):
        raise ValueError(f"Give a URL such as {ONE}, {SENTINELS} or {NODES}.")
    parts = urlsplit(url)
    kind, tls = _SCHEMES[parts.scheme]
    login, at, hosts = parts.netloc.rpartition("@")
    nodes = tuple(_address(host, _PORTS[kind]) for host in hosts.split(","))
    service, database = _path(kind, parts.path.strip("/"))
    options = tuple(parse_qsl(parts.query, keep_blank_values=True))
    if kind == SINGLE and len(nodes) > 1:
        raise ValueError(
            f"Several servers are a set or a cluster. Give a URL such as {SENTINELS} or {NODES}."
        )
    return StoreUrl(kind, tls, login + at, nodes, service, database, options)


def _address(host: str, port: int) -> Address:
    try:
        parts = urlsplit(f"//{host}")
        found = parts.hostname, parts.port or port
    except ValueError:
        found = None, port
    if not found[0]:
        raise ValueError("Each of the servers is a host, or host:port; several are parted by commas.")
    return found[0], found[1]


def _path(kind: str, path: str) -> tuple[str, int]:
    """Return the name of the set, "" where there is none, and the database."""
    if kind == CLUSTER:
        if path not in {"", "0"}:
            raise ValueError(f"A cluster has one database, 0. Give a URL such as {NODES}.")
        return "", 0
    service, _, database = path.partition("/") if kind == SENTINEL else ("", "", path)
    if kind == SENTINEL and not service:
        raise ValueError(f"Name the set as the Sentinels do, after the hosts: {SENTINELS}.")
    if not (database or "0").isdigit():
        raise ValueError("A store's URL ends in the number of a database.")
    return service, int(database or 0)


def _written(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _query(options: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> str:
    return f"?{urlencode(options)}" if options else ""
