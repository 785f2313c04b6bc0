"""Errors in HikerAPI's forms: ``detail`` and ``exc_type``, and FastAPI's list for invalid parameters."""

from __future__ import annotations

from typing import Any

from service.domain.errors import (
    AccountPrivate,
    InsufficientCredits,
    StoreUnavailable,
    StoryhookError,
    TooBusy,
    Unauthorized,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    ValidationFailed,
)

PREFIXES = ("/v1/", "/v2/", "/gql/", "/sys/")
COST = "x-hiker-info"

# What HikerAPI calls what we call otherwise; the rest goes by the name of its class.
_NAMES: dict[type[StoryhookError], str] = {
    AccountPrivate: "PrivateAccount",
    InsufficientCredits: "InsufficientFunds",
    StoreUnavailable: "ServiceUnavailable",
    TooBusy: "ServiceUnavailable",
    UpstreamBlocked: "ServiceUnavailable",
    UpstreamTimeout: "GatewayTimeout",
    UpstreamFailed: "BadGateway",
}


def is_hiker_path(path: str) -> bool:
    """Tell whether a path is one of HikerAPI's, served here or not."""
    return path.startswith(PREFIXES)


def body_of(error: StoryhookError) -> dict[str, Any]:
    """Return the body HikerAPI has for such an error."""
    if isinstance(error, ValidationFailed) and error.details:
        said = [_invalid(name, each) for name, sentences in error.details.items() for each in sentences]
        return {"detail": said}
    name = _NAMES.get(type(error), type(error).__name__)
    if isinstance(error, Unauthorized):
        return {
            "detail": "Send an API key in the header x-access-key, or as ?access_key=...",
            "exc_type": name,
        }
    if isinstance(error, InsufficientCredits):
        return {"state": False, "error": error.message, "exc_type": name}
    return {"detail": error.message, "exc_type": name}


def _invalid(name: str, said: str) -> dict[str, Any]:
    return {"loc": ["query", name], "msg": said, "type": "value_error"}
