"""How a request's result is made and priced; nothing here changes what is asked upstream but ``force``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from service.domain.operations import RAW


@dataclass(frozen=True)
class Options:
    """What a caller chose.

    ``amount`` is the most items a result has (0: all), ``shape`` one of `service.domain.operations.SHAPES`,
    ``archive`` that the media are kept. ``force`` does without the question whether an account is private.
    ``tariff`` names the prices it goes by, "" those of its operation. ``first_byte`` is where the range of a
    download begins.
    """

    amount: int = 0
    shape: str = RAW
    archive: bool = False
    force: bool = False
    tariff: str = ""
    first_byte: int = 0

    @property
    def text(self) -> str:
        """What differs from the default, as JSON; "" when nothing does."""
        if self == PLAIN:
            return ""
        chosen = {name: value for name, value in asdict(self).items() if value != _DEFAULTS[name]}
        return json.dumps(chosen, separators=(",", ":"))

    @classmethod
    def of(cls, text: str | None) -> Options:
        """Return the options of that `text`."""
        return cls(**json.loads(text)) if text else PLAIN


_DEFAULTS: dict[str, Any] = {each.name: each.default for each in fields(Options)}
PLAIN = Options()
