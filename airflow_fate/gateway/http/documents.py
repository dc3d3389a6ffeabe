"""Which JSON is passed on? Objects whose numbers are finite: others can be read, but not be written again."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def read_object(data: bytes | str) -> dict[str, Any]:
    """A JSON object.

    :raises ValueError: when it is none.
    """
    try:
        document = json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError(f"JSON, but {type(document).__name__} instead of an object")
    return document


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON's")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
