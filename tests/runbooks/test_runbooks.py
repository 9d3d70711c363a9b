"""Every page of runbooks/ is whole, and its commands do what it says, against emulated regions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.black_box_link import endpoint
from support.engines import EngineUnavailable, Ministack
from support.fault_proxy import FaultProxy
from support.runbook import PAGES, SECTIONS, Block, blocks, known_commands, sections
from support.runbook_troubles import (
    Story,
    back,
    calm,
    caught_up,
    chrony,
    deleted,
    differs,
    dropped,
    from_before,
    in_time,
    joined,
    killed,
    left,
    lost,
    lost_records,
    mended,
    merged,
    new_role,
    no_index,
    nothing,
    poisoned,
    released,
    restored,
    skewed,
    source_is,
    stormy,
    third,
    throttled,
    upgraded,
    with_units,
)
from support.runbook_ward import AWAY, HOME, Ward

PAGE_NAMES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README")
REQUIRED = {
    "region-failover", "failback", "lag-high", "stream-trimmed", "divergence", "conflict-storm",
    "poison-record", "add-region", "remove-region", "clock-skew", "throttling",
    "rotate-credentials", "restore-from-backup", "upgrade",
}  # fmt: skip
PLANNED = {"add-region", "remove-region", "rotate-credentials", "upgrade"}
"""Pages that no trouble leads to."""

NOT_THERE_YET: set[tuple[str, str]] = set()
"""Commands of pages that this version lacks; their blocks are not run. It must be exactly these."""

US_EAST_1_AGAIN = "image us-east-1"
WORLDS: Sequence[Sequence[Story]] = (
    (
        Story(
            page="region-failover", variant="unplanned", trouble=lost,
            sees="✗ table orders in us-east-1",
            by_hand={US_EAST_1_AGAIN: back}, after=merged,
        ),
        Story(page="failback", sees="nothing in quarantine, no gap", after=source_is(HOME)),
    ),
    (
        Story(page="add-region", by_hand={"sed -i": third}, after=joined),
        Story(page="remove-region", after=left),
    ),
    (
        Story(page="lag-high", trouble=killed, sees="no status: ", after=caught_up),
        Story(
            page="throttling", trouble=throttled, sees="ThroughputExceeded",
            by_hand={"replicator backfill": with_units}, after=caught_up,
        ),
        Story(page="upgrade", trouble=released, sees="@sha256:", after=upgraded),
    ),
    (
        Story(page="divergence", trouble=differs, sees="copied", after=mended("copied")),
        Story(page="conflict-storm", trouble=stormy, sees="[1-9]\\d* conflicts", after=calm),
        Story(page="region-failover", variant="planned", after=source_is(AWAY)),
    ),
    (
        Story(
            page="poison-record", trouble=poisoned, sees="Type mismatch for Index Key",
            by_hand={"quarantine replay": no_index}, after=mended("poison"),
        ),
        Story(
            page="clock-skew", trouble=skewed, sees="this machine is \\d+ s behind",
            by_hand={"update-service": chrony}, after=in_time,
        ),
        Story(page="rotate-credentials", by_hand={"infra.generate": new_role}),
    ),
    (
        Story(
            page="stream-trimmed", trouble=lost_records, sees="gap in what was read",
            after=mended("lost"),
        ),
        Story(
            page="restore-from-backup", variant="damaged", trouble=deleted,
            sees="EarliestRestorableDateTime",
            by_hand={"sed -i": from_before}, after=restored,
        ),
    ),
    (
        Story(
            page="restore-from-backup", variant="dropped", trouble=dropped,
            sees=":table/orders/backup/", after=restored,
        ),
    ),
)  # fmt: skip
"""Pages that are played one after the other in one world, since a world takes seconds to make."""

MENDING_AFTER_S = 5
"""Long enough for a gap to be seen, and short for a test."""


def test_all_pages_are_there_and_whole() -> None:
    """Each begins with what to do, has symptom, check, act and verify, in this order, and stands in
    the index."""
    assert set(PAGE_NAMES) == REQUIRED
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    for page in PAGE_NAMES:
        text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
        assert re.match(r"# .+\n\n[^#\n]", text), page
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


def test_every_page_is_played_in_the_trouble_that_it_is_about() -> None:
    """Each page in each of its variants, and none that is not for what is planned without one."""
    stories = [story for world in WORLDS for story in world]
    variants = {(page, b.variant) for page in PAGE_NAMES for b in blocks(page) if b.variant}
    played = {(story.page, story.variant) for story in stories}
    alone = {page for page, _ in played} - {page for page, _ in variants}
    assert played == variants | {(page, None) for page in alone}
    assert {page for page, _ in played} == REQUIRED
    assert all(story.sees for story in stories if story.trouble is not nothing), "not looked at"
    untroubled = {story.page for story in stories if story.trouble is nothing}
    assert untroubled - PLANNED == {"region-failover", "failback"}, "a decision; and what follows"
    (before,) = (world[0] for world in WORLDS if world[-1].page == "failback")
    assert (before.page, before.variant) == ("region-failover", "unplanned")


def test_every_deployment_is_of_an_image_and_through_a_bucket() -> None:
    """Only a stack that is deployed with a new image runs what it was generated from; and the
    template of a few tables more goes through a bucket alone."""
    deployed = [
        (block.page, command)
        for page in PAGE_NAMES
        for block in blocks(page)
        for command in re.findall(r"aws cloudformation deploy(?:.*\\\n)*.*", block.text)
    ]
    assert {page for page, _ in deployed} == {
        "region-failover", "failback", "add-region", "remove-region", "rotate-credentials",
        "restore-from-backup", "upgrade",
    }  # fmt: skip
    for page, command in deployed:
        (region,) = re.findall(r"--region (\S+) --template-file", command)
        assert f"build/infra/{region}/template.json" in command, page
        assert f'--s3-bucket "$TEMPLATES-{region}"' in command, page
        assert '"Image=${IMAGE:?}"' in command, page


def test_nothing_is_deployed_after_what_was_refused() -> None:
    """An operator pastes a block where no failure ends it: it has one deployment, at its end, or a
    loop that each may end."""
    for page in PAGE_NAMES:
        for block in blocks(page):
            _, deploy, after = block.text.partition("aws cloudformation deploy")
            if not deploy:
                continue
            if "\ndone\n" in after:
                assert after.endswith(" || break\ndone\n"), page
            assert re.fullmatch(r"(.*\\\n)*.*\n(done\n)?", after), page


@pytest.fixture(scope="module")
def running(_credentials: None) -> Iterator[Ministack]:
    """One engine for this module."""
    engine = Ministack()
    try:
        engine.start()
    except EngineUnavailable as error:
        pytest.skip(f"engine unavailable: {error}")
    yield engine
    engine.stop()


@pytest.fixture
def empty(running: Ministack) -> Ministack:
    """The engine with nothing in it: the pages name their tables, so each needs all of it."""
    running.reset()
    return running


def test_a_large_template_goes_through_a_bucket_alone(empty: Ministack, tmp_path: Path) -> None:
    """As the real command has it."""
    ward = Ward(tmp_path, empty)
    ward.make()
    deploy = (
        "python -m infra.generate --config replicator.toml --out build/infra --mode service\n"
        "head -c 51200 /dev/zero | tr '\\0' ' ' >>build/infra/us-east-1/template.json\n"
        "aws cloudformation deploy --stack-name replicator --region us-east-1 "
        "--template-file build/infra/us-east-1/template.json --capabilities CAPABILITY_NAMED_IAM"
    )
    assert "51,200 bytes" in ward.run(Block("", "", deploy, None, 255))
    ward.run(Block("", "", f'{deploy} --s3-bucket "$TEMPLATES-us-east-1"', None, 0))


def test_what_is_rolled_out_is_named_by_its_content(empty: Ministack, tmp_path: Path) -> None:
    """Another configuration is another image and another package, or nobody would look at it."""
    ward = Ward(tmp_path, empty)
    ward.make()
    make = tmp_path / "bin" / "make"
    make.write_text(
        "#!/bin/sh\n"
        'test "$*" = "package ARGS=--arch arm64 --config replicator.toml" || exit 2\n'
        "mkdir -p dist && cat release replicator.toml >dist/replicator-lambda-arm64.zip\n"
    )
    make.chmod(0o755)
    ward.config.chmod(0o600)  # as `failover --write` leaves it

    def named() -> list[str]:
        said = ward.run(Block("", "", "image us-east-1\npackage us-east-1", None, 0))
        return [line for line in said.splitlines() if "@sha256:" in line or ".zip" in line]

    first = named()
    assert named() == first
    ward.release("the next one")
    second = named()
    ward.config.write_text(f"{ward.config.read_text()}# changed\n")
    third = named()
    assert len(first) == 2
    assert len({*first, *second, *third}) == len(first) * 3
    assert len([*tmp_path.glob("buckets/templates-us-east-1/*.zip")]) == 3


def test_pages_are_those_of_the_present_tasks(empty: Ministack, tmp_path: Path) -> None:
    """A new task has another address; and a region that has none is not left out in silence."""
    ward = Ward(tmp_path, empty)
    ward.make()

    def told() -> list[str]:
        return ward.run(Block("", "", "pages", None, 0)).splitlines()

    assert told() == [f"--url http://no-task.{region}.invalid" for region in (HOME, AWAY)]
    assert "no status: " in ward.run(Block("", "", "replicator status $(pages)", None, 1))
    try:
        ward.start_over([HOME, AWAY])
        first = told()
        ward.start_over([HOME, AWAY])
        assert len({*first, *told()}) == 4
        assert "no status: " not in ward.run(Block("", "", "replicator status $(pages)", None, 0))
    finally:
        ward.end()


@pytest.mark.timeout(900)  # three pages, on a machine that is busy otherwise
@pytest.mark.parametrize("world", WORLDS, ids=lambda w: ", then ".join(s.page for s in w))
def test_the_commands_of_a_page_do_what_it_says(
    world: Sequence[Story], empty: Ministack, tmp_path: Path
) -> None:
    """In the trouble that it is about, which its Check shows; and at its end all is well."""
    pages = {story.page for story in world}
    with ExitStack() as around:
        ward = Ward(tmp_path, empty, settings=f"[mending]\nafter_s = {MENDING_AFTER_S}")
        if "failback" in pages:
            ward.link = around.enter_context(endpoint(empty.endpoint_url))
        if "throttling" in pages:
            ward.proxy = around.enter_context(FaultProxy(empty.endpoint_url))
        ward.make()
        around.callback(ward.end)
        for number in range(3):
            ward.put("orders", HOME, f"home-{number}", "1")
            ward.put("orders", AWAY, f"away-{number}", "1")
            ward.put("ledger", HOME, f"entry-{number}", "1")
        ward.start_over(ward.services)
        ward.well()
        for story in world:
            play(ward, story)


def play(ward: Ward, story: Story) -> None:
    """Run the blocks of a page in their order, in its trouble."""
    story.trouble(ward)
    by_hand = dict(story.by_hand or {})
    printed = ""
    for block in _of(story):
        if block.section != "Check":
            assert re.search(story.sees, printed), f"{story.page}: its Check shows:\n{printed}"
        if block.section == "Verify":
            ward.well()
        for words in [words for words in by_hand if words in block.text]:
            by_hand.pop(words)(ward)
        printed += ward.run(block)
    assert not by_hand, f"{story.page}: no block has {sorted(by_hand)}"
    story.after(ward)


def _of(story: Story) -> list[Block]:
    known = known_commands()
    return [
        block
        for block in blocks(story.page)
        if block.variant in (None, story.variant) and block.commands <= known
    ]
