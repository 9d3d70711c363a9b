"""Every place where a replicator talks to the outside, numbered, and the faults that hit it there.

The places of the protocol are read from its sources: each way down the generators to an operation
that is yielded, so that a new call makes a new point and none can be forgotten. Those around it
(the stream's description, a page, a checkpoint) are the simulator's own, one of each.

    settle > _settle_delete > bury > take_out: Stamp
    deliver > bring: Put #2                              the second Put of that function
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from types import GeneratorType
from typing import Protocol

import conflict.merge
import conflict.one_way
import conflict.protocol
from conflict.merge import Steps
from replicator.records import Mode
from replicator.tasks import PLANS

DESCRIBE, PAGE, SAVE_HOME = "describe", "page", "checkpoint at home"
SAVE, SAVE_END = "checkpoint", "checkpoint of an ended shard"
AROUND = (DESCRIBE, PAGE, SAVE_HOME, SAVE, SAVE_END)
"""The calls that no protocol step makes."""

_MODULES = (conflict.merge, conflict.one_way, conflict.protocol)

_PUTS_BACK = ("_decide_held", "_settle_expiry > _decide_held", "_settle_put > _adopt > _put_back")

UNREACHABLE: Mapping[Mode, Mapping[str, str]] = {
    Mode.MULTI_WRITER: {
        **{f"settle > {way} > bring: Put": "what is put back looks first" for way in _PUTS_BACK},
        "deliver > bring: Get": "only what is put back looks first",
    },
    Mode.ONE_WAY: {"release: Release": "nothing is held where the source is never written to"},
}
"""Ways that the sources show and that no run can take, each with its reason."""


class Moment(StrEnum):
    """When a fault hits a call."""

    BEFORE = "before"
    """The process dies, and the call is not made."""
    AFTER = "after"
    """The call takes effect, and the process dies before it knows."""
    LOST = "answer lost"
    """The call takes effect, its answer never comes, and the process lives on."""
    OVERTAKEN = "overtaken"
    """A second process takes over, and the first goes on with the call and all that follows."""


class Probe(Protocol):
    """Is asked at each point, every time it is reached, whether a fault is due."""

    def at(self, point: str) -> Moment | None: ...


@cache
def points(mode: Mode) -> tuple[str, ...]:
    """Every point of a kind of table, in the order of the sources."""
    plan = PLANS[mode]
    ways = [
        way
        for root in (plan.settle, plan.deliver, plan.release)
        for way in _ways(root.__name__)
        if way not in UNREACHABLE[mode]
    ]
    return (*ways, *AROUND)


def moments(point: str) -> tuple[Moment, ...]:
    """The faults that can hit a point. Calls around the protocol are not left to the dead."""
    return tuple(m for m in Moment if m is not Moment.OVERTAKEN or point not in AROUND)


def point_of(steps: Steps[object]) -> str:
    """The point at which the steps are stopped."""
    names: list[str] = []
    inner: object = steps
    while isinstance(inner, GeneratorType):
        assert inner.gi_frame is not None, "the steps are over"
        names.append(inner.gi_code.co_name)
        line = inner.gi_frame.f_lineno
        inner = inner.gi_yieldfrom
    return f"{' > '.join(names)}: {_sites()[names[-1], line]}"


def _ways(function: str) -> Iterator[str]:
    """Every way from a function down to an operation."""
    made, called = _functions()[function]
    yield from (f"{function}: {name}" for name in dict.fromkeys(made.values()))
    for inner in dict.fromkeys(called):
        yield from (f"{function} > {way}" for way in _ways(inner))


@cache
def _functions() -> Mapping[str, tuple[Mapping[int, str], tuple[str, ...]]]:
    """By function: the operations that it yields, by line, and the functions it yields from."""
    found: dict[str, tuple[Mapping[int, str], tuple[str, ...]]] = {}
    for module in _MODULES:
        for function in ast.parse(inspect.getsource(module)).body:
            if isinstance(function, ast.FunctionDef):
                assert function.name not in found
                found[function.name] = (_yielded(function), tuple(_called(function)))
    return found


def _yielded(function: ast.FunctionDef) -> Mapping[int, str]:
    """The operations that a function yields, by line; later ones of a kind are numbered."""
    seen: Counter[str] = Counter()
    found: dict[int, str] = {}
    yields = [node for node in ast.walk(function) if isinstance(node, ast.Yield)]
    for node in sorted(yields, key=lambda node: node.lineno):
        assert isinstance(node.value, ast.Call)
        kind = ast.unparse(node.value.func)
        seen[kind] += 1
        found[node.lineno] = kind if seen[kind] == 1 else f"{kind} #{seen[kind]}"
    return found


def _called(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.YieldFrom):
            assert isinstance(node.value, ast.Call)
            yield ast.unparse(node.value.func)


@cache
def _sites() -> Mapping[tuple[str, int], str]:
    """The operations by function and line."""
    return {
        (function, line): kind
        for function, (made, _) in _functions().items()
        for line, kind in made.items()
    }
