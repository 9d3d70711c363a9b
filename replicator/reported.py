"""The shape of a status that another process reports, as far as anybody here relies on it.

What comes over the network may be anything: another program's answer, a newer version's, or one
that was made to do harm. It is taken as a whole or not at all, so that nobody behind this has to
ask of each field whether it is there. More fields than are named here are welcome.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

WHOLE_MAX = 2**53
"""What a browser takes for a whole number. Source: ECMA-262, Number.MAX_SAFE_INTEGER."""

Count = Annotated[int, Field(ge=0, le=WHOLE_MAX)]
Figure = Annotated[float, Field(ge=0, le=WHOLE_MAX, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=255)]


class _Reported(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Latency(_Reported):
    p50: Figure | None
    p99: Figure | None


class _Exposure(_Reported):
    seconds: Figure | None
    records: Count | None


class _Link(_Reported):
    target: Name
    state: Name
    error: str | None
    applied: Count | None
    removed: Count
    retries: Count
    quarantined: Count
    pending: Count | None
    backlog_age_s: Figure | None
    heartbeat_age_s: Figure | None = None
    latency_ms: _Latency


class _Records(_Reported):
    conflicts: Count


class _Gap(_Reported):
    reason: str


class _Pipeline(_Reported):
    table: Name
    source: Name
    state: Name
    error: str | None
    heartbeat_error: str | None = None
    gap: _Gap | None
    records: _Records
    links: list[_Link]


class _Ledger(_Reported):
    unwritten: Count
    error: str | None


class _Status(_Reported):
    version: Name
    pid: Count
    now_us: Count
    state: Literal["ok", "degraded", "failed"]
    exposure: dict[Name, _Exposure] = Field(default_factory=dict)
    ledger: dict[Name, _Ledger] = Field(default_factory=dict)
    pipelines: list[_Pipeline]


def fault_of(status: Mapping[str, Any]) -> str | None:
    """What is wrong with a status that was reported, in one line; None if it can be relied on."""
    try:
        _Status.model_validate(status)
        json.dumps(status, allow_nan=False, ensure_ascii=False).encode()  # it is to be passed on
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    except (ValueError, RecursionError):
        return "holds what is no JSON"
    return None
