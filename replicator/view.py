"""What of a table is replicated: some of its items, without some attributes, under other names.

A view makes of an item what its copies hold, or nothing. It depends on the item alone, so that the
copies can be compared with what they were made of.

Where one region writes, anything goes: the copies follow the source, and an item that is not meant
any more is taken out of them. Where every region writes, only whole items may be left out, and only
by their key: a copy that lacks an attribute would overwrite the original with its lack, and an item
that is meant in one region and not in another would differ for ever. A key never changes.

Pure; this module must not know records, versions or how a region is reached.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from conflict.operations import Image, Item
from replicator.records import Mode
from replicator.where import Where


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Items that match `where`, without the attributes `without`, others renamed."""

    where: Where | None = None
    without: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every item is replicated as it is."""
        return self.where is None and not self.reshapes

    @property
    def reshapes(self) -> bool:
        """Whether a copy differs from its original."""
        return bool(self.without or self.rename)

    def matches(self, image: Image) -> bool:
        """Whether the item is replicated."""
        return self.where is None or self.where.matches(image)

    def image(self, image: Image) -> Image | None:
        """What a copy holds of an item; None where it is not replicated.

        An attribute takes its new name also where the item has another one of that name.
        """
        if not self.matches(image):
            return None
        if not self.reshapes:
            return image
        kept = {
            name: value
            for name, value in image.items()
            if name not in self.without and name not in self.rename
        }
        renamed = {new: image[old] for old, new in self.rename.items() if old in image}
        return {**kept, **renamed}

    def item(self, item: Item | None) -> Item | None:
        """The same for an item beside its marker."""
        if item is None or self.is_whole:
            return item
        image = self.image(item.image)
        return None if image is None else Item(image, item.marker, item.doubted)


WHOLE = View()


def contradictions(view: View, mode: Mode) -> Iterator[tuple[str, str]]:
    """What is wrong with a view whatever the table's keys are: the setting, and why."""
    for setting, given in (("without", view.without), ("rename", view.rename)):
        if given and mode is Mode.MULTI_WRITER:
            text = (
                "changes items where every region writes, so that copies would overwrite their "
                "originals and differ for ever; let one region write (source, targets)"
            )
            yield setting, text
    for name in sorted(view.without & {*view.rename, *view.rename.values()}):
        yield "without", f'"{name}" is renamed as well; drop it from one of the two'
    new = list(view.rename.values())
    for name in sorted({name for name in new if new.count(name) > 1}):
        yield "rename", f'two attributes are renamed to "{name}"; choose another name for one'


def wrong_view(view: View, mode: Mode, marker: str, key_names: Collection[str]) -> str | None:
    """Why a table's copies could not be kept equal under a view, in one line; None if they can."""
    shaped = {*view.without, *view.rename, *view.rename.values()}
    keys = sorted(shaped & set(key_names))
    if keys:
        return f'leaves out or renames "{keys[0]}", which is a key; correct without or rename'
    looked_at = frozenset() if view.where is None else view.where.attributes
    if marker in shaped | looked_at:
        return f'names the marker "{marker}" in where, without or rename; leave it alone'
    others = sorted(looked_at - set(key_names))
    if mode is Mode.MULTI_WRITER and others:
        return (
            f'filters by "{others[0]}" where every region writes, so that items would differ for '
            "ever once it changes; filter by key attributes, or let one region write "
            "(source, targets)"
        )
    return None
