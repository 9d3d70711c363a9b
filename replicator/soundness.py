"""What no single key of a configuration is wrong about, but several together are.

Pure, and worded for the person who wrote the file: each finding names a key, what is wrong, and the
remedy. This module must not know how a value is parsed, nor what the regions hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from replicator import view
from replicator.endpoints import host_of, is_loopback, needs_no_leave, without_user
from replicator.errors import suggestion

if TYPE_CHECKING:
    from replicator.settings import RegionSettings, Settings, TableSettings

Finding: TypeAlias = tuple[tuple[str, ...], str]
"""The path of a key, and what is wrong with it."""

REGIONS_MIN = 2
"""Between fewer there is nothing to replicate."""


class Findings(ValueError):
    """Several findings at once."""

    def __init__(self, found: Iterable[Finding]) -> None:
        self.found = tuple(found)
        super().__init__("; ".join(f"{'.'.join(path)}: {text}" for path, text in self.found))


def contradictions(settings: Settings) -> Iterator[Finding]:
    """What no single key is wrong about, but several together are."""
    http = settings.http
    if not is_loopback(http.host) and http.token is None:
        remedy = "set http.token (or REPLICATOR_HTTP__TOKEN), or use 127.0.0.1"
        yield ("http", "host"), f'"{without_user(http.host)}" is open to others; {remedy}'
    if not settings.tables:
        yield ("tables",), "no table is named; add [tables.NAME]"
    for name, table in settings.tables.items():
        path = ("tables", name)
        wrong_shape = _wrong_shape(table)
        if wrong_shape is not None:
            yield path, wrong_shape
            continue
        for key, text in (
            *_wrong_members(table),
            *_unknown_regions(table, settings.regions),
            *view.contradictions(table.view, table.mode),
        ):
            yield (*path, key), text
    yield from _not_meant(settings)
    yield from _same_place(settings)
    yield from _claimed_twice(settings)


def _wrong_shape(table: TableSettings) -> str | None:
    one_way = table.source is not None or table.targets is not None
    if table.regions is not None and one_way:
        return "has regions as well as source or targets; drop regions unless every region writes"
    if table.regions is None and not one_way:
        return 'names no regions; add regions = ["…", "…"], or source = "…" and targets = ["…"]'
    if one_way and table.source is None:
        return 'has targets but no source; add source = "…"'
    if one_way and not table.targets:
        return 'has a source but no targets; add targets = ["…"]'
    return None


def _wrong_members(table: TableSettings) -> Iterator[tuple[str, str]]:
    key = "regions" if table.source is None else "targets"
    listed = (table.regions if table.source is None else table.targets) or ()
    for region in sorted({region for region in listed if listed.count(region) > 1}):
        yield key, f'"{region}" is listed more than once; list it once'
    if table.source is not None and table.source in listed:
        yield key, f'"{table.source}" is the source; remove it from the targets'
    if table.source is None and len(set(listed)) < REGIONS_MIN:
        yield key, "has fewer than two regions; nothing would be replicated; add another"
    for region in table.names:
        if region not in table.members:
            remedy = suggestion(region, table.members)
            yield "names", f'"{region}" is no region of this table; {remedy}'


def _unknown_regions(
    table: TableSettings, regions: Mapping[str, RegionSettings]
) -> Iterator[tuple[str, str]]:
    named = {
        "regions": table.regions or (),
        "source": () if table.source is None else (table.source,),
        "targets": table.targets or (),
    }
    for key, listed in named.items():
        for region in dict.fromkeys(listed):
            if region not in regions:
                remedy = suggestion(region, regions)
                yield key, f'"{region}" is no region; add [regions.{region}]; {remedy}'


def _not_meant(settings: Settings) -> Iterator[Finding]:
    """Endpoints that are neither AWS's nor this machine's, and that nobody has allowed."""
    for name, region in settings.regions.items():
        url = region.endpoint_url
        if url is None or needs_no_leave(url) or host_of(url) in settings.allowed_endpoints:
            continue
        host = host_of(url)
        text = f'"{host}" is neither AWS nor this machine; if data may go there, say so: '
        yield ("regions", name, "endpoint_url"), f'{text}allowed_endpoints = ["{host}"]'


def _place(region: RegionSettings) -> tuple[str | None, ...]:
    """What two regions must not have in common: they would share their tables."""
    return (region.endpoint_url, region.aws_region, region.profile, region.role_arn)


def _same_place(settings: Settings) -> Iterator[Finding]:
    first: dict[tuple[str | None, ...], str] = {}
    for name, region in settings.regions.items():
        other = first.setdefault(_place(region), name)
        if other != name:
            same = f'is the same endpoint, AWS region, profile and role as region "{other}"'
            yield ("regions", name), f"{same}, so both are one; change or remove this entry"


_SHARED = ({"source"}, {"source", "member"})
"""What one physical table may be to several entries. The source of a one-way table is only read. A
target may be nothing else besides, for two entries that write to each other's source are a ring."""


def _role(table: TableSettings, region: str) -> str:
    if table.source is None:
        return "member"
    return "source" if region == table.source else "target"


def _claimed_twice(settings: Settings) -> Iterator[Finding]:
    """One physical table written for two entries would have two markers, owners and histories."""
    claims: dict[tuple[str, str], dict[str, str]] = {}
    for table_name, table in settings.tables.items():
        for region in dict.fromkeys(table.members):
            physical = settings.table_name(table_name, region)
            if physical == settings.control_table:
                text = f'"{physical}" in {region} is the control table; rename one of the two'
                yield ("tables", table_name), text
            role, claimed = _role(table, region), claims.setdefault((region, physical), {})
            other = next((o for o, its in claimed.items() if {role, its} not in _SHARED), None)
            if other is not None:
                text = f'"{physical}" in {region} belongs to table "{other}"; remove one'
                yield ("tables", table_name), text
            claimed[table_name] = role
