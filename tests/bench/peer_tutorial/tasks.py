"""The worker's part: `celery -A tests.bench.peer_tutorial.tasks worker --concurrency=N`."""

from __future__ import annotations

import os

import requests
from celery import Celery, Task

INSTAGRAM = os.environ["INSTAGRAM_URL"]
HEADERS = {
    "User-Agent": "Instagram 385.0.0.47.74 Android (34/14; 480dpi; 1080x2400; Google; Pixel 8; shiba)",
    "Cookie": "sessionid=60000000001%3Atutorial00000001%3A1",
}

celery = Celery("tutorial", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_URL"])


@celery.task(bind=True, max_retries=3)
def fetch_stories(self: Task, user_id: str, webhook_url: str) -> int:
    """Fetch somebody's stories and send them to the webhook; returns how many there were."""
    try:
        answer = requests.get(f"{INSTAGRAM}/api/v1/feed/user/{user_id}/story/", headers=HEADERS, timeout=20)
        answer.raise_for_status()
        reel = answer.json()["reel"]
        sent = requests.post(webhook_url, json={"success": True, "data": reel}, timeout=15)
        sent.raise_for_status()
    except requests.RequestException as error:
        raise self.retry(exc=error, countdown=2**self.request.retries) from error
    return len(reel["items"])
