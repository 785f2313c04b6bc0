"""The blueprint all resources use: flask-smorest's, with our parser and our errors in the docs."""

from __future__ import annotations

from flask_smorest import Blueprint

from service.api.parsing import parser


class ApiBlueprint(Blueprint):
    """A blueprint whose arguments are read by `service.api.parsing`."""

    ARGUMENTS_PARSER = parser
