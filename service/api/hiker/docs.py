"""What the specification says of HikerAPI's routes: parameters, forms of results and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from marshmallow import Schema

from service.api.answers import JSON
from service.api.blueprint import ApiBlueprint
from service.api.downloads import RANGE_HEADER, documented_file
from service.api.hiker import forms
from service.api.hiker import schemas as theirs
from service.api.hiker.errors import COST
from service.api.hiker.table import AMOUNT_MOST, Route
from service.api.specification import ACCESS_KEY, ACCESS_KEY_IN_QUERY, BEARER

FORMS: dict[Callable[..., Any], Schema] = {
    forms.stories_v1: theirs.HikerStorySchema(many=True),
    forms.story_v1: theirs.HikerStorySchema(),
    forms.highlights_v1: theirs.HikerHighlightSchema(many=True),
    forms.highlight_v1: theirs.HikerHighlightSchema(),
    forms.reel_v2: theirs.HikerReelSchema(),
    forms.highlights_v2: theirs.HikerResponseSchema(),
    forms.highlight_v2: theirs.HikerResponseSchema(),
    forms.user_v1: theirs.HikerUserSchema(),
    forms.user_v2: theirs.HikerUserInfoSchema(),
}
COST_HEADER = {COST: {"schema": {"type": "string", "example": "reqs=2"}, "description": "what it cost"}}
_ERRORS = {
    "402": ("Too few credits are left", theirs.HikerFundsSchema),
    "422": ("A parameter is missing or makes no sense", theirs.HikerInvalidSchema),
    "default": ("Any other error", theirs.HikerErrorSchema),
}
_OPTIONS = {
    "amount": {
        "schema": {"type": "integer", "minimum": 0, "maximum": AMOUNT_MOST, "default": 0},
        "description": "at most so many of them; 0: all",
    },
    "force": {
        "schema": {"type": "boolean", "default": False},
        "description": "does without the question whether the account is private; costs 1 less",
    },
    "safe_int": {
        "schema": {"type": "boolean", "default": False},
        "description": "ids as text: those of Instagram pass 2^53",
    },
}


class HikerBlueprint(ApiBlueprint):
    """A blueprint whose operations are documented with HikerAPI's errors, and take a key in the query."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepare_doc_cbks.append(self._document)

    @staticmethod
    def _document(doc: dict[str, Any], doc_info: object, **_: object) -> dict[str, Any]:
        for status, (description, schema) in _ERRORS.items():
            doc["responses"][status] = {
                "description": description,
                "headers": COST_HEADER,
                "content": {JSON: {"schema": schema}},
            }
        doc["security"] = [{BEARER: []}, {ACCESS_KEY: []}, {ACCESS_KEY_IN_QUERY: []}]
        return doc


def parameter(name: str, example: str) -> dict[str, Any]:
    """Return a parameter that has to be given."""
    return {
        "in": "query",
        "name": name,
        "required": True,
        "schema": {"type": "string", "minLength": 1},
        "example": example,
    }


def documented(blueprint: ApiBlueprint, route: Route) -> Callable[[Any], Any]:
    """Return a decorator that documents the view of a route."""

    def decorate(view: Any) -> Any:
        if route.form is None:
            view = documented_file(blueprint, COST_HEADER)(view)
        else:
            view = blueprint.response(200, FORMS[route.form], headers=COST_HEADER)(view)
        about = blueprint.doc(
            parameters=_parameters(route), summary=route.about, description=f"Costs {route.reqs}."
        )
        return about(view)

    return decorate


def _parameters(route: Route) -> list[dict[str, Any]]:
    names = [
        *(["amount", "force"] if route.lists else []),
        *(["safe_int"] if route.form in forms.AS_SENT else []),
    ]
    options = [{"in": "query", "name": name, **_OPTIONS[name]} for name in names]
    more = [RANGE_HEADER] if route.form is None else []
    return [parameter(route.by.name, route.by.example), *options, *more]
