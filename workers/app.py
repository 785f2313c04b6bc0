"""`celery -A workers.app`: the worker's Celery app. Importing it opens nothing."""

from __future__ import annotations

import warnings
from typing import Any

import structlog
from celery import signals
from celery.apps import worker as celery_worker

from service import config, lifecycle, log, startup
from service.broker import make_celery
from workers.pulse import Pulse
from workers.runtime import runtime
from workers.schedule import configure_beat

# Celery warns of root because of pickle; only JSON is accepted here, and the image runs as nobody.
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")

# It says on standard output, in a form of its own, that it ends.
celery_worker.safe_say = lambda *_, **__: None

# How `storyhook worker` names itself; what has another name delivers, and needs no upstream.
WORKER = "worker."

settings = config.load()
app = make_celery(settings.broker_url)
app.conf.include = ["workers.tasks"]
app.conf.worker_consumer = "workers.consumer:Consumer"
app.steps["worker"].add(Pulse)
configure_beat(app, settings.redis_url)


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    """Take logging into our hands; without a receiver Celery would set up its own."""
    log.configure(settings.log_level, settings.log_format)


@signals.worker_shutting_down.connect
def _stop(**_: Any) -> None:
    """Let work end with the try it is at; what is not done by then another worker does."""
    runtime().stopping.set()
    structlog.get_logger(__name__).info("process.ending")


@signals.worker_init.connect
def _open(sender: Any, **_: Any) -> None:
    """Fail at the start, not at the first job."""
    with startup.starting(_role_of(sender.hostname)):
        parts = runtime()
        if sender.hostname.startswith(WORKER):
            parts.source  # noqa: B018 - loads it
        lifecycle.settle_in()


@signals.worker_ready.connect
def _say_so(sender: Any, **_: Any) -> None:
    startup.announce(_role_of(sender.hostname), settings)


def _role_of(hostname: str) -> str:
    return "worker" if hostname.startswith(WORKER) else "deliverer"
