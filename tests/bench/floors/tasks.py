"""A Celery app as a tutorial has it, with a task that does nothing.

Celery's own defaults but for the pool: the worker is started with as many threads as ours, because a
prefork pool would pay for handing each task to a child. No result backend, JSON messages, one queue.
"""

from __future__ import annotations

import os

from celery import Celery

celery = Celery("floor", broker=os.environ["BROKER_URL"])


@celery.task
def fetch_stories(username: str, webhook_url: str) -> None:
    """Do nothing."""
