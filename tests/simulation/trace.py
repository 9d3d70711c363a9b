"""One schedule told line by line: every write, call, outcome and fault, in order.

write  A k0 seq 3            {a: v2} @1000161/A/3s     what a table's stream records
B:     put A k0 {a: v1} if < @1000120/B/1r -> refused by {a: v2}     what B's replicator does
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass

from conflict.merge import Shipment
from conflict.operations import Item, Key, Operation, Outcome, version_of
from conflict.version import Version


def line(who: str, what: str, about: object) -> str:
    """One thing that happened, as one line."""
    if what == "write":
        assert isinstance(about, tuple)
        now_us, sequence, key, item = about
        return f"{now_us} write {who} {brief(key)} seq {sequence}: {brief(item)}"
    if what == "call":
        assert isinstance(about, tuple)
        operation, answer = about
        return f"        {who}: {brief(operation)} -> {brief(answer)}"
    return f"        {who}: {what} {brief(about)}"


def brief(value: object) -> str:
    """A value in few characters."""
    match value:
        case None:
            text = "nothing"
        case Version():
            text = f"@{value.time_us}/{value.origin}/{value.sequence}{value.kind}"
        case Key():
            text = value.id
        case Item():
            text = _item(value)
        case Outcome():
            text = f"{'done' if value.done else 'refused'}, {brief(value.item)}"
        case Shipment():
            text = f"ship {brief(value.item)} {brief(value.version)}"
        case Operation():
            named = [type(value).__name__.lower(), value.region, value.key.id]
            text = " ".join([*named, *map(brief, _parts(value))])
        case tuple():
            text = f"({', '.join(map(brief, value))})"
        case _ if is_dataclass(value):
            text = f"{type(value).__name__}({', '.join(map(brief, _parts(value)))})"
        case _:
            text = str(value)
    return text


def _item(item: Item) -> str:
    content = ", ".join(
        f"{name}: {next(iter(attribute.values()))}"
        for name, attribute in item.image.items()
        if name != "id"
    )
    version = version_of(item.marker)
    return f"{{{content}}}" + (brief(version) if version else "")


def _parts(value: object) -> list[object]:
    assert is_dataclass(value)
    skipped = ("region", "key") if isinstance(value, Operation) else ()
    return [getattr(value, field.name) for field in fields(value) if field.name not in skipped]
