"""A bare Flask app, served as our front end is.

``POST /stories`` publishes a Celery task by ``delay`` and answers 202: no validation, no authentication, no
account, nothing stored but the message. ``POST /answer`` reads the same JSON and answers 202: nothing else.
"""

from __future__ import annotations

from flask import Flask, request

from tests.bench.floors.tasks import fetch_stories

app = Flask(__name__)


@app.post("/stories")
def stories() -> tuple[dict[str, str], int]:
    body = request.get_json()
    task = fetch_stories.delay(body["username"], body["webhookUrl"])
    return {"task_id": task.id, "status": "processing"}, 202


@app.post("/answer")
def answer() -> tuple[dict[str, str], int]:
    return {"username": request.get_json()["username"], "status": "processing"}, 202
