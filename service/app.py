"""create_app: blueprints, error map, OpenAPI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import Any

import structlog
from flask import Flask, Response, redirect, request, send_from_directory
from swagger_ui_bundle import swagger_ui_path
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Response as BaseResponse

from service import __version__
from service.api import (
    archive,
    auth,
    batches,
    credits,
    downloads,
    errors,
    fetches,
    health,
    requests,
    watches,
    webhooks,
)
from service.api.addresses import caller_address
from service.api.context import AppContext, exchange_id, install, refuse
from service.api.hiker import routes as hiker
from service.api.parsing import cut_at
from service.api.specification import documented_api
from service.config import Settings
from service.domain.admission import Admission
from service.domain.errors import NotFound
from service.domain.ports import Services

log = structlog.get_logger(__name__)


class _App(Flask):
    """Flask without the question before each call whether a view is a coroutine: none of ours is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


DOCS_ASSETS = frozenset(
    {
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "swagger-ui-standalone-preset.js",
        "favicon-16x16.png",
        "favicon-32x32.png",
    }
)
BATCH_PATH = "/api/instagram/stories/batch"


def create_app(
    settings: Settings,
    services: Services,
    stopping: Event | None = None,
    admission: Admission | None = None,
) -> Flask:
    """Return the front end over ``services``; callers who wait are let go when ``stopping`` is set."""
    app = _App(__name__, static_folder=None)
    # Else werkzeug answers //path with a redirect of its own, in HTML.
    app.url_map.merge_slashes = False
    app.config.update(
        MAX_CONTENT_LENGTH=cut_at(settings.max_body),
        MAX_BATCH_BODY=settings.max_batch_body,
        API_TITLE="Storyhook",
        API_VERSION=__version__,
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
        OPENAPI_SWAGGER_UI_PATH="/docs",
        OPENAPI_SWAGGER_UI_URL="/docs/assets/",
    )
    _trust_proxies(app, settings.trusted_proxies)
    admission = admission or Admission(settings.sync_waiters)
    install(app, AppContext(services, admission, settings.metrics_token, stopping or Event()))
    app.before_request(refuse)
    _register_api(app)
    app.register_blueprint(health.blueprint)
    app.add_url_rule("/docs/assets/<path:name>", "docs_assets", _docs_asset)
    app.add_url_rule("/", "home", lambda: redirect("/docs"))
    errors.register(app)
    app.after_request(_stamp)
    return app


def _trust_proxies(app: Flask, hops: int) -> None:
    """Take scheme and host from as many proxies as are trusted, and the address of the caller."""
    inner, told = app.wsgi_app, Event()

    def addressed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not hops and "HTTP_X_FORWARDED_FOR" in environ and not told.is_set():
            told.set()
            log.warning("http.proxy_not_trusted", header="X-Forwarded-For", set="TRUSTED_PROXIES=1")
        environ["REMOTE_ADDR"] = caller_address(environ, hops)
        return inner(environ, start_response)

    outer = ProxyFix(addressed, x_for=0, x_proto=hops, x_host=hops) if hops else addressed
    app.wsgi_app = outer  # type: ignore[method-assign]


def _register_api(app: Flask) -> None:
    api = documented_api(app)
    for blueprint in (
        fetches.blueprint,
        downloads.blueprint,
        archive.blueprint,
        hiker.blueprint,
        batches.submit_blueprint,
        batches.blueprint,
        requests.blueprint,
        watches.blueprint,
        credits.blueprint,
        webhooks.blueprint,
        auth.login_blueprint,
        auth.own_blueprint,
        auth.keys_blueprint,
    ):
        api.register_blueprint(blueprint)


def _docs_asset(name: str) -> Response:
    """Serve what /docs needs of Swagger UI from its package, so that it works without internet.

    The package has a page of its own beside, which asks another host.
    """
    if name not in DOCS_ASSETS:
        raise NotFound("There is no such route. See /docs.")
    return send_from_directory(str(swagger_ui_path), name, max_age=86_400)


def _stamp(response: BaseResponse) -> BaseResponse:
    if "X-Request-Id" not in response.headers:
        response.headers["X-Request-Id"] = exchange_id()
    # Answers hold keys, tokens, secrets, and what somebody paid for.
    response.headers.setdefault("Cache-Control", "no-store")
    if request.method == "OPTIONS" and response.status_code < 400:
        response.headers.pop("Content-Type", None)  # there is no content
    return response
