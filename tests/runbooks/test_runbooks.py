"""Every page of runbooks/ is whole, and its commands do what it says, against emulated regions."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from support.engines import EngineUnavailable, Ministack
from support.runbook import (
    AWAY,
    FAR,
    HOME,
    PAGES,
    SECTIONS,
    Ward,
    blocks,
    known_commands,
    sections,
)
from support.tables import client

PAGE_NAMES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README")
REQUIRED = {
    "region-failover", "failback", "lag-high", "stream-trimmed", "divergence", "conflict-storm",
    "poison-record", "add-region", "remove-region", "clock-skew", "throttling",
    "rotate-credentials", "restore-from-backup", "upgrade",
}  # fmt: skip
NOT_THERE_YET: set[tuple[str, str]] = set()
"""Commands of pages that this version lacks; their blocks are not run. It must be exactly these."""

VARIANTS = {"region-failover": ("planned", "unplanned")}
CASES = [(page, variant) for page in PAGE_NAMES for variant in VARIANTS.get(page, (None,))]


def test_all_pages_are_there_and_whole() -> None:
    """Each has symptom, check, act and verify, in this order, and stands in the index."""
    assert set(PAGE_NAMES) == REQUIRED
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    for page in PAGE_NAMES:
        assert sections(page) == SECTIONS, page
        assert f"({page}.md)" in index, page
        assert {block.section for block in blocks(page)} >= {"Check", "Verify"}, page


def test_what_cannot_be_run_is_known_by_name() -> None:
    """A command that no version has is not passed over in silence, nor one that is there by now."""
    known = known_commands()
    lacking = {
        (page, name)
        for page in PAGE_NAMES
        for block in blocks(page)
        for name in block.commands - known
    }
    assert lacking == NOT_THERE_YET


@pytest.fixture
def engine_of_its_own(_credentials: None) -> Iterator[Ministack]:
    """A fresh engine: the pages name their tables, so each needs a world to itself."""
    engine = Ministack()
    try:
        engine.start()
    except EngineUnavailable as error:
        pytest.skip(f"engine unavailable: {error}")
    yield engine
    engine.stop()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("page", "variant"), CASES)
def test_the_commands_of_a_page_do_what_it_says(
    page: str, variant: str | None, engine_of_its_own: Ministack, tmp_path: Path
) -> None:
    """With the trouble there that it is about; and at its end all is well and equal."""
    orders = (HOME, AWAY, FAR) if page == "remove-region" else (HOME, AWAY)
    settings = "[mending]\nafter_s = 5" if page == "stream-trimmed" else ""
    ward = Ward(tmp_path, engine_of_its_own, orders=orders, settings=settings)
    try:
        for number in range(5):
            ward.put("orders", HOME, f"home-{number}", "1")
            ward.put("orders", AWAY, f"away-{number}", "1")
            ward.put("ledger", HOME, f"entry-{number}", "1")
        ward.start()
        ward.well()
        TROUBLE.get(variant or page, nothing)(ward)
        play(ward, page, variant)
        assert ward.held("orders", HOME), "the tables are empty"
        AFTER.get(variant or page, equal)(ward)
    finally:
        ward.stop(signal.SIGKILL)


def play(ward: Ward, page: str, variant: str | None) -> None:
    """Run the blocks of a page in their order."""
    known, told = known_commands(), None
    for block in blocks(page):
        if block.section == "Verify" != told:
            ward.well()
        told = block.section
        if block.variant in (None, variant) and block.commands <= known:
            ward.run(block)


def nothing(ward: Ward) -> None:
    """No trouble: a page for what is planned."""
    del ward


def equal(ward: Ward) -> None:
    """What every page leaves: equal copies."""
    assert ward.held("orders", HOME) == ward.held("orders", AWAY)


def caught_up(ward: Ward) -> None:
    """What stayed behind is across, in both tables."""
    equal(ward)
    for table in ("orders", "ledger"):
        assert ward.held(table, AWAY)["behind"] == "2"


def sides_changed(ward: Ward) -> None:
    """The one-way table has its source in the other region."""
    equal(ward)
    text = (ward.directory / "replicator.toml").read_text(encoding="utf-8")
    assert f'source = "{AWAY}"' in text


def mended(key: str) -> Callable[[Ward], None]:
    """A check that one item is in both regions."""

    def check(ward: Ward) -> None:
        equal(ward)
        assert key in ward.held("orders", HOME)

    return check


def copied_to(table: str, region: str) -> Callable[[Ward], None]:
    """A check that a new copy holds what the first region does."""

    def check(ward: Ward) -> None:
        assert ward.held(table, region) == ward.held("orders", HOME)

    return check


def killed(ward: Ward) -> None:
    """The replicator is gone, and writes go on."""
    ward.stop(signal.SIGKILL)
    ward.put("orders", HOME, "behind", "2")
    ward.put("ledger", HOME, "behind", "2")


def differs(ward: Ward) -> None:
    """An item that was copied with its marker, which passes for an echo."""
    marker = {"S": f"{1_700_000_000_000_000:016d}#{HOME}#015r"}
    ward.put("orders", AWAY, "copied", "1", _replicator=marker)


def lost_records(ward: Ward) -> None:
    """A stream was made anew while nobody read it."""
    ward.stop(signal.SIGKILL)
    ward.put("orders", HOME, "lost", "2")
    home = client(ward.engine.endpoint_url, HOME)
    home.update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
    home.update_table(
        TableName="orders",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    ward.start()


TROUBLE: Mapping[str, Callable[[Ward], None]] = {
    "unplanned": killed,
    "lag-high": killed,
    "divergence": differs,
    "stream-trimmed": lost_records,
}

AFTER: Mapping[str, Callable[[Ward], None]] = {
    "planned": sides_changed,
    "unplanned": caught_up,
    "lag-high": caught_up,
    "divergence": mended("copied"),
    "stream-trimmed": mended("lost"),
    "add-region": copied_to("orders", FAR),
    "remove-region": copied_to("orders", FAR),
    "restore-from-backup": copied_to("orders-restored", AWAY),
}
