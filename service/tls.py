"""The certificate the web process serves https with."""

from __future__ import annotations

import ssl
from pathlib import Path

from service.domain.errors import ConfigurationError

AUTHORITY = "ca.pem"  # beside a certificate of `storyhook dev-cert`: who made it
_SHOWN = 200  # characters of a path that is none; it may be a whole certificate


def check_certificate(certificate: str, key: str) -> None:
    """Raise ConfigurationError, naming the setting, unless these PEM files can serve https."""
    for name, path in (("TLS_CERT", certificate), ("TLS_KEY", key)):
        try:
            Path(path).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"{name}: {path[:_SHOWN]!r} cannot be read ({reason}). Give the path of a PEM file, "
                "or make one with: storyhook dev-cert"
            ) from None
    try:
        # A key with a password would have it asked for at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"TLS_CERT and TLS_KEY cannot be used together ({_reason(error)}). TLS_CERT is the PEM file of "
            "the certificate with its chain, TLS_KEY that of its private key, without a password."
        ) from None


def check_authorities(path: str | None) -> None:
    """Raise ConfigurationError unless WEBHOOK_CA_FILE, where it is set, holds certificates to trust."""
    if not path:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"WEBHOOK_CA_FILE: {path[:_SHOWN]!r} cannot be used ({_why(error)}). Give the path of a PEM file "
            "of certificates, or unset it."
        ) from None


def _why(error: Exception) -> str:
    return _reason(error) if isinstance(error, ssl.SSLError) else str(getattr(error, "strerror", "") or error)


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()


def authority_of(certificate: str) -> str:
    """Return the file of the local authority that made ``certificate``, "" where there is none."""
    file = Path(certificate).resolve().with_name(AUTHORITY) if certificate else None
    return str(file) if file is not None and file.is_file() else ""
