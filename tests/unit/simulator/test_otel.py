"""OpenTelemetry's traces become workloads: order by time, lengths as counted, beginnings as they were shared."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from airflow_fate.cli.main import app
from airflow_fate.simulator.checks import FileError
from airflow_fate.simulator.files import read_workload, write_fleet, write_workload
from airflow_fate.simulator.otel import workload_of
from airflow_fate.simulator.workload import Workload
from airflow_fate.workflow import StageRef
from tests.unit.replay.builders import FLEET

DATA = Path(__file__).parents[2] / "data" / "otel"
FAN_IN, SHARING = DATA / "fan_in_dependencies.json", DATA / "prefix_sharing_example.json"
Span = dict[str, Any]


def span(name: str, start_s: float, end_s: float, parent: str = "", **attributes: Any) -> Span:
    given = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 10,
    }
    return {
        "trace_id": "t",
        "span_id": name,
        "parent_span_id": parent or None,
        "start_time": datetime.fromtimestamp(start_s, UTC).isoformat(),
        "end_time": datetime.fromtimestamp(end_s, UTC).isoformat(),
        "attributes": {key: value for key, value in (given | attributes).items() if value is not None},
    }


def tool(name: str, start_s: float, end_s: float, parent: str = "") -> Span:
    return span(name, start_s, end_s, parent, **{"gen_ai.operation.name": "execute_tool", "gen_ai.request.model": None})


def agent(name: str, start_s: float, end_s: float) -> Span:
    return span(name, start_s, end_s, **{"gen_ai.operation.name": "invoke_agent"})


def read(*spans: Span) -> Workload:
    return workload_of("w", {"spans": list(spans)})


def said(*texts: str) -> str:
    """Messages as an attribute: of user and assistant, in turns."""
    roles = ("user", "assistant") * len(texts)
    return json.dumps([{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)])


def edges(workload: Workload) -> set[tuple[str, str]]:
    return set(workload.workflows[0].edges)


def test_a_call_comes_after_all_that_had_ended_and_pauses_are_tools() -> None:
    (workflow,) = read_workload(FAN_IN).workflows
    assert {edge for edge in workflow.edges if edge[1].startswith("span_004")} == {
        ("span_002", "span_004.pause"),
        ("span_003", "span_004.pause"),
        ("span_004.pause", "span_004"),
        ("span_001", "span_004"),
    }
    assert workflow.parents("span_003.pause") == ("span_001",), "the second and the third ran side by side"
    assert workflow.stages["span_004.pause"].duration_s == pytest.approx(1.0)
    assert workflow.stages["span_004"].continues == "span_001"


def test_lengths_are_those_that_were_counted_and_turns_continue_each_other() -> None:
    workload = read_workload(SHARING)
    talk = next(workflow for workflow in workload.workflows if workflow.id == "conversation_trace")
    turns = [stage for stage in talk.stages.values() if stage.is_llm]
    assert [turn.prompt_tokens for turn in turns] == [100, 180, 270, 380]
    assert [turn.continues for turn in turns] == [None, *(turn.id for turn in turns[:-1])]
    assert talk.arrival_s == pytest.approx(4.0), "the file's first trace begins at 0"
    assert len(workload.workflows) == 4


def test_tools_take_their_time_and_agents_are_no_stages() -> None:
    workload = read(agent("a", 0, 9), span("one", 0, 2, "a"), tool("look", 2, 5, "a"), span("two", 5, 9, "a"))
    (workflow,) = workload.workflows
    assert edges(workload) == {("one", "look"), ("look", "two")}
    assert workflow.stages["look"].duration_s == pytest.approx(3.0)
    assert workload.output_tokens == {StageRef("t", "one"): 10, StageRef("t", "two"): 10}


def test_of_calls_within_calls_the_inner_ones_do_the_work() -> None:
    workload = read(span("proxy", 0, 5), span("real", 1, 4, "proxy"), span("next", 6, 7))
    assert {stage.id for stage in workload.workflows[0].stages.values() if stage.is_llm} == {"real", "next"}


def test_messages_that_several_prompts_begin_with_are_shared() -> None:
    system = {"gen_ai.system_instructions": json.dumps([{"type": "text", "content": "s" * 60}])}
    one = span("one", 0, 1, **{"gen_ai.input.messages": said("u" * 40)}, **system)
    two = span("two", 0, 1, **{"gen_ai.input.messages": said("v" * 40)}, **system)
    (workflow,) = read(one, two).workflows
    first, second = (workflow.stages[name].prefix for name in ("one", "two"))
    assert first == second
    assert [segment.tokens for segment in first] == [60]


def test_what_was_not_counted_is_estimated_from_the_texts() -> None:
    uncounted: dict[str, Any] = {"gen_ai.usage.input_tokens": None, "gen_ai.usage.output_tokens": None}
    texts = {"gen_ai.input.messages": said("q" * 400), "gen_ai.output.text": "a" * 80}
    workload = read(span("one", 0, 1, **uncounted, **texts))
    assert workload.workflows[0].stages["one"].prompt_tokens == 100
    assert workload.output_tokens[StageRef("t", "one")] == 20


def test_otlp_says_the_same(tmp_path: Path) -> None:
    flat = json.loads(SHARING.read_text())
    (tmp_path / SHARING.name).write_text(json.dumps(_as_otlp(flat)))
    assert read_workload(tmp_path / SHARING.name) == read_workload(SHARING)


def test_what_is_read_can_be_written_as_a_workload(tmp_path: Path) -> None:
    workload = read_workload(FAN_IN, {"gpt-4": "m"})
    write_workload(tmp_path / "W.json", workload)
    assert read_workload(tmp_path / "W.json") == workload


def _cycle() -> list[Span]:
    return [span("a", 0, 1, "b"), span("b", 0, 1, "a")]


def _broken(**changes: Any) -> Callable[[], list[Span]]:
    return lambda: [span("a", 0, 1) | changes]


def _odd(**attributes: Any) -> Callable[[], list[Span]]:
    return lambda: [span("a", 0, 1, **attributes)]


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        (_cycle, "spans[0].parent_span_id: parents form a cycle: a -> b -> a (span a)"),
        (lambda: [span("a", 0, 1, "gone")], "spans[0].parent_span_id: must be a span of its trace, of which 'gone'"),
        (
            lambda: [span("a", 0, 1) | {"links": [{"trace_id": "t", "span_id": "gone"}]}],
            "spans[0].links: must be spans that are there, of which 'gone' is missing (span a)",
        ),
        (
            lambda: [span("a", 0, 5), span("b", 3, 6) | {"links": [{"span_id": "a", "trace_id": "t"}]}],
            "spans[1].links: clocks run back: it begins 2.000000 s before a ended (span b)",
        ),
        (lambda: [span("a", 5, 4)], "spans[0].end_time: clocks run back: it ends 1.000000 s before it begins (span a)"),
        (
            lambda: [span("a", 5, 9), span("b", 4, 6, "a")],
            "spans[1].start_time: clocks run back: it begins 1.000000 s before its parent a (span b)",
        ),
        (lambda: [span("a", 0, 1), span("a", 0, 1)], "spans[1].span_id: must be unique in its trace, as in spans[0]"),
        (_broken(start_time="noon"), "spans[0].start_time: must be a time as"),
        (_broken(span_id=7), "spans[0].span_id: must be a text, got 7"),
        (_broken(attributes=[]), "spans: none of them calls a model"),
        (_odd(**{"gen_ai.request.model": None}), "spans[0].attributes.gen_ai.request.model: must name the model"),
        (_odd(**{"gen_ai.usage.input_tokens": "x"}), "spans[0].attributes.gen_ai.usage.input_tokens: must be a number"),
        (
            _odd(**{"gen_ai.usage.output_tokens": None}),
            "spans[0].attributes.gen_ai.usage.output_tokens: is missing, and so is the text in gen_ai.output.messages",
        ),
        (_odd(**{"gen_ai.input.messages": "{"}), "spans[0].attributes.gen_ai.input.messages: must be a list of"),
        (list, "spans: none of them calls a model"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(spans: Callable[[], list[Span]], says: str) -> None:
    with pytest.raises(FileError) as error:
        read(*spans())
    assert str(error.value).startswith(says)


def test_in_otlp_the_field_is_named_as_it_is_there() -> None:
    otlp = _as_otlp({"spans": [span("a", 0, 1, "gone")]})
    with pytest.raises(FileError, match=r"resourceSpans\[0\].scopeSpans\[0\].spans\[0\].parentSpanId: must be"):
        workload_of("w", otlp)


def bench(folder: Path, *more: str) -> tuple[int, str]:
    write_fleet(folder / "F.json", FLEET)
    asked = ["bench", "run", "--workload", str(FAN_IN), "--fleet", str(folder / "F.json"), "--policy", "eft", *more]
    done = CliRunner().invoke(app, asked)
    return done.exit_code, done.output


def test_a_trace_is_played_once_its_models_are_the_fleets(tmp_path: Path) -> None:
    code, output = bench(tmp_path)
    assert code == 2
    assert "got 'gpt-4'; --models gpt-4=NAME has another stand for it" in output
    assert bench(tmp_path, "--models", "gpt-4=m")[0] == 0
    code, output = bench(tmp_path, "--models", "gpt-5=m")
    assert (code, "has no model 'gpt-5'" in output, "it has gpt-4" in output) == (2, True, True)
    code, output = bench(tmp_path, "--models", "gpt-4")
    assert (code, "--models must be A=B, got 'gpt-4'" in output) == (2, True)


def _as_otlp(flat: dict[str, Any]) -> dict[str, Any]:
    def value(plain: Any) -> dict[str, Any]:
        match plain:
            case bool():
                return {"boolValue": plain}
            case int():
                return {"intValue": str(plain)}
            case float():
                return {"doubleValue": plain}
            case _:
                return {"stringValue": plain}

    def nanoseconds(text: str) -> str:
        return str(round(datetime.fromisoformat(text).timestamp() * 1e9))

    spans = [
        {
            "traceId": each["trace_id"],
            "spanId": each["span_id"],
            "parentSpanId": each["parent_span_id"] or "",
            "startTimeUnixNano": nanoseconds(each["start_time"]),
            "endTimeUnixNano": nanoseconds(each["end_time"]),
            "attributes": [{"key": key, "value": value(plain)} for key, plain in each["attributes"].items()],
        }
        for each in flat["spans"]
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans[:3]}]}, {"scopeSpans": [{"spans": spans[3:]}]}]}
