"""`storyhook dev-cert`: what it makes is good in the eyes of a strict client, and keeps its secrets."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from service.cli.main import main
from service.domain.errors import ConfigurationError
from service.tls import check_certificate

FOLDER = Path("var/tls")
CA, CA_KEY, CERT, KEY = (FOLDER / name for name in ("ca.pem", "ca-key.pem", "cert.pem", "key.pem"))


def dev_cert(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["dev-cert", *arguments])


def shake_hands(name: str, ca: bytes) -> None:
    """Let a strict client that trusts ``ca`` meet a server with the certificate, by ``name``."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(CERT, KEY)
    client = ssl.create_default_context(cadata=ca.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    left, right = socket.socketpair()
    with left, right:
        right.settimeout(60)
        server = threading.Thread(target=_serve, args=(served, left))
        server.start()
        try:
            client.wrap_socket(right, server_hostname=name).close()
        finally:
            right.close()
            server.join(20)


def _serve(context: ssl.SSLContext, line: socket.socket) -> None:
    line.settimeout(60)
    with suppress(OSError):  # the client says what it did not like
        context.wrap_socket(line, server_side=True).close()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "box.lan", "a.stories.test", "10.1.2.3"])
def test_a_strict_client_that_trusts_the_authority_is_content(name: str) -> None:
    made = dev_cert("--name", "box.lan", "--name", "*.stories.test", "--name", "10.1.2.3")
    assert made.exit_code == 0, made.output
    shake_hands(name, CA.read_bytes())


def test_it_holds_for_no_other_name_and_without_the_authority_for_none() -> None:
    dev_cert()
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        shake_hands("box.lan", CA.read_bytes())
    dev_cert("--folder", "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands("localhost", Path("other/ca.pem").read_bytes())


def test_keys_are_for_their_owner_only() -> None:
    dev_cert()
    assert [file.stat().st_mode & 0o777 for file in (CA_KEY, KEY)] == [0o600, 0o600]
    KEY.chmod(0o644)
    dev_cert("--force")
    assert KEY.stat().st_mode & 0o777 == 0o600


def test_what_to_set_is_told() -> None:
    told = dev_cert().output
    for setting in (
        f"TLS_CERT={CERT.resolve()}",
        f"TLS_KEY={KEY.resolve()}",
        f"SSL_CERT_FILE={CA.resolve()}",
    ):
        assert f"  {setting}\n" in told
    assert "HIKERAPI_HOST=localhost:" in told
    assert "reverse\nproxy" in told


def test_a_second_run_replaces_nothing_unless_forced_and_never_the_authority() -> None:
    dev_cert()
    authority, certificate = CA.read_bytes(), CERT.read_bytes()
    refused = dev_cert()
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert "--force" in refused.output
    assert CERT.read_bytes() == certificate
    assert dev_cert("--force", "--name", "box.lan").exit_code == 0
    assert CA.read_bytes() == authority
    shake_hands("box.lan", authority)


def test_days_are_how_long_it_holds() -> None:
    dev_cert("--days", "30")
    certificate = x509.load_pem_x509_certificate(CERT.read_bytes())
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime.days == 30
    assert dev_cert("--force", "--days", "826").exit_code == 2


def test_half_an_authority_is_not_used_nor_overwritten() -> None:
    dev_cert()
    CA_KEY.unlink()
    refused = dev_cert("--force")
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert "ca-key.pem is missing" in refused.output
    assert not CA_KEY.exists()
    CA_KEY.write_bytes(KEY.read_bytes())
    assert "not the certificate's" in dev_cert("--force").output


@pytest.mark.parametrize(
    "name", ["two words", "http://box.lan", "box.lan:3222", "", "bücher.lan", "-a.lan", "a..b"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    refused = dev_cert("--name", name)
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    assert "--name" in refused.output


def test_a_folder_that_cannot_be_written_is_one_line() -> None:
    Path("file").touch()
    refused = dev_cert("--folder", "file/tls")
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)


# --- what `storyhook web` asks of a certificate --------------------------------------------------


def test_a_pair_that_was_made_is_served() -> None:
    dev_cert()
    check_certificate(str(CERT), str(KEY))


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        ("nowhere.pem", str(KEY), "TLS_CERT: 'nowhere.pem' cannot be read"),
        (str(CERT), "nowhere.pem", "TLS_KEY: 'nowhere.pem' cannot be read"),
        (str(CERT), str(FOLDER), "TLS_KEY: .* cannot be read"),
        (str(CERT), str(CA_KEY), "TLS_CERT and TLS_KEY cannot be used together .*mismatch"),
        (str(KEY), str(KEY), "TLS_CERT and TLS_KEY cannot be used together"),
        (str(CERT), "locked.pem", "key is encrypted"),
        ("x" * 5_000, str(KEY), "TLS_CERT: 'x{200}' cannot be read"),
    ],
)
def test_one_that_cannot_be_served_is_refused_with_the_fix(certificate: str, key: str, told: str) -> None:
    dev_cert()
    locked = serialization.load_pem_private_key(KEY.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    Path("locked.pem").write_bytes(locked)
    with pytest.raises(ConfigurationError, match=told) as error:
        check_certificate(certificate, key)
    assert "\n" not in error.value.message
