"""Which server the command line talks to, and with which key."""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from service.domain.errors import ConfigurationError
from service.tls import authority_of

READY = Path("var") / "ready.json"


@dataclass(frozen=True)
class Server:
    """A service and a key for it; "" is unknown.

    ``simulated`` is where its simulated Instagram listens: media are fetched from there then.
    ``ca_file`` is the authority its certificate is of; "" is one of those everybody trusts.
    """

    url: str = ""
    api_key: str = field(default="", repr=False)
    simulated: str = ""
    ca_file: str = ""


def find_server(url: str | None, api_key: str | None) -> Server:
    """Fill up what was given from the config file, then from what `make run` left in this folder.

    A key in a file is for the URL beside it and goes to no other. Raises ConfigurationError.
    """
    known = Server(normal_url(url, "--server") if url else "", (api_key or "").strip())
    if not (known.url and known.api_key):
        known = _filled(known, _configured())
    running = _running()
    known = _filled(known, running)
    if not (known.url and known.api_key):
        what = "No server is known" if not known.url else f"No API key is known for {known.url}"
        raise ConfigurationError(
            f"{what}: give --server and --key, set STORYHOOK_URL and STORYHOOK_API_KEY, or write "
            f'url = "..." and api_key = "..." into {config_file()}.'
        )
    if not (known.api_key.isascii() and known.api_key.isprintable()) or " " in known.api_key:
        raise ConfigurationError("An API key is printable ASCII without spaces.")
    return Server(known.url, known.api_key, _simulated(known, running), _authority(known, running))


def _filled(known: Server, file: Server) -> Server:
    url = known.url or file.url
    return Server(url, known.api_key or (file.api_key if file.url in {"", url} else ""))


def _simulated(known: Server, running: Server) -> str:
    """Return where a local server's simulated Instagram is. Raises ConfigurationError when not here."""
    named = os.environ.get("SIMULATED_INSTAGRAM_URL", "")
    if not is_loopback(known.url):
        return ""
    if not named:
        return running.simulated if running.url == known.url else ""
    named = normal_url(named, "SIMULATED_INSTAGRAM_URL")
    if not is_loopback(named):
        raise ConfigurationError("SIMULATED_INSTAGRAM_URL must be on loopback.")
    return named


def _authority(known: Server, running: Server) -> str:
    """Return the local authority of a server on this machine: of the one that runs here, or by TLS_CERT."""
    if not is_loopback(known.url):
        return ""
    named = authority_of(os.environ.get("TLS_CERT", ""))
    return named or (running.ca_file if _port(known.url) == _port(running.url) else "")


def _port(url: str) -> int | None:
    return urlsplit(url).port


def config_file() -> Path:
    """Return where the config file is looked for (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # the specification: relative ones are ignored
        base = os.path.expanduser("~/.config")
    return Path(base) / "storyhook" / "config.toml"


def _configured() -> Server:
    """Return what the config file says. Raises ConfigurationError when others may read it."""
    path = config_file()
    try:
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigurationError(f"Others may read {path}, and it is for a key: chmod 600 {path}")
            content = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return Server()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.") from None
    url, api_key = content.get("url", ""), content.get("api_key", "")
    if not (isinstance(url, str) and isinstance(api_key, str)):
        raise ConfigurationError(f"{path}: url and api_key are strings.")
    return Server(normal_url(url, f"url in {path}") if url else "", api_key.strip())


def _running() -> Server:
    """Return the stack `make run` runs in this folder. A folder's file names no server elsewhere."""
    try:
        ready = json.loads(READY.read_text())
        url = normal_url(str(ready["url"]), str(READY))
        simulated = str(ready.get("simulatedInstagram") or "")
        if simulated:
            simulated = normal_url(simulated, str(READY))
        if is_loopback(url) and (not simulated or is_loopback(simulated)):
            ca_file = str(ready.get("caFile") or "")
            return Server(url, str(ready["apiKey"]), simulated, ca_file if Path(ca_file).is_file() else "")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ConfigurationError):
        pass  # nothing runs here, or it is just starting
    return Server()


def normal_url(text: str, where: str) -> str:
    """Return a server's URL without its last slash. Raises ConfigurationError naming ``where``."""
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or any(mark in url for mark in " \\@?#"):
        raise ConfigurationError(f"{where}: give a URL such as https://storyhook.example.com.")
    return url


def is_loopback(url: str) -> bool:
    """Tell whether a URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
