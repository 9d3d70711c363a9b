"""Several processes on one page: each is asked once a second, and all answers make one status.

A process that does not answer keeps its place: what it reported last is shown as unknown, with its
age, and never as if it were still so, whether it fails or only takes its time. Each is asked by
threads of its own, so that one that hangs delays nobody. Orders go on to the processes that read
the link, with the token that came with them; this process holds no credentials and no configuration
of tables.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any, TypeAlias, TypeGuard
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
ANSWER_WITHIN_S = 3.0
STALE_AFTER_S = 5.0
"""Longer than a process takes that answers in time, be it only just."""
ERRORS = range(400, 600)
"""The statuses of HTTP that refuse something; others are not passed on as such."""
UNREACHABLE = "unreachable"
_WORST_FIRST = ("failed", "degraded", "ok")
_NO_EXPOSURE: Document = {"seconds": None, "records": None}
_VEILED_PIPELINE: Document = {
    "state": "unknown",
    **dict.fromkeys(("unsettled", "in_flight", "stuck")),
    **dict.fromkeys(("checkpoint_age_s", "heartbeat_age_s")),
    "exposure": _NO_EXPOSURE,
}
_VEILED_LINK: Document = {
    "state": "unknown",
    **dict.fromkeys(("applied", "pending", "stuck", "backlog_age_s")),
    **dict.fromkeys(("heartbeat_age_s", "heartbeat_latency_ms")),
    "latency_ms": {"p50": None, "p99": None},
    "exposure": _NO_EXPOSURE,
}
"""What is of the moment it was said in; `applied` too, for a rate is made of it."""


@dataclass(slots=True)
class _Seen:
    """What one process said last and when, by the monotonic clock, and what went wrong since."""

    status: Document | None = None
    answered_s: float | None = None
    error: str | None = "not asked yet"

    def trouble(self, now_s: float) -> str | None:
        """Why what was said last does not tell what is now; None if it does."""
        age_s = self.age_s(now_s)
        if self.error is None and age_s is not None and age_s > STALE_AFTER_S:
            return f"has said nothing for more than {STALE_AFTER_S:.0f} s"
        return self.error

    def age_s(self, now_s: float) -> float | None:
        """How long ago it answered."""
        return None if self.answered_s is None else max(0.0, now_s - self.answered_s)


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
            seen.status, seen.answered_s, seen.error = status, self.clock.monotonic_s(), None

    def document(self) -> dict[str, Any]:
        """One status over all processes."""
        now_s = self.clock.monotonic_s()
        troubled = {name: seen.trouble(now_s) for name, seen in self._seen.items()}
        known = [(seen.status or {}, troubled[name]) for name, seen in self._seen.items()]
        states = {"degraded" if trouble else str(status["state"]) for status, trouble in known}
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_us": self._started_us,
            "now_us": self.clock.now_us(),
            "state": next((state for state in _WORST_FIRST if state in states), "ok"),
            "exposure": _merged_exposure(known),
            "processes": [
                _process(name, seen, seen.age_s(now_s), troubled[name])
                for name, seen in self._seen.items()
            ],
            "pipelines": [
                pipeline if trouble is None else _veiled(pipeline)
                for status, trouble in known
                for pipeline in status.get("pipelines", ())
            ],
        }

    def silent(self) -> list[str]:
        """The processes of which nothing is known at present."""
        now_s = self.clock.monotonic_s()
        return [name for name, seen in self._seen.items() if seen.trouble(now_s)]

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


def _process(name: str, seen: _Seen, age_s: float | None, trouble: str | None) -> dict[str, Any]:
    status = seen.status or {}
    return {
        "name": name,
        "state": UNREACHABLE if trouble else status.get("state"),
        "age_s": age_s,
        "error": trouble,
        "version": status.get("version"),
        "pid": status.get("pid"),
    }


def _veiled(pipeline: Document) -> Document:
    """A pipeline of which nothing is known any more but that there is one."""
    links = [{**link, **_VEILED_LINK} for link in pipeline.get("links", ())]
    return {**pipeline, **_VEILED_PIPELINE, "links": links}


def _merged_exposure(known: Iterable[tuple[Document, str | None]]) -> dict[str, Any]:
    """By region the worst that any process reports; unknown is worse than any figure."""
    merged: dict[str, dict[str, Any]] = {}
    for status, trouble in known:
        for region, found in (status.get("exposure") or {}).items():
            figures = _NO_EXPOSURE if trouble else (found or _NO_EXPOSURE)
            standing = merged.get(region, figures)
            merged[region] = {
                name: _worse(standing.get(name), figures.get(name)) for name in _NO_EXPOSURE
            }
    return merged


def _worse(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def merged_conflicts(answers: Mapping[str, object], limit: int) -> dict[str, Any]:
    """The newest conflicts of several processes, by what each has answered.

    `total` is how many there were in all, and unknown as soon as one process is `missing`, which
    names those that gave no answer. `recorded` is there, and false, if none of the others keeps
    any.
    """
    found = {name: answer for name, answer in answers.items() if _tells_conflicts(answer)}
    missing = [name for name in answers if name not in found]
    missing += [each for answer in found.values() for each in answer.get("missing", ())]
    conflicts = [conflict for answer in found.values() for conflict in answer["conflicts"]]
    conflicts.sort(key=lambda conflict: conflict["at_us"], reverse=True)
    totals = [answer.get("total") for answer in found.values()]
    kept = [answer.get("recorded") is not False for answer in found.values()]
    return {
        "total": None if missing or None in totals else sum(totals),
        "conflicts": conflicts[:limit],
        "missing": missing,
        **({"recorded": False} if kept and not any(kept) else {}),
    }


def _tells_conflicts(answer: object) -> TypeGuard[dict[str, Any]]:
    """Whether an answer has the shape of one to this question; it comes from outside."""
    if not isinstance(answer, dict):
        return False
    total, conflicts, missing = (answer.get(name) for name in ("total", "conflicts", "missing"))
    return (
        isinstance(total, int | None)
        and isinstance(conflicts, list)
        and all(isinstance(each, dict) and type(each.get("at_us")) is int for each in conflicts)
        and isinstance(missing, list | None)
    )


class Gatherer:
    """Asks the processes behind a gathering, and passes orders on to them."""

    def __init__(self, *, gathering: Gathering, authorization: str | None) -> None:
        """`authorization`: shown to processes that want a token before they tell anything."""
        self._gathering = gathering
        self._authorization = authorization
        self._lookers = {name: ThreadPoolExecutor(1) for name in gathering.names}
        self._askers = {name: ThreadPoolExecutor(1) for name in gathering.names}

    def close(self) -> None:
        """Ask no more; what is under way has its deadline."""
        for threads in (*self._lookers.values(), *self._askers.values()):
            threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, stop: asyncio.Event) -> None:
        """Ask every process again and again until `stop` is set."""
        async with asyncio.TaskGroup() as group:
            for url in self._gathering.names:
                group.create_task(self._keep_asking(url, stop))

    async def _keep_asking(self, url: str, stop: asyncio.Event) -> None:
        look = partial(inquire, url, authorization=self._authorization, within_s=ANSWER_WITHIN_S)
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            report = await loop.run_in_executor(self._lookers[url], look)
            self._gathering.note(url, report.status, report.error)
            await first_of(asyncio.sleep(ASK_EVERY_S), stop.wait())

    async def conflicts(self, limit: int) -> Document:
        """The newest conflicts that those who answer know of."""
        silent, path = self._gathering.silent(), f"/api/conflicts?limit={limit}"
        asked = [url for url in self._gathering.names if url not in silent]
        answers = await asyncio.gather(
            *(self._ask(url, path, authorization=self._authorization) for url in asked),
            return_exceptions=True,
        )
        answered = dict(zip(asked, answers, strict=True))
        return merged_conflicts({url: answered.get(url) for url in self._gathering.names}, limit)

    async def switch(self, order: Order, authorization: str | None) -> int:
        """Pass an order on to every process that it concerns; they judge the token."""
        urls = self._gathering.readers(order.table, order.source)
        if not urls:
            raise Refused(404, "no process that answers reads such a link")
        return sum([await self._pass_on(url, order, authorization) for url in urls])

    async def _pass_on(self, url: str, order: Order, authorization: str | None) -> int:
        body = order.model_dump(exclude_none=True)
        try:
            answer = await self._ask(url, "/api/pause", authorization=authorization, body=body)
            return int(answer["links"])
        except HTTPError as error:
            status = error.code if error.code in ERRORS else 502
            raise Refused(status, f"refused by {url} with status {error.code}") from None
        except (OSError, HTTPException):
            raise Refused(502, f"{url} does not answer") from None
        except (ValueError, TypeError, LookupError):
            raise Refused(502, f"{url} answers, but not what was done") from None

    async def _ask(
        self, url: str, path: str, *, authorization: str | None, body: object = None
    ) -> Any:
        """Ask by a thread that no other process is asked by. Raises: as inquiry.ask does."""
        asking = partial(
            ask, url, path, authorization=authorization, body=body, within_s=ANSWER_WITHIN_S
        )
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(2 * ANSWER_WITHIN_S):  # others may have asked before
            return await loop.run_in_executor(self._askers[url], asking)


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
    with closing(gatherer):
        async with asyncio.TaskGroup() as group:
            group.create_task(serve_on(app, listener, stop))
            group.create_task(gatherer.run(stop))
