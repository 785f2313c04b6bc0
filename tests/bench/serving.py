"""Serves a bare WSGI app by the server of our front end, which admits everything: ``MODULE:APP PORT``."""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Event

from service.domain.admission import FREE, Admission
from service.web.front import Front, House
from service.web.server import Server, configured, listen

BODY_MOST = 65_536


def main(app: str, port: str) -> None:
    house = House(
        cost_of=lambda method, path: FREE,
        is_public=lambda path: True,
        credential_of=lambda environ: "",
        address_of=lambda environ: "",
        body_most=lambda path: BODY_MOST,
    )
    front = Front(Admission(waiters=64), house)
    module, _, name = app.partition(":")
    front.app = getattr(import_module(module), name)
    Server(configured(front), Event()).run(sockets=[listen("127.0.0.1", int(port))])


if __name__ == "__main__":
    main(*sys.argv[1:])
