"""Structured logging for every process: one line an event, JSON or for the eye, and no secret in it."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from service.domain.texts import printable
from service.masking import masked

Event = MutableMapping[str, Any]

# Texts of several lines, made here and not by others.
_OF_SEVERAL_LINES = frozenset({"exception", "stack"})


def configure(level: str, style: str) -> None:
    """Send structlog, the standard library's logging, warnings and what nobody caught to stderr in one form.

    Tracebacks never show local variables: these hold settings.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=False,  # a process logs before its settings are read
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *(_AS_JSON if style == "json" else _FOR_THE_EYE),
                _mask,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    _quiet()
    _take_what_is_not_caught()


def _quiet() -> None:
    # These tell every request, task or header at INFO, httpx with tokens in addresses.
    for noisy in ("urllib3", "httpx", "httpcore", "celery", "redbeat", "kombu", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # instagrapi's also name proxies and sessions and quote whole answers; what matters we tell ourselves.
    for chatty in ("instagrapi", "private_request", "public_request", "graphql_request"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def _mask(_: Any, __: str, line: Any) -> str:
    """The last: what it gets is the line as it will be printed."""
    return masked(line)


def _show_all(_: Any, __: str, event: Event) -> Event:
    """Escape what cannot be printed: others' words must not steer a terminal, nor pass for a line of ours."""
    return {_shown(name): _text_shown(name, value) for name, value in event.items()}


def _text_shown(name: str, value: Any) -> Any:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    text = value if isinstance(value, str) else repr(value)
    if name in _OF_SEVERAL_LINES:
        return "\n".join(map(printable, text.split("\n")))
    return printable(text)


def _shown(name: object) -> str:
    return printable(str(name))


_AS_JSON: list[structlog.typing.Processor] = [structlog.processors.JSONRenderer()]
_FOR_THE_EYE: list[structlog.typing.Processor] = [
    _show_all,
    structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
]


def _take_what_is_not_caught() -> None:
    """Log what else Python and its libraries print on stderr in forms of their own."""
    logging.raiseExceptions = False  # a line that cannot be written is no reason to quote its arguments
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_a_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger(__name__).critical("process.failed", exc_info=(kind, error, trace))


def _uncaught_in_a_thread(told: threading.ExceptHookArgs) -> None:
    error = told.exc_value
    if error is not None and not isinstance(error, SystemExit):
        name = told.thread.name if told.thread else ""
        found = (told.exc_type, error, told.exc_traceback)
        structlog.get_logger(__name__).critical("thread.failed", thread=name, exc_info=found)
