"""Several processes on one page: each is asked once a second, and all answers make one status.

A process that does not answer keeps its place: what it reported last is shown as unknown, with its
age, and never as if it were still so. Each is asked by a task of its own, so that one that hangs
delays nobody. Orders go on to the processes that read the link, with the token that came with them;
this process holds no credentials and no configuration of tables.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any, TypeAlias
from urllib.error import HTTPError

from replicator import __version__
from replicator.clock import SystemClock
from replicator.dashboard.access import Access
from replicator.dashboard.app import create_app
from replicator.dashboard.serving import listen, serve_on
from replicator.dashboard.switch import Order, Refused
from replicator.inquiry import ask, checked_url, inquire
from replicator.ports import Clock
from replicator.settings import HttpSettings
from replicator.writer import first_of

Document: TypeAlias = Mapping[str, Any]

ASK_EVERY_S = 1.0
UNREACHABLE = "unreachable"
_WORST_FIRST = ("failed", "degraded", "ok")


@dataclass(slots=True)
class _Seen:
    """What one process said last, and what went wrong since."""

    status: Document | None = None
    answered_us: int | None = None
    error: str | None = "not asked yet"


@dataclass(slots=True, kw_only=True)
class Gathering:
    """What several processes say, by name, as one status document."""

    names: Sequence[str]
    clock: Clock
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _started_us: int = 0

    def __post_init__(self) -> None:
        self._seen = {name: _Seen() for name in self.names}
        self._started_us = self.clock.now_us()

    def note(self, name: str, status: Document | None, error: str | None = None) -> None:
        """A process has answered, or has not."""
        seen = self._seen[name]
        if status is None:
            seen.error = error or "does not answer"
        else:
            seen.status, seen.answered_us, seen.error = status, self.clock.now_us(), None

    def document(self) -> dict[str, Any]:
        """One status over all processes."""
        now_us = self.clock.now_us()
        states = {
            "degraded" if seen.error or seen.status is None else str(seen.status["state"])
            for seen in self._seen.values()
        }
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_us": self._started_us,
            "now_us": now_us,
            "state": next((state for state in _WORST_FIRST if state in states), "ok"),
            "exposure": _merged_exposure(self._seen.values()),
            "processes": [_process(name, seen, now_us) for name, seen in self._seen.items()],
            "pipelines": [
                pipeline if seen.error is None else _veiled(pipeline)
                for seen in self._seen.values()
                for pipeline in (seen.status or {}).get("pipelines", ())
            ],
        }

    def readers(self, table: str, source: str | None) -> list[str]:
        """The processes that read a table out of a region (None: out of any)."""
        return [
            name
            for name, seen in self._seen.items()
            if any(
                pipeline["table"] == table and source in (None, pipeline["source"])
                for pipeline in (seen.status or {}).get("pipelines", ())
            )
        ]


def _process(name: str, seen: _Seen, now_us: int) -> dict[str, Any]:
    status = seen.status or {}
    return {
        "name": name,
        "state": UNREACHABLE if seen.error else status.get("state"),
        "age_s": None if seen.answered_us is None else max(0, now_us - seen.answered_us) / 1e6,
        "error": seen.error,
        "version": status.get("version"),
        "pid": status.get("pid"),
    }


def _veiled(pipeline: Document) -> Document:
    """A pipeline of which nothing is known any more but that there is one."""
    links = [
        {
            **link,
            "state": "unknown",
            "pending": None,
            "backlog_age_s": None,
            "latency_ms": {"p50": None, "p99": None},
        }
        for link in pipeline.get("links", ())
    ]
    return {**pipeline, "state": "unknown", "unsettled": None, "links": links}


def _merged_exposure(seen: Iterable[_Seen]) -> dict[str, Any] | None:
    """By region the worst that any process reports; unknown is worse than any figure."""
    merged: dict[str, dict[str, Any]] = {}
    told = False
    for each in seen:
        exposure = (each.status or {}).get("exposure")
        told = told or exposure is not None
        for region, found in (exposure or {}).items():
            known = {} if each.error else (found or {})
            standing = merged.get(region)
            merged[region] = {
                name: known.get(name)
                if standing is None
                else _worse(standing[name], known.get(name))
                for name in ("seconds", "records")
            }
    return merged if told else None


def _worse(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def merged_conflicts(documents: Iterable[Document], limit: int) -> dict[str, Any]:
    """The newest conflicts of several processes, and how many there were in all."""
    found = list(documents)
    conflicts = [conflict for document in found for conflict in document.get("conflicts", ())]
    conflicts.sort(key=lambda conflict: conflict.get("at_us") or 0, reverse=True)
    total = sum(int(document.get("total") or 0) for document in found)
    return {"total": total, "conflicts": conflicts[:limit]}


@dataclass(slots=True, kw_only=True)
class Gatherer:
    """Asks the processes behind a gathering, and passes orders on to them."""

    gathering: Gathering
    authorization: str | None
    """What is shown to processes that want a token before they tell anything."""

    async def run(self, stop: asyncio.Event) -> None:
        """Ask every process again and again until `stop` is set."""
        async with asyncio.TaskGroup() as group:
            for url in self.gathering.names:
                group.create_task(self._keep_asking(url, stop))

    async def _keep_asking(self, url: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            report = await asyncio.to_thread(inquire, url, authorization=self.authorization)
            self.gathering.note(url, report.status, report.error)
            await first_of(asyncio.sleep(ASK_EVERY_S), stop.wait())

    async def conflicts(self, limit: int) -> Document:
        """The newest conflicts that those who answer know of."""
        asked = (
            asyncio.to_thread(
                ask, url, f"/api/conflicts?limit={limit}", authorization=self.authorization
            )
            for url in self.gathering.names
        )
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return merged_conflicts((each for each in answers if isinstance(each, dict)), limit)

    async def switch(self, order: Order, authorization: str | None) -> int:
        """Pass an order on to every process that it concerns; they judge the token."""
        urls = self.gathering.readers(order.table, order.source)
        if not urls:
            raise Refused(404, "no process that answers reads such a link")
        return sum([await self._pass_on(url, order, authorization) for url in urls])

    async def _pass_on(self, url: str, order: Order, authorization: str | None) -> int:
        body = order.model_dump(exclude_none=True)
        send = partial(ask, url, "/api/pause", authorization=authorization, body=body)
        try:
            answer = await asyncio.to_thread(send)
        except HTTPError as error:
            raise Refused(error.code, f"refused by {url} with status {error.code}") from None
        except (OSError, HTTPException, ValueError):
            raise Refused(502, f"{url} does not answer") from None
        return int(answer["links"])


def run_dashboard(
    *, urls: Sequence[str], http: HttpSettings, port: int, announce: Callable[[str], None]
) -> int:
    """Serve the page of several processes until a signal says stop; returns the exit status.

    Raises: ConfigurationError for a URL that is none, or an address that cannot be had.
    """
    checked = [checked_url(url) for url in dict.fromkeys(urls)]
    with listen(http.host, port) as listener:
        announce(http.model_copy(update={"port": port}).url)
        asyncio.run(_run(checked, http, listener))
    return 0


async def _run(urls: Sequence[str], http: HttpSettings, listener: socket.socket) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gathering = Gathering(names=urls, clock=SystemClock())
    gatherer = Gatherer(gathering=gathering, authorization=http.authorization)
    app = create_app(
        gathering.document,
        access=Access(host=http.host, names=http.names, token=http.secret),
        conflicts=gatherer.conflicts,
        switch=gatherer.switch,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_on(app, listener, stop))
        group.create_task(gatherer.run(stop))
