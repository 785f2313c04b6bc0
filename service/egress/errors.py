"""Why an exchange came to no answer."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError, SSLError

from service.domain.deliveries import BAD_ANSWER, CONNECTION_FAILED, TIMEOUT, TLS_ERROR
from service.egress.deadline import Deadline


class EgressError(Exception):
    """The exchange came to no answer; ``code`` says why, a word of `service.domain.deliveries`."""

    def __init__(self, code: str, why: str = "") -> None:
        self.code = code
        self.why = why
        super().__init__(f"{code}: {why}" if why else code)


@contextmanager
def in_our_words(deadline: Deadline) -> Iterator[None]:
    """Turn whatever a connection raises in the block into EgressError."""
    try:
        yield
    except EgressError:
        raise
    except (HTTPError, OSError, ValueError, AttributeError) as error:
        # What a connection that was cut under it raises depends on where it was.
        if deadline.passed:
            raise EgressError(TIMEOUT) from error
        raise _translated(error) from error
    if deadline.passed:
        # What was cut can look like an answer that came to its end, with half a header.
        raise EgressError(TIMEOUT)


def _translated(error: Exception) -> EgressError:
    """Turn what urllib3 raises into one of our words."""
    if isinstance(error, (SSLError, ssl.SSLError)):
        return EgressError(TLS_ERROR)
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return EgressError(TIMEOUT)
    if isinstance(error, ProtocolError) and any(isinstance(cause, TimeoutError) for cause in error.args):
        return EgressError(TIMEOUT)
    if isinstance(error, ProtocolError) and any(isinstance(cause, ConnectionError) for cause in error.args):
        return EgressError(CONNECTION_FAILED)
    return EgressError(BAD_ANSWER, type(error).__name__)
