"""The views of HikerAPI's routes; each is a request like any other that is waited for."""

from __future__ import annotations

import re

import orjson
from flask import Response, after_this_request, g, request
from flask.views import MethodView

from service.api.answers import json_response
from service.api.context import account, require_account, services
from service.api.hiker import forms
from service.api.hiker.docs import HikerBlueprint, documented, parameter
from service.api.hiker.errors import COST
from service.api.hiker.schemas import HikerBalanceSchema, HikerShareSchema
from service.api.hiker.table import AMOUNT_MOST, ROUTES, Parse, Route
from service.api.limits import count_call, refuse_head
from service.api.results import result_of
from service.api.streaming import streamed
from service.domain import links
from service.domain.credits import tariff_of
from service.domain.errors import ValidationFailed
from service.domain.options import Options
from service.domain.stories import integer_ids
from service.domain.targets import Target

blueprint = HikerBlueprint("hiker", __name__, description="HikerAPI's routes: change the host of its client")

ON = frozenset({"on", "true", "1", "yes"})
# int() raises on thousands of digits, and takes those of other scripts.
_WHOLE = re.compile(r"[0-9]{1,9}")


@blueprint.before_request
def _begin() -> None:
    """Tell what the call costs in every answer, then ask who calls."""
    g.reqs = 0

    @after_this_request
    def tell(response: Response) -> Response:
        response.headers[COST] = f"reqs={g.reqs}"
        return response

    require_account()


def _call(route: Route) -> Response:
    refuse_head()
    options = Options(
        amount=_amount() if route.lists else 0,
        force=route.lists and _is_on("force"),
        tariff=tariff_of(route.operation, route.by.kind),
    )
    target = Target(route.by.kind, route.by.parse(_given(route.by.name), route.by.name))
    count_call()
    if route.form is None:
        return streamed(target, options, charged=_charge)
    record, envelope = result_of(route.operation, target, options)
    _charge(record.charged)
    body = route.form(orjson.loads(envelope)["data"])
    return json_response(
        integer_ids(body) if route.form in forms.AS_SENT and not _is_on("safe_int") else body
    )


def _charge(reqs: int) -> None:
    g.reqs = reqs


def _given(name: str) -> str:
    text = request.args.get(name, "").strip()
    if not text:
        raise ValidationFailed(details={name: ["field required"]})
    return text


def _is_on(name: str) -> bool:
    return request.args.get(name, "").lower() in ON


def _amount() -> int:
    """Return how many to give at most; 0 is all of them, as there."""
    text = request.args.get("amount", "").strip() or "0"
    if not _WHOLE.fullmatch(text) or int(text) > AMOUNT_MOST:
        raise ValidationFailed(details={"amount": [f"a whole number from 0 to {AMOUNT_MOST:,} is expected"]})
    return int(text)


def _view(route: Route) -> type[MethodView]:
    class View(MethodView):
        @documented(blueprint, route)
        def get(self) -> Response:
            return _call(route)

    return View


for _route in ROUTES:
    blueprint.route(_route.path, endpoint=_route.path.strip("/").replace("/", "_"))(_view(_route))


def _share_view(name: str, parse: Parse, example: str) -> type[MethodView]:
    """Return the view of a route that reads a share link, which asks nobody and costs nothing."""

    class Share(MethodView):
        @blueprint.doc(parameters=[parameter(name, example)], summary="What a /s/ link shares")
        @blueprint.response(200, HikerShareSchema)
        def get(self) -> Response:
            # An integer, as there.
            return json_response({"pk": int(parse(_given(name), name)), "type": "highlight"})

    return Share


for _name, _parse, _example in (
    ("url", links.parse_share_url, "https://www.instagram.com/s/aGlnaGxpZ2h0OjE3ODkzMjA5ODI1MjgxMjIx"),
    ("code", links.parse_share_code, "aGlnaGxpZ2h0OjE3ODkzMjA5ODI1MjgxMjIx"),
):
    blueprint.route(f"/v1/share/by/{_name}", endpoint=f"v1_share_by_{_name}")(
        _share_view(_name, _parse, _example)
    )


@blueprint.route("/sys/balance")
class Balance(MethodView):
    @blueprint.doc(summary="What is left, in requests")
    @blueprint.response(200, HikerBalanceSchema)
    def get(self) -> Response:
        left = services().credits.balance(account().account_id).available
        rates = [limit.count / limit.seconds for limit in services().policy.rate_limits]
        rate = max(int(min(rates, default=15)), 1)
        return json_response({"requests": left, "rate": rate, "currency": "USD", "amount": 0.0})
