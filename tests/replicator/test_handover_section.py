"""A configuration's text with one table's members changed: that, and nothing else."""

from __future__ import annotations

import tomllib

import pytest

from replicator.errors import ConfigurationError
from replicator.handover.section import Members, changed

TEXT = """\
# kept
[regions.us-east-1]
[regions.eu-west-1]

[tables.orders]   # every region writes
regions = ["us-east-1", "eu-west-1"]

[tables."led.ger"]
marker = "_v"     # kept too
source = "us-east-1"
targets = [
  "eu-west-1",  # far
]
names = { eu-west-1 = "ledger-copy" }

[http]
port = 9000
"""

HANDED = Members(source="eu-west-1", targets=("us-east-1",))


def test_only_the_members_change() -> None:
    """Comments, order and other keys stay; an array over several lines is replaced as a whole."""
    new = changed(TEXT, {"led.ger": HANDED})
    expected = tomllib.loads(TEXT)
    expected["tables"]["led.ger"].update(source="eu-west-1", targets=["us-east-1"])
    assert tomllib.loads(new) == expected
    for comment in ("# kept", "# every region writes", "# kept too"):
        assert comment in new
    assert '"eu-west-1",  # far' not in new


def test_the_mark_of_an_editor_stays() -> None:
    """It stands before the first section, which is none the less found."""
    text = '[tables.orders]\nregions = ["us-east-1", "eu-west-1"]\n'
    assert changed(f"\ufeff{text}", {"orders": HANDED}) == (
        "\ufeff" + changed(text, {"orders": HANDED})
    )


def test_a_one_way_table_becomes_one_that_every_region_writes() -> None:
    """`source` and `targets` go when `regions` comes."""
    new = changed(TEXT, {"led.ger": Members(regions=("eu-west-1", "us-east-1"))})
    entry = tomllib.loads(new)["tables"]["led.ger"]
    assert entry["regions"] == ["eu-west-1", "us-east-1"]
    assert not {"source", "targets"} & entry.keys()


def test_several_tables_change_together() -> None:
    """Each keeps its own section."""
    new = tomllib.loads(changed(TEXT, {"orders": HANDED, "led.ger": HANDED}))
    assert new["tables"]["orders"] == HANDED.keys
    assert new["http"] == {"port": 9000}


@pytest.mark.parametrize(
    "text",
    [
        '[tables]\norders = { regions = ["a", "b"] }\n',
        '[tables]\norders.source = "a"\norders.targets = ["b"]\n',
        "[tables.others]\n",
    ],
    ids=["inline", "dotted", "absent"],
)
def test_what_cannot_be_changed_is_told_to_be_written_by_hand(text: str) -> None:
    """One line, with the lines to write."""
    with pytest.raises(ConfigurationError, match='write by hand: source = "eu-west-1"; targets'):
        changed(text, {"orders": HANDED})
