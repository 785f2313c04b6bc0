"""`storyhook dev-cert`: a certificate for this machine, and an authority of one's own that vouches for it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from service.cli.certificates import Signed, new_authority, read_authority, server_certificate
from service.cli.local import write_private
from service.cli.words import say
from service.domain.errors import ConfigurationError
from service.tls import AUTHORITY

AUTHORITY_KEY = "ca-key.pem"
CERTIFICATE = "cert.pem"
KEY = "key.pem"
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
DAYS_MOST = 825  # more is refused by Apple's clients, whoever signed


@click.command("dev-cert")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("var/tls"), show_default=True)
@click.option("--name", "names", multiple=True, metavar="HOST", help="A further host name or address.")
@click.option("--days", type=click.IntRange(1, DAYS_MOST), default=DAYS_MOST, show_default=True)
@click.option("--force", is_flag=True, help="Replace the certificate that is there; the authority stays.")
def dev_cert(folder: Path, names: tuple[str, ...], days: int, force: bool) -> None:
    """Make a certificate for localhost, for trying https out without a proxy.

    A second run makes another one under the same authority, so clients that trust it need not be told again.
    """
    there = [name for name in (CERTIFICATE, KEY) if (folder / name).exists()]
    if there and not force:
        raise ConfigurationError(f"{folder / there[0]} is there already: --force replaces it.")
    every = list(dict.fromkeys((*THIS_MACHINE, *names)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        authority = _authority(folder)
        made = server_certificate(authority, every, days)
        _write(folder / KEY, made.key_pem, private=True)
        _write(folder / CERTIFICATE, made.certificate_pem)
    except OSError as error:
        raise ConfigurationError(f"{error.filename or folder}: {error.strerror}.") from None
    say(*_told(folder.resolve(), every, made).splitlines())


def _authority(folder: Path) -> Signed:
    """Return the authority of ``folder``, made when there is none. Raises ConfigurationError, OSError."""
    files = folder / AUTHORITY, folder / AUTHORITY_KEY
    if not any(file.exists() for file in files):
        authority = new_authority()
        _write(files[1], authority.key_pem, private=True)
        _write(files[0], authority.certificate_pem)
        return authority
    try:
        return read_authority(*(file.read_bytes() for file in files))
    except (FileNotFoundError, ValueError) as error:
        reason = f"{error.filename} is missing" if isinstance(error, FileNotFoundError) else error
        raise ConfigurationError(
            f"{files[0]} and {files[1]} are no authority ({reason}): "
            "put them right, or remove both for a new one."
        ) from None


def _write(path: Path, text: str, *, private: bool = False) -> None:
    path.unlink(missing_ok=True)  # a file that is written over would keep its mode
    if private:
        write_private(path, text)
    else:
        path.write_text(text)


def _told(folder: Path, names: list[str], made: Signed) -> str:
    port = os.environ.get("PORT", "3222")
    return f"""\
{folder / CERTIFICATE}: for {", ".join(names)}, until {made.certificate.not_valid_after_utc:%Y-%m-%d}

The service (in .env, or before `make run`):
  TLS_CERT={folder / CERTIFICATE}
  TLS_KEY={folder / KEY}

Its clients trust {folder / AUTHORITY}; the stock hikerapi client:
  SSL_CERT_FILE={folder / AUTHORITY}
  HIKERAPI_HOST=localhost:{port}

{folder / AUTHORITY_KEY} vouches for any name to who trusts that: keep it here. In production put a reverse
proxy with a public certificate in front."""
