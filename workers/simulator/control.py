"""``/_sim/``: where tests and demos look at the simulator and turn its knobs; no path of Instagram's."""

from __future__ import annotations

from flask import Blueprint, Response, request

from .answers import fail, ok
from .knobs import KnobError
from .state import state

PREFIX = "/_sim"
control = Blueprint("control", __name__, url_prefix=PREFIX)


@control.get("/health")
def health() -> Response:
    return ok({"status": "ok"})


@control.get("/calls")
def calls() -> Response:
    return ok(state().calls.report())


@control.post("/reset")
def reset() -> Response:
    state().reset()
    return ok({"status": "ok"})


@control.route("/knobs", methods=["GET", "POST"])
def knobs() -> Response:
    """GET: all knobs. POST ``{knob: value, ...}``: change those, answer all."""
    if request.method == "GET":
        return ok(state().knobs.to_json())
    changes = request.get_json(force=True, silent=True)
    if not isinstance(changes, dict):
        return fail(400, "expected a JSON object of knobs")
    try:
        return ok(state().turn(changes).to_json())
    except KnobError as error:
        return fail(400, str(error))
