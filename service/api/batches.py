"""Batches: many usernames in one call, how far they are, their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import structlog
from flask import Response, current_app, request
from flask.views import MethodView

from service.actions.batch import (
    BatchOptions,
    Shape,
    all_results,
    cancel_batch,
    find_batch,
    list_batches,
    read_cursor,
    results,
    submit_batch,
)
from service.api.answers import JSON, POLL_AFTER, json_response
from service.api.batch_schemas import (
    AcceptedSchema,
    BatchListSchema,
    BatchSchema,
    BatchStatusSchema,
    OptionsSchema,
    ResultsQuerySchema,
    ResultsSchema,
    WaitSchema,
)
from service.api.blueprint import ApiBlueprint
from service.api.bodies import in_pieces, in_time, sent
from service.api.context import account, context, place_needed, require_account, services, wait_for_batch
from service.api.fetches import IDEMPOTENCY_HEADER, options_in
from service.api.idempotency import idempotency_key
from service.api.limits import count_call
from service.api.parsing import cut_at, parser, whole_body
from service.api.schemas import PageQuerySchema
from service.domain import namelists
from service.domain.admission import HEAVY
from service.domain.batches import (
    CLAMP,
    BatchRecord,
    results_path,
    view,
)
from service.domain.envelopes import timestamp
from service.domain.errors import StoryhookError, UnsupportedMediaType, ValidationFailed
from service.domain.namelists import Entry, NameList

log = structlog.get_logger(__name__)

NDJSON = "application/x-ndjson"

submit_blueprint = ApiBlueprint(
    "batch", __name__, url_prefix="/api/instagram", description="Instagram stories"
)
blueprint = ApiBlueprint("batches", __name__, url_prefix="/api/batches", description="Your batches")
for _each in (submit_blueprint, blueprint):
    _each.before_request(require_account)


_READERS: dict[str, Callable[[bytes], NameList]] = {
    "text/plain": namelists.from_text,
    "text/csv": namelists.from_csv,
    NDJSON: namelists.from_ndjson,
}
_PARAMETERS = [IDEMPOTENCY_HEADER, {"in": "query", "schema": OptionsSchema}]
_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": BatchSchema},
        "text/plain": {"schema": {"type": "string"}, "example": "instagram\nnasa\n"},
        "text/csv": {"schema": {"type": "string"}, "example": "username,externalId\ninstagram,1\n"},
        NDJSON: {"schema": {"type": "string"}, "example": '{"username": "nasa", "externalId": "1"}\n'},
    },
}


@submit_blueprint.route("/stories/batch")
class SubmitBatch(MethodView):
    @submit_blueprint.doc(parameters=_PARAMETERS, requestBody=_BODY)
    @submit_blueprint.response(202, AcceptedSchema, description="Accepted; poll Location")
    def post(self) -> Response:
        """Fetch the stories of many accounts

        The body is JSON, or a list as `text/plain` (a name a line), `text/csv` (a column `username`, and
        `externalId` if you like) or `application/x-ndjson` (one object a line); the options then stand in the
        query. A name that comes twice is one item; what is no name is listed, and the rest goes on unless
        `strict`. All credits are held in one step.
        """
        count_call()  # before thousands of names are parsed
        request.max_content_length = cut_at(current_app.config["MAX_BATCH_BODY"])
        names, given = _parsed()
        options = BatchOptions(
            webhook_url=given.get("webhook_url"),
            webhook_mode=given["webhook_mode"],
            max_age=given["max_age"],
            clamp=given["on_insufficient_credits"] == CLAMP,
            strict=given["strict"],
            idempotency_key=idempotency_key(given.get("idempotency_key")),
            result=options_in(given),
        )
        batch, unpaid, replayed = submit_batch(services(), account().account_id, names, options)
        response = json_response(_accepted(batch, names, unpaid), 202)
        response.headers["Location"] = f"/api/batches/{batch.batch_id}"
        response.headers["Retry-After"] = str(POLL_AFTER)
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response


def _parsed() -> tuple[NameList, dict[str, Any]]:
    """Return the names and the options of the call. Raises ValidationFailed, UnsupportedMediaType ..."""
    if request.mimetype == JSON:
        _no_options_in_query()
        body = parser.parse(BatchSchema(), request, location="json")
        return namelists.from_json(body["usernames"]), body
    read = _READERS.get(request.mimetype)
    if read is None:
        raise UnsupportedMediaType(f"Send {JSON}, text/plain, text/csv or {NDJSON}.")
    options = parser.parse(OptionsSchema(), request, location="query")
    return read(whole_body(request)), options


def _no_options_in_query() -> None:
    """Raise ValidationFailed where an option would be ignored."""
    if request.args:
        raise ValidationFailed(
            details={name: ["With JSON the options stand in the body."] for name in request.args}
        )


def _accepted(batch: BatchRecord, names: NameList, unpaid: list[str]) -> dict[str, Any]:
    return {
        "success": True,
        "batchId": batch.batch_id,
        "status": "processing",  # the answer of the first time, also when it has ended since
        "accepted": batch.total,
        "creditsHeld": batch.total * batch.hold,
        "duplicates": [_line(entry) for entry in names.duplicates],
        "invalid": [{"line": each.line, "value": each.value, "error": each.error} for each in names.invalid],
        "unpaid": unpaid,
        "createdAt": timestamp(batch.created_at),
        "results": results_path(batch.batch_id),
    }


def _line(entry: Entry) -> dict[str, Any]:
    line = {"line": entry.line, "username": entry.username}
    return line if entry.external_id is None else {**line, "externalId": entry.external_id}


@blueprint.route("")
class Batches(MethodView):
    @blueprint.arguments(PageQuerySchema, location="query")
    @blueprint.response(200, BatchListSchema)
    def get(self, query: dict[str, Any]) -> Response:
        """List your batches, newest first"""
        page = list_batches(
            services(), account().account_id, cursor=query.get("cursor"), limit=query["limit"]
        )
        shown = [view(batch, services().clock()) for batch in page.items]
        return json_response({"batches": shown, "nextCursor": page.next_cursor})


@blueprint.route("/<batch_id>")
class Batch(MethodView):
    @blueprint.arguments(WaitSchema, location="query")
    @blueprint.response(200, BatchStatusSchema)
    def get(self, query: dict[str, Any], batch_id: str) -> Response:
        """Look how far a batch is; with `wait`, until it has ended"""
        batch = find_batch(services(), account().account_id, batch_id)
        return _shown(wait_for_batch(batch, query["wait"]))


@blueprint.route("/<batch_id>/results")
class Results(MethodView):
    @blueprint.arguments(ResultsQuerySchema, location="query")
    @blueprint.response(200, ResultsSchema)
    def get(self, query: dict[str, Any], batch_id: str) -> Response:
        """Read the results of a batch, in the order of its names

        What has not ended yet is listed as it is. A page ends at about 2 MB, maybe with fewer than `limit`:
        go on with `nextCursor` until that is null. With `Accept: application/x-ndjson`, or `format=ndjson`,
        all of them are streamed from the cursor on, one envelope a line. A stream that cannot be
        brought to its end says so in its last line, the only one without a `requestId`: `{"success": false,
        "code": "store_unavailable", "error": "... cut off here: go on with cursor=40.", "nextCursor": "40"}`.
        """
        batch = find_batch(services(), account().account_id, batch_id)
        shape = _whole if query["data"] else _without_data
        if _wants_ndjson(query.get("format")):
            return _streamed(batch, read_cursor(query.get("cursor")), shape)
        page = results(services(), batch, query.get("cursor"), query["limit"], shape)
        body = b'{"results":[%b],"nextCursor":%b}' % (b",".join(page.items), orjson.dumps(page.next_cursor))
        return Response(body, content_type=JSON)


@blueprint.route("/<batch_id>/cancel")
class Cancel(MethodView):
    @blueprint.response(200, BatchStatusSchema)
    def post(self, batch_id: str) -> Response:
        """End what has not begun of a batch; its holds are released"""
        return _shown(cancel_batch(services(), account().account_id, batch_id))


def _shown(batch: BatchRecord) -> Response:
    response = json_response(view(batch, services().clock()))
    if not batch.is_final:
        response.headers["Retry-After"] = str(POLL_AFTER)
    return response


def _wants_ndjson(form: str | None) -> bool:
    if form is not None:
        return form == "ndjson"
    return request.accept_mimetypes.best_match([JSON, NDJSON]) == NDJSON


def _streamed(batch: BatchRecord, start: int, shape: Shape) -> Response:
    """Return the results from item ``start`` on. Raises StoreUnavailable, RateLimited, TooBusy."""
    with ExitStack() as held:
        # For as long as they are sent, which is after this function has returned.
        held.enter_context(place_needed())
        found = all_results(services(), batch, start, context().stopping.is_set)
        lines = _lines(in_time(map(shape, found), services().policy.body_limit), start)
        return sent(in_pieces(lines), held.pop_all(), content_type=NDJSON, cost=HEAVY)


def _lines(envelopes: Iterator[bytes], cursor: int) -> Iterator[bytes]:
    """Yield the envelopes from ``cursor`` on as lines; where they break off, a last line that says so.

    The server ends a body that raises as if it were complete, where its length was not told.
    """
    try:
        for envelope in envelopes:
            yield envelope + b"\n"
            cursor += 1
    except StoryhookError as error:
        yield _cut_off(error, cursor)
    except Exception as error:
        log.exception("batches.stream_broken", error=str(error))
        yield _cut_off(StoryhookError(), cursor)


def _cut_off(error: StoryhookError, cursor: int) -> bytes:
    log.warning("batches.cut_off", code=error.code, cursor=cursor)
    sentence = f"{error.message} The results are cut off here: go on with cursor={cursor}."
    line = {"success": False, "code": error.code, "error": sentence, "nextCursor": str(cursor)}
    return orjson.dumps(line) + b"\n"


def _whole(envelope: bytes) -> bytes:
    return envelope


def _without_data(envelope: bytes) -> bytes:
    return orjson.dumps({key: value for key, value in orjson.loads(envelope).items() if key != "data"})
