"""`replicator quarantine`: list, show, replay and drop what could not be applied.

Parked changes lie in the control table of their source region. A list holds no item data: a key is
named by its digest, as its row is. What an item held is shown only when it is asked for.

A region that does not answer is told, and what the others hold is dealt with all the same; so it
is with one change that cannot be read, or not be brought to its target. The exit status is then 1.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from replicator.clock import SystemClock
from replicator.compose import DAY_S, HOME_SLACK_US, fence_of, region_port
from replicator.control import digest
from replicator.errors import ConfigurationError, ReplicatorError, suggestion
from replicator.ports import Api, Clock
from replicator.preflight import ANSWER_WITHIN_S, Connect, remedy, unanswered
from replicator.quarantine.replay import End, Replay
from replicator.records import Parked, ParkedNote
from replicator.settings import Settings
from replicator.show import plain
from replicator.table import describe_table
from replicator.verify.patience import Patience
from replicator.waiting import Quarantine
from replicator.writer import Writer, WriterLimits

DONE, NOT_WELL = 0, 1

TEXTS: Mapping[End, str] = {
    End.APPLIED: "applied; taken out",
    End.SUPERSEDED: "something newer stands or is on its way; taken out",
    End.REFUSED: "refused again; stays",
    End.TOO_OLD: "older than deletes are remembered; stays: run `replicator verify --repair` for "
    "its table, then drop it",
    End.UNREADABLE: "its record cannot be made again; stays: run `replicator verify --repair` for "
    "its table, then drop it",
}

PARKED_ANEW = "a newer change of this key was parked meanwhile; that one stays"

FAILED = "failed"
"""How a replay ended that an error cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which parked changes are meant; what is left out is any. `key`: a digest's beginning."""

    table: str | None = None
    source: str | None = None
    target: str | None = None
    key: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing is left out of it."""
        return not (self.table or self.source or self.target or self.key)

    def means(self, note: ParkedNote) -> bool:
        """Whether a parked change is meant."""
        return (
            self.target in (None, note.target)
            and self.source in (None, note.source)
            and digest(note.key).startswith(self.key or "")
        )


def checked(choice: Choice, settings: Settings) -> Choice:
    """A choice that the configuration can meet. Raises: ConfigurationError."""
    if choice.table is not None and choice.table not in settings.tables:
        text = suggestion(choice.table, settings.tables)
        raise ConfigurationError(f'--table: "{choice.table}" is no table; {text}')
    for option, region in (("--source", choice.source), ("--target", choice.target)):
        if region is not None and region not in settings.regions:
            text = suggestion(region, settings.regions)
            raise ConfigurationError(f'{option}: "{region}" is no region; {text}')
    if choice.key is not None and not set(choice.key) <= set("0123456789abcdef"):
        raise ConfigurationError("--key: give the digest that `replicator quarantine list` prints")
    return choice


@dataclass(slots=True, kw_only=True)
class Desk:
    """The quarantines of some regions. `unreached`: what is wrong with those that do not answer."""

    settings: Settings
    connect: Connect
    choice: Choice
    unreached: dict[str, str] = field(default_factory=dict)
    _apis: dict[str, Api] = field(default_factory=dict)

    def api(self, region: str) -> Api:
        """A region's endpoint, opened once."""
        if region not in self._apis:
            self._apis[region] = self.connect(region)
        return self._apis[region]

    async def notes(self) -> list[ParkedNote]:
        """What is parked and meant, the oldest first."""
        places = [
            (table, source)
            for table, entry in self.settings.tables.items()
            if self.choice.table in (None, table)
            for source in entry.sources
            if self.choice.source in (None, source)
        ]
        found = await asyncio.gather(*(self._of(table, source) for table, source in places))
        meant = [note for notes in found for note in notes if self.choice.means(note)]
        return sorted(meant, key=lambda note: note.parked_us)

    async def _of(self, table: str, source: str) -> list[ParkedNote]:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                notes = await self.quarantine(source).notes(table)
        except TimeoutError:
            self.unreached[source] = f"region {source}: no answer; check endpoint_url"
        except ReplicatorError as error:
            self.unreached[source] = unanswered(source, error).line
        else:
            return [note for note in notes if note.source == source]
        return []

    def quarantine(self, source: str) -> Quarantine:
        """The quarantine of a source region."""
        return Quarantine(api=self.api(source), control_table=self.settings.control_table)

    def complain(self) -> int:
        """Tell which regions did not answer; returns the exit status for it."""
        for line in self.unreached.values():
            sys.stderr.write(f"replicator: {line}\n")
        return NOT_WELL if self.unreached else DONE


def list_parked(desk: Desk, *, as_json: bool) -> int:
    """Say what is parked, without what it holds."""
    notes = asyncio.run(desk.notes())
    if as_json:
        _print(json.dumps([note_document(note) for note in notes], indent=2))
    else:
        for note in notes:
            _print(_line(note))
        _print(f"{'at least ' if desk.unreached else ''}{len(notes):,} parked")
    return desk.complain()


def show_parked(desk: Desk, *, image: bool, as_json: bool) -> int:
    """Say all of what is meant; with `image` its key and what it holds as well."""
    documents = asyncio.run(_show(desk, image=image))
    if as_json:
        _print(json.dumps(documents, indent=2))
    for document in () if as_json else documents:
        for name, value in document.items():
            text = value if isinstance(value, str) else json.dumps(value)
            _print(plain(f"{name:12} {text}"))
        _print("")
    unread = any("error" in document for document in documents)
    return desk.complain() or (NOT_WELL if unread else DONE)


async def _show(desk: Desk, *, image: bool) -> list[dict[str, Any]]:
    documents = []
    for note in _some(await desk.notes(), desk):
        try:
            parked = await desk.quarantine(note.source).get(note)
        except ReplicatorError as error:
            documents.append({**note_document(note), "error": str(error)})
            continue
        if parked is not None:
            documents.append(parked_document(parked, image=image))
    return documents


def replay_parked(desk: Desk, *, as_json: bool) -> int:
    """Make what is meant again, and take out what has served."""
    documents = asyncio.run(_replay(desk, tell=None if as_json else _print))
    if as_json:
        _print(json.dumps(documents, indent=2))
    left = any(not document["dealt_with"] for document in documents)
    return desk.complain() or (NOT_WELL if left else DONE)


async def _replay(desk: Desk, tell: Callable[[str], None] | None) -> list[dict[str, Any]]:
    clock = SystemClock()
    replays: dict[tuple[str, str], Replay] = {}
    documents = []
    for note in _some(await desk.notes(), desk):
        try:
            fields = await _replay_one(desk, note, replays, clock)
        except ReplicatorError as error:
            text = f"not made again: {error}; stays"
            fields = {"end": FAILED, "dealt_with": False, "text": text, "error": str(error)}
        if fields is None:
            continue  # somebody else has dealt with it
        if tell:
            tell(plain(f"{_line(note)}: {fields['text']}"))
        documents.append({**note_document(note), **fields})
    return documents


async def _replay_one(
    desk: Desk, note: ParkedNote, replays: dict[tuple[str, str], Replay], clock: Clock
) -> dict[str, Any] | None:
    """What became of one change, None where it is parked no more. `replays`: those made so far."""
    quarantine = desk.quarantine(note.source)
    parked = await quarantine.get(note)
    if parked is None:
        return None
    place = (note.table, note.source)
    if place not in replays:
        replays[place] = await _replay_of(desk, *place, clock)
    replayed = await replays[place].run(parked, clock.now_us())
    dealt_with = replayed.end.is_dealt_with and await quarantine.remove(parked)
    text = f"{TEXTS[replayed.end]}{f': {replayed.reason}' if replayed.reason else ''}"
    if replayed.end.is_dealt_with and not dealt_with:
        text = PARKED_ANEW
    return {"end": replayed.end.value, "dealt_with": dealt_with, "text": text, "error": None}


async def _replay_of(desk: Desk, table: str, source: str, clock: Clock) -> Replay:
    settings = desk.settings
    entry = settings.tables[table]
    bound_us = int(settings.future_bound_s * 1e6)
    apis: dict[str, Api] = {region: desk.api(region) for region in entry.members}
    description = await describe_table(apis[source], settings.table_name(table, source))
    writer = Writer(
        regions={
            region: region_port(
                settings,
                table,
                region,
                api,
                tuple(description.key_schema),
                clock=clock,
                bound_us=bound_us + (HOME_SLACK_US if region == source else 0),
                fence=fence_of(settings, table, source, region, api),
            )
            for region, api in apis.items()
        },
        limits=WriterLimits(),
        observer=Patience(clock),
        sleep=asyncio.sleep,
        rng=Random(),
    )
    return Replay(
        mode=entry.mode,
        writer=writer,
        targets_of=entry.targets_of,
        tombstone_us=int(settings.tombstone_days * DAY_S * 1e6),
    )


def drop_parked(desk: Desk, *, confirmed: bool, as_json: bool) -> int:
    """Give up what is meant, once a person has said so."""
    dropped, staying = asyncio.run(_drop(desk, confirmed=confirmed))
    if as_json:
        _print(json.dumps([note_document(note) for note in dropped], indent=2))
    else:
        _print(f"{len(dropped):,} dropped")
    for line in staying:
        sys.stderr.write(f"replicator: {line}\n")
    return desk.complain() or (NOT_WELL if staying else DONE)


async def _drop(desk: Desk, *, confirmed: bool) -> tuple[list[ParkedNote], list[str]]:
    """What was given up, and a line for each change that was not."""
    notes = _some(await desk.notes(), desk)
    dropped: list[ParkedNote] = []
    staying: list[str] = []
    if not confirmed and not _agrees(notes):
        return dropped, staying
    for note in notes:
        quarantine = desk.quarantine(note.source)
        try:
            if await quarantine.remove(note):
                dropped.append(note)
            elif await quarantine.get(note) is not None:  # else somebody else has dealt with it
                staying.append(plain(f"{_line(note)}: {PARKED_ANEW}"))
        except ReplicatorError as error:
            staying.append(plain(f"{_line(note)}: not dropped: {error}; {remedy(error)}"))
    return dropped, staying


def _agrees(notes: Sequence[ParkedNote]) -> bool:
    """Ask whoever sits at the terminal. Raises: ConfigurationError where nobody does."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError("quarantine drop: gives changes up for good; confirm with --yes")
    for note in notes:
        _print(_line(note))
    sys.stdout.write(f"Give up {len(notes):,} for good? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _some(notes: list[ParkedNote], desk: Desk) -> list[ParkedNote]:
    """Raises: ConfigurationError where a key was named and none is found."""
    if not notes and desk.choice.key is not None and not desk.unreached:
        raise ConfigurationError(
            f"--key: nothing is parked under {desk.choice.key}; see `replicator quarantine list`"
        )
    return notes


def note_document(note: ParkedNote) -> dict[str, Any]:
    """A parked change without item data."""
    return {
        "table": note.table,
        "source": note.source,
        "target": note.target,
        "key": digest(note.key),
        "version": note.version.text,
        "parked_us": note.parked_us,
        "reason": note.reason,
    }


def parked_document(parked: Parked, *, image: bool) -> dict[str, Any]:
    """A parked change, with `image` its key and content as well."""
    document = note_document(parked)
    if parked.image_omitted:
        document["holds"] = "an item whose image left no room; it is read from the source"
    elif parked.image is None:
        document["holds"] = "a delete" if not parked.at_home or parked.nature else "nothing"
    else:
        document["holds"] = f"an item of {len(parked.image)} attributes"
    document["refused_by"] = "the source, when it was stamped" if parked.at_home else parked.target
    if image:
        document["item_key"] = _readable(parked.key.attributes)
        document["image"] = _readable(parked.image)
    return document


def _readable(value: Any) -> Any:
    """A wire form for JSON: binaries as base64, as AWS's own tools print them."""
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {name: _readable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    return value


def _line(note: ParkedNote) -> str:
    where = f"{note.table} {note.source} → {note.target}"
    return plain(f"{digest(note.key)}  {where}  {note.version.text}  {note.reason}")


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
