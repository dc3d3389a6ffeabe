"""What is wrong with data that pydantic refused? Each key, with the form that is expected of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MOST_TOLD = 3


def explain(error: ValidationError, names: Mapping[str, str] | None = None, tags: Collection[str] = ()) -> str:
    """A validation error in one line: the first problems, and how many more there are.

    :param names: field -> the name by which its author knows it.
    :param tags: of unions: pydantic puts them among the keys, and no author wrote them there.
    """
    problems = error.errors()
    lines = [_line(problem, names or {}, tags) for problem in problems[:MOST_TOLD]]
    more = f" (and {len(problems) - MOST_TOLD} more)" if len(problems) > MOST_TOLD else ""
    return "; ".join(lines) + more


def _line(problem: ErrorDetails, names: Mapping[str, str], tags: Collection[str]) -> str:
    kind, message, context = problem["type"], problem["msg"], problem.get("ctx", {})
    first, *rest = problem["loc"] or ("value",)
    keys = [names.get(str(first), first), *(key for key in rest if key not in tags)]
    value = f", got {problem['input']!r:.80}"
    if kind == "value_error" and not problem["loc"]:
        # A check of the whole, which names its key itself.
        return message.removeprefix("Value error, ")
    if kind == "missing":
        return f"{_place(keys)}: is missing"
    if kind == "extra_forbidden":
        return f"{_place(keys)}: is no known key"
    if kind == "too_short":
        return f"{_place(keys)}: must have at least {context['min_length']} entry{value}"
    if kind == "union_tag_not_found":
        return f"{_place([*keys, context['discriminator'].strip(chr(39))])}: is missing"
    if kind == "union_tag_invalid":
        place = _place([*keys, context["discriminator"].strip("'")])
        return f"{place}: must be one of {context['expected_tags']}, got {context['tag']!r:.80}"
    return f"{_place(keys)}: {message.removeprefix('Value error, ').replace('Input should', 'must')}{value}"


def _place(keys: list[int | str]) -> str:
    """``workflows[3].stages[0].prompt_tokens``; a key with other signs is quoted."""
    place = ""
    for key in keys:
        if isinstance(key, int):
            place += f"[{key}]"
        elif not place:
            place = key
        else:
            place += f".{key}" if re.fullmatch(r"[\w-]+", key) else f"[{key!r}]"
    return place
