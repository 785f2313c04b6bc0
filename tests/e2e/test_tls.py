"""The web process with a certificate of its own: https for every client, and for our own commands."""

from __future__ import annotations

import json
import socket
import ssl

import pytest
import requests

from tests.e2e.conftest import TlsStack
from tests.e2e.stack import Stack


def get(url: str, **options: object) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=20, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_who_trusts_the_authority_is_served(tls_stack: TlsStack, host: str) -> None:
    url = f"https://{host}:{tls_stack.stack.plan.environment['PORT']}/healthz"
    assert get(url, verify=tls_stack.ca_file).status_code == 200


def test_who_does_not_is_warned(tls_stack: TlsStack) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        get(f"{tls_stack.stack.base_url}/healthz")


def test_plain_http_is_not_spoken(tls_stack: TlsStack) -> None:
    with pytest.raises(requests.ConnectionError):
        get(f"{tls_stack.stack.base_url.replace('https', 'http')}/healthz")


def test_old_protocols_are_not_spoken(tls_stack: TlsStack) -> None:
    port = int(tls_stack.stack.plan.environment["PORT"])
    spoken = set()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=tls_stack.ca_file)
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection(("127.0.0.1", port), 20) as line,
            context.wrap_socket(line, server_hostname="localhost") as wrapped,
        ):
            spoken.add(wrapped.version())
    assert spoken == {"TLSv1.2", "TLSv1.3"}


def test_a_call_from_its_post_to_its_end(tls_stack: TlsStack) -> None:
    answer = tls_stack.stack.demo.stories("nasa")
    assert (answer.status_code, answer.json()["outcome"]) == (200, "found")


def test_the_check_of_the_container(tls_stack: TlsStack) -> None:
    given = tls_stack.stack.plan.environment
    settings = {name: given[name] for name in ("SECRET_KEY_FILE", "PORT", "TLS_CERT", "TLS_KEY")}
    assert tls_stack.stack.storyhook("health", "web", **settings).returncode == 0
    plain = {**settings, "TLS_CERT": "", "TLS_KEY": ""}
    assert tls_stack.stack.storyhook("health", "web", **plain).returncode == 1


def test_our_own_client_trusts_it(tls_stack: TlsStack) -> None:
    stack: Stack = tls_stack.stack
    known = {"STORYHOOK_URL": stack.base_url, "STORYHOOK_API_KEY": stack.api_key}
    told = stack.storyhook("fetch", "nasa", **known, TLS_CERT=stack.plan.environment["TLS_CERT"])
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout)["outcome"] == "found"
    stranger = stack.storyhook("fetch", "nasa", **known)
    assert stranger.returncode == 3
    assert "certificate" in stranger.stderr.lower()


def test_a_certificate_that_cannot_be_served_ends_it_with_one_line(tls_stack: TlsStack) -> None:
    stack = tls_stack.stack
    given = {**stack.plan.environment, "TLS_KEY": tls_stack.ca_file}
    told = stack.storyhook("web", **given)
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert "TLS_KEY" in told.stderr
