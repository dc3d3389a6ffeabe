"""Which pieces does a prompt's template consist of? Literals are known, look-ups resolved, the rest estimated.

A template is never rendered here and never taken for its own text: it is parsed, and cut where its expressions stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import jinja2
from jinja2 import nodes

from airflow_fate.messages import SegmentSpec, digest

CHARS_PER_TOKEN = 4
Role = Literal["system", "user"]
_PATH_ROOTS = ("dag_run", "params", "run_id")
_OF_THE_INSTANCE = ("ti", "task_instance", "task", "map_index")
_ENVIRONMENT = jinja2.Environment()


def segments(template: str, role: Role) -> list[SegmentSpec]:
    """The leading pieces of a template that other prompts may share, in order.

    They end where an expression depends on the task instance itself, since nobody else has that text. A template that
    can't be parsed has no piece that is known.
    """
    try:
        body = _ENVIRONMENT.parse(template).body
    except jinja2.TemplateSyntaxError:
        return []
    pieces: list[SegmentSpec] = []
    for node in _pieces(body):
        if isinstance(node, nodes.TemplateData):
            tokens = max(1, round(len(node.data) / CHARS_PER_TOKEN))
            pieces.append(SegmentSpec(key=digest(node.data), tokens=tokens, role=role))
        elif _is_own(node):
            break
        else:
            pieces.append(SegmentSpec(key=digest(repr(node)), path=_path(node), scoped=True, role=role))
    return pieces


def is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


def common(lists: Sequence[Sequence[SegmentSpec]]) -> list[SegmentSpec]:
    """The leading pieces that all lists share."""
    shared: list[SegmentSpec] = []
    for column in zip(*lists, strict=False):
        if any(piece != column[0] for piece in column):
            break
        shared.append(column[0])
    return shared


def _pieces(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    for node in body:
        if isinstance(node, nodes.Output):
            yield from node.nodes
        else:
            yield node


def _is_own(node: nodes.Node) -> bool:
    """Whether an expression means another text in another task instance of the run."""
    return any(name.name in _OF_THE_INSTANCE and not _is_pull(node, name) for name in _names(node))


def _names(node: nodes.Node) -> Iterator[nodes.Name]:
    if isinstance(node, nodes.Name):
        yield node
    yield from node.find_all(nodes.Name)


def _is_pull(node: nodes.Node, name: nodes.Name) -> bool:
    """``ti.xcom_pull(task_ids=...)`` names whose value it wants, so it is the same for all who ask."""
    calls = [node, *node.find_all(nodes.Call)]
    return any(
        isinstance(call, nodes.Call)
        and isinstance(call.node, nodes.Getattr)
        and call.node.attr == "xcom_pull"
        and call.node.node is name
        and (call.args or any(keyword.key == "task_ids" for keyword in call.kwargs))
        for call in calls
    )


def _path(node: nodes.Node) -> tuple[str, ...]:
    """``dag_run.conf["document"]`` as ("dag_run", "conf", "document"); empty for anything but a plain look-up."""
    names: list[str] = []
    while True:
        match node:
            case nodes.Getattr(node=inner, attr=name):
                names.append(name)
                node = inner
            case nodes.Getitem(node=inner, arg=nodes.Const(value=str(name))):
                names.append(name)
                node = inner
            case nodes.Name(name=root) if root in _PATH_ROOTS:
                return (root, *reversed(names))
            case _:
                return ()
