"""What every region should hold under one key, told from what each of them holds now.

Replication decides by records; this decides without them, for copies that were never made, records
that the stream lost, and writes that no marker tells of. Versions decide wherever they can, by the
same two questions as ever (conflict.resolve). Where they cannot:

  content without a version is the lowest, for nothing tells when it was written, except
    over its own region's tombstone, if nothing is higher: it was written after the delete, or
    after the newest of all had expired there
    in a region that is known to have `lost` records: a version that arrived would have replaced
    it, so it came later
  content that was seeded (conflict.seed) is as old as what it copies: it has no say beside the
    original, and beside others it counts as content without a version
  two contents without a version are in dispute
  one version with two contents means a write that kept the marker it found: which, nobody knows

A dispute is settled by an `authority`, a region whose content is to win there, else reported. The
winner of any such case is given a version above all that stands, in its own table first, so that
the next look finds an ordinary newest version. What has no version and loses to a delete is marked
before that delete's tombstone comes, or it would pass for written after it. Copies of what has no
version are seeds, beneath every write and delete.

Whether contents are equal is conflict.content's matter, and markers have no part in it: regions
that hold one content are equal, whatever versions it stands under. But where one region is put
right, all of them get the winning version, or a write that is still on its way could land in one
alone. An item that a replicator has marked counts as taken out. The repair is made of the steps of
replication itself, so it may run beside it, be cut anywhere and run again; what has changed since
it was looked at keeps its place.

This module must not know how often a region was looked at, nor who carries out an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from conflict.content import same
from conflict.merge import Delivery, Shipment, Steps, deliver
from conflict.one_way import deliver_one_way
from conflict.operations import Get, Guard, Holds, Item, Key, KeyState, Outcome, ReadState, Stamp
from conflict.resolve import is_buried
from conflict.seed import AUTHORITY_US, SEED_US
from conflict.version import Kind, Version, order


class Sign(StrEnum):
    """How a region stands to what all should hold; the signs are those of `rclone check`.

    There `+` is missing in the destination and `-` is there only; here each region is one.
    """

    EQUAL = "="
    DIFFERENT = "*"
    MISSING = "+"
    EXTRA = "-"
    UNDECIDED = "!"


class Reason(StrEnum):
    """Why a region has its sign."""

    AS_WANTED = "as it should be"
    EXPIRED = "expired here, and each region expires its own copy"
    ABSENT = "never arrived"
    OLDER = "an older version"
    UNVERSIONED = "content without a version"
    OVERWRITTEN = "another region's later write carries no version"
    DELETED = "deleted by a newer version"
    ONE_VERSION = "one version, two contents"
    DISPUTED = "two contents without a version"
    SOURCE_DIFFERS = "the source holds other content"
    SOURCE_ABSENT = "the source holds no such item"


@dataclass(frozen=True, slots=True)
class Holding:
    """What one region holds under a key, and the version of its newest delete."""

    item: Item | None
    tombstone: Version | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """How one region stands, and why."""

    sign: Sign
    reason: Reason


AS_WANTED = Finding(Sign.EQUAL, Reason.AS_WANTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the regions stand, and what is to be done.

    `newest`: the regions that hold what all should hold. `shipments`: what to bring where; empty
    where all is well, and where nothing can be decided. `stamps`: what must be given a version in
    its own table first, so that a repair that is cut is not taken for something else.
    """

    key: Key
    findings: Mapping[str, Finding]
    newest: tuple[str, ...] = ()
    shipments: Mapping[str, Shipment] = field(default_factory=dict)
    stamps: Mapping[str, tuple[Item, Version]] = field(default_factory=dict)
    one_way: bool = False

    @property
    def equal(self) -> bool:
        """Whether every region holds what it should."""
        return all(finding.sign is Sign.EQUAL for finding in self.findings.values())

    @property
    def decided(self) -> bool:
        """Whether it is known what all should hold."""
        return self.equal or bool(self.shipments)


def look(region: str, key: Key) -> Steps[Holding]:
    """Read what a region holds. A delete raises its tombstone before it takes the item out, so the
    tombstone is read last."""
    item: Item | None = yield Get(region, key)
    state: KeyState = yield ReadState(region, key)
    return Holding(item, state.tombstone)


def repair(verdict: Verdict) -> Steps[bool]:
    """Do what a verdict asks for; False where what it rests on has changed since."""
    for region, (item, version) in verdict.stamps.items():
        stands = Holds(item.marker)
        outcome: Outcome = yield Stamp(region, verdict.key, version, stands, Guard(item.image))
        if not outcome.done:
            return False
    way: Callable[[str, Shipment], Steps[Delivery]]
    way = deliver_one_way if verdict.one_way else deliver
    for region, shipment in verdict.shipments.items():
        yield from way(region, shipment)
    return True


def compare(
    key: Key,
    holdings: Mapping[str, Holding],
    *,
    authority: str | None = None,
    lost: Collection[str] = (),
) -> Verdict:
    """What all regions should hold, where every region writes. `lost`: those that lost records."""
    scene = _Scene(key, {region: _unmarked(holding) for region, holding in holdings.items()})
    if scene.is_equal():
        return Verdict(key=key, findings=dict.fromkeys(holdings, AS_WANTED))
    late = scene.late(lost)
    if late:
        return scene.settled(late, Reason.DISPUTED, authority, lost)
    if is_buried(scene.newest, scene.deleted):
        return scene.taken_out()
    if scene.newest is None or scene.newest.time_us <= AUTHORITY_US:
        return scene.seeded(authority, lost)
    holders = [r for r, item in scene.live.items() if order(item.version) == order(scene.newest)]
    if not _agree(scene.live[region] for region in holders):
        return scene.settled(holders, Reason.ONE_VERSION, authority, lost)
    return scene.won(tuple(holders), scene.live[holders[0]], scene.newest, Reason.OLDER)


def compare_one_way(key: Key, source: str, holdings: Mapping[str, Holding]) -> Verdict:
    """What all regions should hold, where only the source writes: what it holds."""
    wanted = holdings[source].item
    findings: dict[str, Finding] = {}
    shipments: dict[str, Shipment] = {}
    for region, holding in holdings.items():
        findings[region] = AS_WANTED if region == source else _beside(wanted, holding.item)
        if findings[region].sign is not Sign.EQUAL:
            version = _above_in_target(source, holding)
            item = wanted.stamped(version) if wanted is not None else None
            shipments[region] = _shipment(key, version, item)
    return Verdict(key=key, findings=findings, newest=(source,), shipments=shipments, one_way=True)


@dataclass(frozen=True, slots=True)
class _Place:
    """A holding in which a marked item is already gone; `marked`: it is yet to be taken out."""

    item: Item | None
    tombstone: Version | None
    marked: bool = False


def _unmarked(holding: Holding) -> _Place:
    version = holding.item.version if holding.item else None
    if version is None or version.kind is not Kind.REMOVING:
        return _Place(holding.item, holding.tombstone)
    deleted = version.of_kind(Kind.APPLICATION)
    return _Place(None, _highest((deleted, holding.tombstone)), marked=True)


class _Scene:
    """One key in all regions."""

    def __init__(self, key: Key, places: Mapping[str, _Place]) -> None:
        self.key = key
        self.places = places
        self.live = {name: place.item for name, place in places.items() if place.item is not None}
        self.newest = _highest(item.version for item in self.live.values())
        self.deleted = _highest(place.tombstone for place in places.values())

    def is_equal(self) -> bool:
        """One content everywhere, or nothing anywhere; what expired is rightly gone."""
        if not self.live:
            return not any(place.marked for place in self.places.values())
        return len(self.live) == len(self.places) and _agree(self.live.values())

    def late(self, lost: Collection[str]) -> list[str]:
        """The regions whose content carries no version and is later than every version."""
        return [
            region
            for region, item in self.live.items()
            if item.version is None and (region in lost or self._is_written_over(region))
        ]

    def _is_written_over(self, region: str) -> bool:
        """Whether what stands was written after the newest of all was deleted, or expired, here."""
        own = self.places[region].tombstone
        if own is None or is_buried(own, self.deleted):
            return False
        return order(own) >= order(self.newest)

    def taken_out(self) -> Verdict:
        """The newest is a delete."""
        assert self.deleted is not None
        deleted = self.deleted.of_kind(Kind.APPLICATION)
        extra = [name for name, place in self.places.items() if place.item or place.marked]
        beneath = Finding(Sign.EXTRA, Reason.DELETED)
        return Verdict(
            key=self.key,
            findings={name: beneath if name in extra else AS_WANTED for name in self.places},
            newest=tuple(
                name
                for name, place in self.places.items()
                if order(place.tombstone) == order(self.deleted)
            ),
            shipments={name: _shipment(self.key, deleted, None) for name in extra},
            stamps={
                name: (item, deleted.of_kind(Kind.REMOVING))
                for name, item in self.live.items()
                if item.version is None
            },
        )

    def seeded(self, authority: str | None, lost: Collection[str]) -> Verdict:
        """Nothing has a version but what was seeded: bring the one content, or the authority's."""
        voices = [name for name in self.live if not self._is_copy(name)]
        winner = _chosen(voices, authority, lost)
        if winner is None and not _agree(self.live[name] for name in voices):
            return self._undecided(voices, Reason.DISPUTED)
        winner = winner or voices[0]
        item = self.live[winner]
        equals = tuple(name for name, other in self.live.items() if same(item.image, other.image))
        if any(self.live[name].version for name in self.live if name not in equals):
            return self._raised(winner)
        time_us = SEED_US if len(equals) == len(self.live) else AUTHORITY_US
        version = self.newest or _seed(winner, time_us)
        return self.won(equals, item, version, Reason.UNVERSIONED)

    def _is_copy(self, name: str) -> bool:
        """Whether what stands was seeded out of a region that still holds its own."""
        version = self.live[name].version
        original = self.live.get(version.origin) if version else None
        return original is not None and original.version is None

    def settled(
        self, disputed: list[str], reason: Reason, authority: str | None, lost: Collection[str]
    ) -> Verdict:
        """Versions do not tell which of these is the newest: one content, or a word, does."""
        winner = _chosen(disputed, authority, lost)
        if winner is None and not _agree(self.live[name] for name in disputed):
            return self._undecided(disputed, reason)
        return self._raised(winner or disputed[0])

    def _raised(self, winner: str) -> Verdict:
        """A region's content is to win over all that stands, once it has a version above it."""
        highest = max(order(self.newest), order(self.deleted))[0]
        version = Version(max(highest, AUTHORITY_US) + 1, winner, 0, Kind.REPLICATED)
        item = self.live[winner]
        verdict = self.won((winner,), item, version, Reason.OVERWRITTEN)
        return replace(verdict, stamps={winner: (item, version)})

    def won(self, winners: tuple[str, ...], item: Item, version: Version, lower: Reason) -> Verdict:
        """An item under a version is what all should hold."""
        findings = {
            name: AS_WANTED if name in winners else self._beneath(name, item, version, lower)
            for name in self.places
        }
        version = version.of_kind(Kind.REPLICATED)  # see conflict.seed, for its own origin's sake
        shipped = _shipment(self.key, version, item.stamped(version))
        gone = _shipment(self.key, version.of_kind(Kind.APPLICATION), None)
        return Verdict(
            key=self.key,
            findings=findings,
            newest=winners,
            shipments={
                name: gone if finding.sign is Sign.EXTRA else shipped
                # Those that look equal go first: a repair that is cut must not look done.
                for name, finding in sorted(
                    findings.items(), key=lambda found: found[1].sign is not Sign.EQUAL
                )
                if finding.sign is not Sign.EQUAL or self._may_fall_back(name, winners, version)
            },
        )

    def _may_fall_back(self, name: str, winners: tuple[str, ...], version: Version) -> bool:
        """Whether a region that holds the winning content holds it under a lower version.

        What is still on its way there, and beaten everywhere else, would replace it. Seeds are
        beneath everything that is on its way.
        """
        item = self.places[name].item
        if item is None or name in winners or version.time_us <= AUTHORITY_US:
            return False
        return order(item.version) < order(version)

    def _beneath(self, name: str, item: Item, version: Version, lower: Reason) -> Finding:
        place = self.places[name]
        if place.item is None:
            if order(place.tombstone) == order(version):
                return Finding(Sign.EXTRA if place.marked else Sign.EQUAL, Reason.EXPIRED)
            return Finding(Sign.MISSING, Reason.ABSENT)
        if same(place.item.image, item.image):
            return AS_WANTED
        unversioned = place.item.version is None and lower is Reason.OLDER
        return Finding(Sign.DIFFERENT, Reason.UNVERSIONED if unversioned else lower)

    def _undecided(self, disputed: list[str], reason: Reason) -> Verdict:
        sign = Sign.DIFFERENT if reason is Reason.ONE_VERSION else Sign.UNDECIDED
        findings = {}
        for name, place in self.places.items():
            if name in disputed:
                findings[name] = Finding(sign, reason)
            elif place.item is None:
                findings[name] = Finding(Sign.MISSING, Reason.ABSENT)
            else:
                findings[name] = Finding(Sign.DIFFERENT, Reason.OLDER)
        return Verdict(key=self.key, findings=findings)


def _chosen(disputed: list[str], authority: str | None, lost: Collection[str]) -> str | None:
    """Who wins a dispute by somebody's word, or because it alone lost what it had to tell."""
    if authority in disputed:
        return authority
    late = [name for name in disputed if name in lost]
    return late[0] if len(late) == 1 else None


def _beside(wanted: Item | None, held: Item | None) -> Finding:
    """How a target stands to what the source holds."""
    if wanted is None or held is None:
        if held is not None:
            return Finding(Sign.EXTRA, Reason.SOURCE_ABSENT)
        return AS_WANTED if wanted is None else Finding(Sign.MISSING, Reason.ABSENT)
    if same(wanted.image, held.image):
        return AS_WANTED
    return Finding(Sign.DIFFERENT, Reason.SOURCE_DIFFERS)


def _above_in_target(source: str, holding: Holding) -> Version:
    """A version above what a target remembers, and beneath any later record of the source.

    Two versions of one origin are ordered by sequence (conflict.version.after_own), so this one
    takes the sequence that it rises above: every record that followed that one is still newer.
    """
    standing = holding.item.version if holding.item else None
    highest = _highest((standing, holding.tombstone))
    if highest is None:
        return _seed(source, SEED_US)
    sequence = highest.sequence if highest.origin == source else 0
    return Version(highest.time_us + 1, source, sequence, Kind.REPLICATED)


def _seed(origin: str, time_us: int) -> Version:
    """The version of a copy of what has none: below every write."""
    return Version(time_us, origin, 0, Kind.REPLICATED)


def _shipment(key: Key, version: Version, item: Item | None) -> Shipment:
    return Shipment(key=key, version=version, item=item, created_us=version.time_us)


def _agree(items: Iterable[Item]) -> bool:
    """Whether all of these hold one content."""
    first, *others = items
    return all(same(first.image, other.image) for other in others)


def _highest(versions: Iterable[Version | None]) -> Version | None:
    return max(versions, key=order, default=None)
