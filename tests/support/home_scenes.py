"""Scenes at home: a region as it was when an application's write of its own is worked on.

`SCENES` names every state that a record can find its key in; each call makes the scene anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from conflict.merge import Settlement
from conflict.operations import Hold, Item, KeyState, RaiseTombstone
from conflict.origin import Change
from conflict.protocol import settle
from conflict.version import Kind, Version
from replicator.records import TtlDeletes
from support.scenes import KEY, World, at, change_of, item

FOREIGN = at(15, "eu", 3)


@dataclass(frozen=True, slots=True)
class Scene:
    """A home region as it was when the record is worked on, and the record's change."""

    world: World
    change: Change

    def settle(self) -> Settlement:
        """Run the change's steps to their end."""
        return self.world.run(settle("us", self.change))

    @property
    def item(self) -> Item | None:
        """What stands at home."""
        return self.world.facts()["us"].item

    @property
    def state(self) -> KeyState:
        """What home remembers of the key."""
        return self.world.facts()["us"].state


def scene(
    written: Item | None,
    *,
    over: Item | None = None,
    then: tuple[Item | None, ...] = (),
    tombstone: Version | None = None,
    held: Item | None = None,
    now_us: int = 20,
    ttl: bool = False,
) -> Scene:
    """An application's write over something, and what became of the place before it was read."""
    world = World("us", "eu")
    if over is not None:
        world.write("us", over, now_us=10)
    record = replace(world.write("us", written, now_us=now_us), sequence=5, ttl=ttl)
    for later in then:
        world.write("us", later, now_us=now_us)
    if tombstone is not None:
        world.execute(RaiseTombstone("us", KEY, tombstone))
    if held is not None:
        world.execute(Hold("us", KEY, held))
    world.done.clear()
    ignored = TtlDeletes.IGNORE if ttl else TtlDeletes.REPLICATE
    return Scene(world, change_of("us", record, ttl_deletes=ignored))


SETTLED = at(20, "us", 5, Kind.SETTLED)
AHEAD_OF_TIME = at(5_000, "us", 99, Kind.APPLICATION)
"""A stamp that nobody believes when it is written, and everybody some milliseconds later."""
BROUGHT = item("foreign", FOREIGN)
AHEAD = item("foreign", at(40, "eu", 9))

SCENES: dict[str, Callable[[], Scene]] = {
    "a put over nothing": lambda: scene(item("new")),
    "a put over a replicated item": lambda: scene(item("new"), over=BROUGHT),
    "an update of a replicated item": lambda: scene(item("new", FOREIGN), over=BROUGHT),
    "an update of a later item": lambda: scene(item("new", at(40, "eu", 9)), over=AHEAD),
    "a stamped put": lambda: scene(item("new", at(18, "us", 99, Kind.APPLICATION))),
    "a stamped put over its own delete": lambda: scene(
        item("new", at(18, "us", 99, Kind.APPLICATION)), tombstone=at(30, "us", 4)
    ),
    "a put over an own delete": lambda: scene(item("new"), tombstone=at(30, "us", 4)),
    "a put over a foreign delete": lambda: scene(item("new"), tombstone=at(30, "eu", 9)),
    "a put that was updated since": lambda: scene(item("new"), then=(item("newer"),)),
    "an update that was updated since": lambda: scene(
        item("new", FOREIGN), over=BROUGHT, then=(item("newer", FOREIGN),)
    ),
    "a put over which an older item was brought": lambda: scene(item("new"), then=(BROUGHT,)),
    "a put over which a newer item was brought": lambda: scene(item("new"), then=(AHEAD,)),
    "a put over which an item was brought, above a foreign delete": lambda: scene(
        item("new"), then=(BROUGHT,), tombstone=at(30, "eu", 9)
    ),
    "a put that is gone": lambda: scene(item("new"), then=(None,)),
    "a put that is gone, its place filled by another": lambda: scene(
        item("new"), then=(None, AHEAD)
    ),
    "a put that was deleted since, as is known": lambda: scene(
        item("new"), then=(None,), tombstone=at(30, "us", 6)
    ),
    "a put while an earlier one is held": lambda: scene(
        item("new"), held=item("held", at(25, "us", 3))
    ),
    "a delete of a settled item": lambda: scene(None, over=item("old", at(15, "us", 3))),
    "a delete of an unstamped item": lambda: scene(None, over=item("old")),
    "a delete of a later item": lambda: scene(None, over=AHEAD),
    "a delete over which an older item was brought": lambda: scene(
        None, over=item("old"), then=(BROUGHT,)
    ),
    "a delete over which a newer item was brought": lambda: scene(
        None, over=item("old"), then=(AHEAD,)
    ),
    "a delete over which the application wrote": lambda: scene(
        None, over=item("old"), then=(item("later"),)
    ),
    "a delete while a write is held": lambda: scene(
        None, over=item("old"), held=item("held", at(25, "us", 3))
    ),
    "an expiry": lambda: scene(None, over=item("old", FOREIGN), ttl=True),
    "an expiry of an unstamped item": lambda: scene(None, over=item("old"), ttl=True),
    "an expiry of a write that is held": lambda: scene(
        None, over=item("old"), held=item("old", at(12, "us", 3)), ttl=True
    ),
    "an arrival": lambda: scene(item("new", at(18, "eu", 9)), over=BROUGHT),
    "an arrival beneath a delete": lambda: scene(BROUGHT, tombstone=at(30, "us", 4)),
    "a mark": lambda: scene(item("old", at(30, "eu", 9, Kind.REMOVING)), over=item("old", FOREIGN)),
    "the end of a replicated delete": lambda: scene(
        None, over=item("old", at(30, "eu", 9, Kind.REMOVING))
    ),
    "the end of a replicated delete that took a held write": lambda: scene(
        None,
        over=item("old", at(30, "eu", 9, Kind.REMOVING)),
        held=item("held", at(25, "us", 3)),
    ),
    "the end of a replicated delete, and a local write since": lambda: scene(
        None,
        over=item("old", at(30, "eu", 9, Kind.REMOVING)),
        then=(item("later"),),
        held=item("held", at(25, "us", 3)),
    ),
    "our stamp": lambda: scene(item("new", SETTLED), over=item("new")),
}
