"""The front end's part: a Flask app with one route."""

from __future__ import annotations

from flask import Flask, request

from tests.bench.peer_tutorial.tasks import fetch_stories

app = Flask(__name__)


@app.post("/stories")
def stories() -> tuple[dict[str, str], int]:
    body = request.get_json()
    task = fetch_stories.delay(body["userId"], body["webhookUrl"])
    return {"task_id": task.id}, 202
