"""Makes one function fail in the process that starts with this on its path: ``FAIL_AT=module:name``.

What it raises quotes every secret there is, as a careless library might, and holds them in its variables.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from typing import Any

_SECRET = ("SECRET_KEY", "REDIS_URL", "METRICS_TOKEN", "HIKERAPI_TOKEN", "GRAPH_ACCOUNTS")


def _fail(*_: Any, **__: Any) -> Any:
    secrets = [os.environ.get(name, "") for name in _SECRET]
    raise RuntimeError(f"injected: {' '.join(secrets)} {secrets!r}")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            owner, _, name = self._name.rpartition(".")
            setattr(getattr(module, owner) if owner else module, name, _fail)

        loader.exec_module = exec_module
        return spec


if at := os.environ.get("FAIL_AT"):
    sys.meta_path.insert(0, _Finder(*at.split(":")))
