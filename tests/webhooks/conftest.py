"""Certificates, and ways out that are opened once: reading the list of authorities takes a while."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service import bootstrap
from tests.webhooks.support import Receiver
from workers import deliver


@dataclass(frozen=True)
class Certificate:
    """A self-made certificate for ``hooks.example`` that is its own authority."""

    file: Path
    key: Path

    def server(self, names_asked: list[str | None] | None = None) -> ssl.SSLContext:
        """Return the context of a server with it, which notes the names it is asked for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        if names_asked is not None:
            context.sni_callback = lambda _socket, name, _context: names_asked.append(name)  # type: ignore[assignment,return-value]
        return context


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("hooks.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.4"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(folder / "certificate.pem", folder / "key.pem")
    files.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session", autouse=True)
def one_hasher() -> Iterator[None]:
    """Nobody logs in here, and making a hasher is slow on purpose."""
    hasher = bootstrap.Passwords()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "Passwords", lambda: hasher)
        yield


@pytest.fixture(autouse=True)
def no_turns_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no slow machine end a row of deliveries early."""
    monkeypatch.setattr(deliver, "IN_A_ROW_SECONDS", 60.0)
