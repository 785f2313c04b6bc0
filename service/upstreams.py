"""Which upstreams this installation asks, and with what: the part of the settings about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from environs import Env

from service.domain.errors import ConfigurationError, ValidationFailed
from service.domain.requests import parse_username

INSTAGRAPI = "instagrapi"
HIKERAPI = "hikerapi"
GRAPH = "graph"
WEB = "web"
SOURCES = (INSTAGRAPI, HIKERAPI, GRAPH, WEB)

HIKERAPI_URL = "https://api.hikerapi.com"
GRAPH_URL = "https://graph.facebook.com/"
# What the simulated HikerAPI is asked with.
SIMULATED_TOKEN = "simulated"  # noqa: S105 - opens nothing
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class GraphAccount:
    """An account the operator manages, as the Graph API knows it: its IG User id, and a token for it."""

    id: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class Upstreams:
    """The sources in order of preference (names of `SOURCES`), and what each is asked with."""

    sources: tuple[str, ...]
    hikerapi_token: str = field(repr=False)
    hikerapi_url: str
    graph_accounts: Mapping[str, GraphAccount]
    graph_url: str


def read(env: Env, simulated_url: str) -> Callable[[], Upstreams]:
    """Read the settings; what they are made of is checked once all of them could be read.

    With ``simulated_url`` all sources ask the simulated Instagram there unless told otherwise. The function
    that is returned raises ConfigurationError naming the setting.
    """
    sources: list[str] = env.list("SOURCES", [INSTAGRAPI])
    hikerapi_token = env.str("HIKERAPI_TOKEN", "")
    hikerapi_url = env.str("HIKERAPI_URL", "")
    graph_accounts = env.json("GRAPH_ACCOUNTS", {})
    graph_url = env.str("GRAPH_URL", "")
    return lambda: _checked(
        Upstreams(
            sources=tuple(name.strip() for name in sources),
            hikerapi_token=hikerapi_token.strip() or (SIMULATED_TOKEN if simulated_url else ""),
            hikerapi_url=hikerapi_url or simulated_url or HIKERAPI_URL,
            graph_accounts=_accounts(graph_accounts),
            graph_url=graph_url or simulated_url or GRAPH_URL,
        )
    )


def is_loopback(url: str) -> bool:
    """Tell whether an address is this machine's own."""
    return urlsplit(url).hostname in LOOPBACK


def _checked(upstreams: Upstreams) -> Upstreams:
    unknown = [name for name in upstreams.sources if name not in SOURCES]
    if unknown or not upstreams.sources or len(set(upstreams.sources)) < len(upstreams.sources):
        raise ConfigurationError(f"SOURCES: name one or more of {', '.join(SOURCES)}, each once.")
    if HIKERAPI in upstreams.sources and not upstreams.hikerapi_token:
        raise ConfigurationError("HIKERAPI_TOKEN is not set, and SOURCES names hikerapi, which needs it.")
    if GRAPH in upstreams.sources and not upstreams.graph_accounts:
        raise ConfigurationError("GRAPH_ACCOUNTS is not set, and SOURCES names graph, which needs it.")
    for name, url in (("HIKERAPI_URL", upstreams.hikerapi_url), ("GRAPH_URL", upstreams.graph_url)):
        parts = urlsplit(url)
        plain = parts.scheme == "http" and is_loopback(url)
        if not parts.hostname or not (parts.scheme == "https" or plain):
            raise ConfigurationError(f"{name}: give an https:// address; plain http is for loopback only.")
    return upstreams


def _accounts(given: Any) -> dict[str, GraphAccount]:
    """Read ``{"username": {"id": "1784...", "token": "EAA..."}}``. Quotes no token in what it raises."""
    if not isinstance(given, dict):
        raise ConfigurationError(
            'GRAPH_ACCOUNTS must be JSON such as {"name": {"id": "1784...", "token": "EAA..."}}'
        )
    accounts = {}
    for name, entry in given.items():
        number, token = (entry.get("id"), entry.get("token")) if isinstance(entry, dict) else (None, None)
        if not (isinstance(number, str) and number.isdecimal() and isinstance(token, str) and token.strip()):
            raise ConfigurationError(f'GRAPH_ACCOUNTS: {name!r} needs "id", digits as a text, and "token"')
        accounts[_username(name)] = GraphAccount(number, token.strip())
    return accounts


def _username(name: str) -> str:
    try:
        return parse_username(name)
    except ValidationFailed as error:
        raise ConfigurationError(f"GRAPH_ACCOUNTS: {name!r} is no Instagram username") from error
