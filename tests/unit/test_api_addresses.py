"""Who calls, by address."""

from __future__ import annotations

import pytest

from service.api.addresses import caller_address

PEER = "10.0.0.9"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "6.6.6.6", PEER),
        (1, "6.6.6.6", "6.6.6.6"),
        (1, "7.7.7.7, 6.6.6.6", "6.6.6.6"),
        (2, "7.7.7.7, 6.6.6.6", "7.7.7.7"),
        (2, "6.6.6.6", PEER),
        (1, "", PEER),
        (1, "6.6.6.6:1234", "6.6.6.6"),
        (1, "[2001:db8::1]:1234", "2001:db8::1"),
        (1, "[2001:db8::1]", "2001:db8::1"),
        (1, "2001:DB8:0::1", "2001:db8::1"),
        (1, "a" * 30_000, PEER),
        (1, "unknown", PEER),
        (1, "6.6.6.6, _hidden", PEER),
        (1, "006.6.6.6", PEER),
        (1, "6.6.6.6\n", "6.6.6.6"),
    ],
)
def test_the_entry_of_the_outermost_trusted_proxy_counts(proxies: int, forwarded: str, address: str) -> None:
    environ = {"REMOTE_ADDR": PEER, "HTTP_X_FORWARDED_FOR": forwarded}
    assert caller_address(environ, proxies) == address
