"""Which server and which key: options, environment, config file, a stack in this folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from service.cli.servers import Server, config_file, find_server
from service.domain.errors import ConfigurationError

OURS = "https://stories.example"
LOCAL = "http://127.0.0.1:3222"
SIMULATED = "http://127.0.0.1:3223"


def configure(text: str, mode: int = 0o600) -> Path:
    path = config_file()
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def run_here(url: str = LOCAL, key: str = "running", **more: str) -> None:
    Path("var").mkdir()
    Path("var/ready.json").write_text(json.dumps({"url": url, "apiKey": key, **more}))


def test_what_is_given_needs_no_file() -> None:
    configure("no TOML at all", mode=0o644)
    assert find_server(f"{OURS}/", " key\n") == Server(OURS, "key")


def test_the_config_file_comes_before_what_runs_here() -> None:
    run_here()
    configure(f'url = "{OURS}/"\napi_key = "kept"\n')
    assert find_server(None, None) == Server(OURS, "kept")


def test_what_runs_here_comes_last() -> None:
    run_here(simulatedInstagram=SIMULATED)
    assert find_server(None, None) == Server(LOCAL, "running", SIMULATED)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((OURS, None), Server(OURS, "kept")),
        ((None, "mine"), Server(OURS, "mine")),
        ((LOCAL, "mine"), Server(LOCAL, "mine")),
    ],
)
def test_options_fill_up_and_win(given: tuple[str | None, str | None], found: Server) -> None:
    configure(f'url = "{OURS}"\napi_key = "kept"\n')
    assert find_server(*given) == found


@pytest.mark.parametrize("url", ["https://elsewhere.example", "http://stories.example", LOCAL])
def test_a_key_in_a_file_goes_to_no_other_server(url: str) -> None:
    configure(f'url = "{OURS}"\napi_key = "kept"\n')
    with pytest.raises(ConfigurationError, match=f"No API key is known for {url}"):
        find_server(url, None)


def test_a_key_without_an_url_beside_it_is_for_the_server_that_is_named() -> None:
    configure('api_key = "kept"\n')
    assert find_server(OURS, None) == Server(OURS, "kept")


def test_the_three_ways_are_named_when_nothing_is_found() -> None:
    with pytest.raises(ConfigurationError) as told:
        find_server(None, None)
    for way in ("--server and --key", "STORYHOOK_URL and STORYHOOK_API_KEY", str(config_file())):
        assert way in told.value.message


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_config_file_others_may_read_is_refused(mode: int) -> None:
    path = configure(f'url = "{OURS}"\napi_key = "kept"\n', mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        find_server(None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [("url = ", "is no TOML"), ("url = 5", "are strings"), ('url = "ftp://x"', "url in ")],
)
def test_a_config_file_that_makes_no_sense_is_one_line(text: str, told: str) -> None:
    configure(text)
    with pytest.raises(ConfigurationError, match=told) as error:
        find_server(None, None)
    assert "\n" not in error.value.message


def test_a_relative_config_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/ana")
    assert config_file() == Path("/home/ana/.config/storyhook/config.toml")


@pytest.mark.parametrize(
    "url",
    ["stories.example", "ftp://stories.example", "https://", "https://user:secret@stories.example",
     "https://stories.example?x=1", "https://stories.example:0x50", "https://stories.example/a b"],
)  # fmt: skip
def test_an_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="--server: give a URL"):
        find_server(url, "key")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="printable ASCII"):
        find_server(OURS, key)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 5, "apiKey": 5}', "\x00"])
def test_a_stack_that_is_just_starting_is_none(text: str) -> None:
    run_here()
    Path("var/ready.json").write_text(text)
    with pytest.raises(ConfigurationError, match="No server is known"):
        find_server(None, None)


def test_a_folder_cannot_lead_away_from_this_machine() -> None:
    run_here(url="https://evil.example")
    with pytest.raises(ConfigurationError, match="No server is known"):
        find_server(None, "mine")


@pytest.mark.parametrize(
    ("url", "named", "simulated"),
    [
        (LOCAL, "", SIMULATED),  # the one that runs here
        ("http://127.0.0.1:9999", "", ""),  # another one
        ("http://127.0.0.1:9999", SIMULATED + "/", SIMULATED),
        (OURS, SIMULATED, ""),
    ],
)
def test_only_a_local_server_has_a_simulated_instagram(
    monkeypatch: pytest.MonkeyPatch, url: str, named: str, simulated: str
) -> None:
    run_here(simulatedInstagram=SIMULATED)
    monkeypatch.setenv("SIMULATED_INSTAGRAM_URL", named)
    assert find_server(url, "mine").simulated == simulated


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://127.0.0.1:3222", True),
        ("https://localhost:3222", True),  # the same, by another name
        ("https://127.0.0.1:9999", False),
        (OURS, False),
    ],
)
def test_only_the_server_that_runs_here_is_trusted_by_its_own_authority(url: str, trusted: bool) -> None:
    authority = Path("ca.pem").resolve()
    authority.touch()
    run_here("https://127.0.0.1:3222", caFile=str(authority))
    assert find_server(url, "mine").ca_file == (str(authority) if trusted else "")
    authority.unlink()
    assert find_server(url, "mine").ca_file == ""


def test_a_certificate_that_is_named_is_trusted_by_the_authority_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TLS_CERT", "cert.pem")
    assert find_server("https://localhost:3222", "mine").ca_file == ""
    Path("ca.pem").touch()
    assert find_server("https://localhost:3222", "mine").ca_file == str(Path("ca.pem").resolve())
    assert find_server(OURS, "mine").ca_file == ""


def test_a_simulated_instagram_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATED_INSTAGRAM_URL", "http://10.0.0.5:3223")
    with pytest.raises(ConfigurationError, match="must be on loopback"):
        find_server(LOCAL, "mine")


def test_a_key_is_not_in_what_is_logged_of_a_server() -> None:
    assert "mine" not in repr(Server(OURS, "mine"))
