"""What is wrong with data is said with its place and the form that is expected."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_fate.messages import explain


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Circle(_Part):
    kind: Literal["circle"]
    radius: Annotated[float, Field(gt=0)]


class _Square(_Part):
    kind: Literal["square"]
    side: float


class _Drawing(_Part):
    shapes: list[Annotated[_Circle | _Square, Field(discriminator="kind")]] = []
    sizes: dict[str, int] = {}


def explained(document: Any, **options: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        _Drawing.model_validate(document)
    return explain(refused.value, **options)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"shapes": [{"kind": "square"}]}, "shapes[0].side: is missing"),
        ({"shapes": [{"kind": "circle", "radius": -1}]}, "shapes[0].radius: must be greater than 0, got -1"),
        ({"shapes": [{"kind": "line"}]}, "shapes[0].kind: must be one of 'circle', 'square', got 'line'"),
        ({"shapes": [{"side": 1}]}, "shapes[0].kind: is missing"),
        ({"colour": "red"}, "colour: is no known key"),
        (
            {"sizes": {"gpu-0": 0.5}},
            "sizes.gpu-0: must be a valid integer, got a number with a fractional part, got 0.5",
        ),
        ({"sizes": {"a.b": "x"}}, "sizes['a.b']: must be a valid integer"),
    ],
)
def test_a_problem_has_its_place_and_the_expected_form(document: Any, says: str) -> None:
    assert explained(document, tags=("circle", "square")).startswith(says)


def test_a_key_is_called_as_its_author_knows_it() -> None:
    assert explained({"sizes": 3}, names={"sizes": "--sizes"}).startswith("--sizes: must be a valid dictionary")


def test_the_first_problems_are_named_and_the_others_counted() -> None:
    line = explained({"sizes": dict.fromkeys("abcde", "x")})
    assert line.count("must be a valid integer") == 3
    assert line.endswith("(and 2 more)")
