"""The settings about upstreams: their defaults, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import config
from service.domain.errors import ConfigurationError
from service.upstreams import GraphAccount, Upstreams

ACCOUNTS = '{"Anna": {"id": "1784", "token": "EAAsecret"}}'


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY", "a secret for tests only, long enough to be accepted")
    for name in ("SOURCES", "HIKERAPI_TOKEN", "HIKERAPI_URL", "GRAPH_ACCOUNTS", "GRAPH_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SIMULATED_INSTAGRAM_URL", raising=False)


def load(monkeypatch: pytest.MonkeyPatch, **settings: str) -> Upstreams:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return config.load().upstreams


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    upstreams = load(monkeypatch)
    assert upstreams.sources == ("instagrapi",)
    assert (upstreams.hikerapi_token, dict(upstreams.graph_accounts)) == ("", {})
    assert (upstreams.hikerapi_url, upstreams.graph_url) == (
        "https://api.hikerapi.com",
        "https://graph.facebook.com/",
    )


def test_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "accounts").write_text(ACCOUNTS)
    upstreams = load(
        monkeypatch,
        SOURCES="graph, hikerapi,instagrapi,web",
        HIKERAPI_TOKEN="k3y",
        GRAPH_ACCOUNTS_FILE=str(tmp_path / "accounts"),
    )
    assert upstreams.sources == ("graph", "hikerapi", "instagrapi", "web")
    assert upstreams.graph_accounts == {"anna": GraphAccount("1784", "EAAsecret")}
    assert "k3y" not in repr(upstreams)
    assert "EAAsecret" not in repr(upstreams)


def test_with_a_simulated_instagram_all_are_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = "http://127.0.0.1:3223"
    upstreams = load(monkeypatch, SOURCES="instagrapi,hikerapi,web", SIMULATED_INSTAGRAM_URL=simulated)
    assert (upstreams.hikerapi_url, upstreams.graph_url) == (simulated, simulated)
    assert upstreams.hikerapi_token


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"SOURCES": ""}, "SOURCES"),
        ({"SOURCES": "instagrapi,twitter"}, "SOURCES"),
        ({"SOURCES": "web,web"}, "SOURCES"),
        ({"SOURCES": "hikerapi"}, "HIKERAPI_TOKEN"),
        ({"SOURCES": "graph"}, "GRAPH_ACCOUNTS"),
        ({"GRAPH_ACCOUNTS": "[]"}, "GRAPH_ACCOUNTS"),
        ({"GRAPH_ACCOUNTS": '{"anna": {"id": "17", "token": "EAAsecret"'}, "GRAPH_ACCOUNTS"),
        ({"GRAPH_ACCOUNTS": '{"anna": "EAAsecret"}'}, "GRAPH_ACCOUNTS"),
        ({"GRAPH_ACCOUNTS": '{"anna": {"id": 1784, "token": "EAAsecret"}}'}, "GRAPH_ACCOUNTS"),
        ({"GRAPH_ACCOUNTS": '{"anna": {"id": "17", "token": " "}}'}, "GRAPH_ACCOUNTS"),
        ({"GRAPH_ACCOUNTS": '{"an na": {"id": "17", "token": "EAAsecret"}}'}, "GRAPH_ACCOUNTS"),
        ({"HIKERAPI_URL": "http://api.hikerapi.com"}, "HIKERAPI_URL"),
        ({"HIKERAPI_URL": "api.hikerapi.com"}, "HIKERAPI_URL"),
        ({"GRAPH_URL": "ftp://127.0.0.1"}, "GRAPH_URL"),
        ({"SOURCES": "instagrapi,web", "LEASE": "25"}, "LEASE"),
    ],
)
def test_what_is_refused(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as refused:
        load(monkeypatch, **settings)
    assert "EAAsecret" not in str(refused.value)
