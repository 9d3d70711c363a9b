"""What the replicators say of themselves, asked over HTTP.

The demo shows these figures and waits by them, but does not judge by them: the verdict comes from
the tables (compare.py) and from the applications' own journal.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from replicator.demo.world import LOOPBACK

Status: TypeAlias = Mapping[str, Any]
"""An /api/status document."""
Statuses: TypeAlias = Mapping[str, Status | None]
"""Of each region's replicator; None while it does not answer."""

TIMEOUT_S = 2.0


async def poll(ports: Mapping[str, int]) -> dict[str, Status | None]:
    """Ask every replicator at once."""
    answers = await asyncio.gather(*(asyncio.to_thread(fetch, port) for port in ports.values()))
    return dict(zip(ports, answers, strict=True))


def fetch(port: int, path: str = "/api/status") -> Status | None:
    """The JSON document at this address, None while nobody serves it."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        document: Status | None = json.load(answer) if answer.status == HTTPStatus.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        document = None  # not listening yet, or not any more; shown as "not answering"
    finally:
        connection.close()
    return document


def pipelines(statuses: Statuses) -> Iterator[Mapping[str, Any]]:
    """The pipelines of all replicators that answer."""
    for status in statuses.values():
        if status is not None:
            yield from status["pipelines"]


def links(statuses: Statuses) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Every link by (table, source, target)."""
    return {
        (pipeline["table"], pipeline["source"], link["target"]): link
        for pipeline in pipelines(statuses)
        for link in pipeline["links"]
    }


def running(statuses: Statuses) -> bool:
    """Whether every replicator answers and all of its pipelines run."""
    return bool(statuses) and all(
        status is not None
        and status["pipelines"]
        and all(pipeline["state"] == "running" for pipeline in status["pipelines"])
        for status in statuses.values()
    )


def idle(statuses: Statuses) -> bool:
    """Whether every replicator says that it has nothing more to do."""
    return running(statuses) and all(
        pipeline["unsettled"] == 0
        and all(link["pending"] == 0 and link["backlog_age_s"] == 0 for link in pipeline["links"])
        for pipeline in pipelines(statuses)
    )


def total(statuses: Statuses, counter: str) -> int:
    """A counter of the links, summed over all of them."""
    return sum(int(link[counter]) for link in links(statuses).values())


def total_records(statuses: Statuses, counter: str) -> int:
    """A counter of the records, summed over all pipelines."""
    return sum(int(pipeline["records"][counter]) for pipeline in pipelines(statuses))
