"""A target that is down or slow holds up its own link only, and misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import pytest

from conflict.operations import Key, KeyState, Outcome, Put
from replicator.bulkhead import SHARE
from replicator.errors import Fatal, Malformed, Poison, Throttled, Transient
from replicator.parts import PipelineLimits
from replicator.pipeline import Pipeline
from replicator.reader import ReaderLimits
from replicator.records import After, Checkpoint, Mode
from support.pipelines import PipelineBench

MODES = pytest.mark.parametrize("mode", Mode)
LIMITS = PipelineLimits(unsettled_records_max=40, detach_after_s=2.0, drain_s=2.0)
DOWN = Transient("down")
IN_FLIGHT = LIMITS.unsettled_records_max // SHARE
"""How many records the session that catches a link up has in memory."""
CALLS = ("put", "get", "read", "raise_tombstone", "stamp", "delete")


class Bench(PipelineBench):
    """A pipeline to targets that can be cut off; every stored position is held to account."""

    def __init__(
        self,
        mode: Mode = Mode.MULTI_WRITER,
        targets: tuple[str, ...] = ("eu", "ap", "sa"),
        limits: PipelineLimits = LIMITS,
    ) -> None:
        reader_limits = ReaderLimits(page_records_max=40)
        super().__init__(targets=targets, mode=mode, limits=limits, reader_limits=reader_limits)
        self.written: dict[str, list[int]] = {}
        self.lost: list[AssertionError] = []
        save = self.stores.save

        async def accounted(checkpoint: Checkpoint) -> None:
            try:
                self._account(checkpoint)
            except AssertionError as lost:  # a session that fails is begun anew
                self.lost.append(lost)
            await save(checkpoint)

        self.stores.save = accounted  # type: ignore[method-assign]

    def _account(self, checkpoint: Checkpoint) -> None:
        """Assert that what was last written beneath the position has reached every target.

        A key that is written again above it is left out: run again, its older record does nothing.
        """
        assert isinstance(checkpoint.position, After)
        for name, sequences in self.written.items():
            due = sequences[-1]
            if due > checkpoint.position.sequence:
                continue
            for target in self.stats.targets:
                region = self.regions[target]
                item, state = region.items.get(name), region.states.get(name)
                seen = [item.version] if item else []
                seen += [state.tombstone] if state else []
                reached = max((v.sequence for v in seen if v is not None), default=0)
                assert reached >= due, f"{name}: {target} has {reached}, stored beyond {due}"

    def put(self, name: str, content: str | None) -> None:
        """A write at home, which is remembered."""
        self.written.setdefault(name, []).append(self.write(name, content))

    def cut(self, target: str, error: Exception | None = DOWN) -> None:
        """Let every call to a target fail, or (None) none."""
        for call in CALLS:
            self.ports[target].fail_always(call, error)

    def reborn(self) -> None:
        """The process begins anew, with what is stored."""
        self.stop = asyncio.Event()
        self.pipeline = Pipeline(self._parts())

    async def written_slowly(self, count: int, *, every_s: float = 0.1, start: int = 0) -> None:
        """Writes of keys of their own."""
        for number in range(start, start + count):
            self.put(f"k{number}", f"v{number}")
            await self.clock.sleep(every_s)

    async def caught_up(self) -> None:
        """Wait until every target holds what home does and nothing is behind."""

        def equal() -> bool:
            home = self.contents("us")
            return all(self.contents(target) == home for target in self.stats.targets)

        await self.until(equal, step_s=0.5)
        await self.until(lambda: self.position == After(self.stream.sequences("a")[-1]))


def play(bench: Bench, script: Callable[[], Awaitable[None]], *, limit_s: float = 7_200.0) -> Bench:
    """Run a script beside the bench's pipeline."""
    bench.run(script, limit_s=limit_s)
    assert not bench.lost, bench.lost[0]
    return bench


@MODES
def test_a_target_that_is_down_delays_only_its_own_link(mode: Mode) -> None:
    """However much comes: the others have all of it, and the stored position waits."""
    bench = Bench(mode)

    async def script() -> None:
        await bench.written_slowly(5)
        await bench.caught_up()
        before = bench.position
        bench.cut("eu")
        await bench.written_slowly(300, start=5)
        for target in ("ap", "sa"):
            await bench.until(lambda t=target: len(bench.contents(t)) == 305)  # type: ignore[misc]
        assert len(bench.contents("eu")) == 5
        assert isinstance(before, After)
        assert isinstance(bench.position, After)
        assert bench.position.sequence < before.sequence + 2 * LIMITS.unsettled_records_max
        assert bench.snapshot()["unsettled"] < LIMITS.unsettled_records_max
        links = {link["target"]: link for link in bench.snapshot()["links"]}
        assert links["eu"]["backlog_age_s"] > 20.0
        assert links["eu"]["pending"] > 0
        assert links["ap"]["backlog_age_s"] < 5.0
        bench.cut("eu", None)
        await bench.caught_up()
        links = {link["target"]: link for link in bench.snapshot()["links"]}
        assert links["eu"]["pending"] == 0

    play(bench, script)


def lacking(bench: Bench, target: str) -> tuple[int, int]:
    """How many changes a target lacks, as the figures tell it and as it is."""
    (link,) = (link for link in bench.snapshot()["links"] if link["target"] == target)
    assert link["exposure"]["records"] == link["pending"]
    return link["pending"], len(bench.contents("us")) - len(bench.contents(target))


@MODES
def test_what_a_detached_target_lacks_is_counted(mode: Mode) -> None:
    """All of it, and not what was under way when it was detached; less as it is caught up."""
    bench = Bench(mode, targets=("eu", "ap"))

    async def script() -> None:
        bench.cut("eu")
        await bench.written_slowly(500)
        await bench.until(lambda: len(bench.contents("ap")) == 500)
        assert lacking(bench, "eu") == (500, 500)
        bench.ports["eu"].call_s = 0.2
        bench.cut("eu", None)
        told = true = 500
        while true:
            told, true = lacking(bench, "eu")
            assert told == pytest.approx(true, abs=IN_FLIGHT)
            await bench.clock.sleep(1.0)
        await bench.caught_up()
        assert lacking(bench, "eu") == (0, 0)

    play(bench, script)


@MODES
def test_what_a_target_lacks_that_breaks_again_while_it_catches_up_is_counted(mode: Mode) -> None:
    """What it had not been brought by then, and what has come since."""
    bench = Bench(mode, targets=("eu", "ap"))

    async def script() -> None:
        bench.cut("eu")
        await bench.written_slowly(400)
        bench.ports["eu"].call_s = 0.2
        bench.cut("eu", None)
        await bench.until(lambda: len(bench.contents("eu")) > 100)
        bench.cut("eu")
        await bench.written_slowly(200, start=400)
        await bench.until(lambda: len(bench.contents("ap")) == 600)
        told, true = lacking(bench, "eu")
        assert true > 400
        assert told == pytest.approx(true, abs=IN_FLIGHT)
        bench.cut("eu", None)
        await bench.caught_up()
        assert lacking(bench, "eu") == (0, 0)

    play(bench, script)


@MODES
def test_a_slow_target_delays_only_its_own_link(mode: Mode) -> None:
    """It takes less than comes, and is caught up when less comes."""
    bench = Bench(mode)
    bench.ports["eu"].call_s = 2.0
    worst_s: list[float] = []

    async def script() -> None:
        for number in range(600):
            bench.put(f"k{number}", "x")
            await bench.clock.sleep(0.1)
            age_s = next(
                x["backlog_age_s"] for x in bench.snapshot()["links"] if x["target"] == "ap"
            )
            worst_s.append(age_s or 0.0)
        await bench.until(lambda: len(bench.contents("ap")) == 600)
        assert len(bench.contents("eu")) < 500
        await bench.caught_up()

    play(bench, script)
    assert sum(age_s > 2.0 + LIMITS.detach_after_s for age_s in worst_s) == 0
    assert sum(age_s > 3.0 for age_s in worst_s) < len(worst_s) / 4


@MODES
def test_a_throttled_target_delays_only_its_own_link(mode: Mode) -> None:
    """It answers, and takes nothing."""
    bench = Bench(mode)
    bench.cut("eu", Throttled("slower"))

    async def script() -> None:
        await bench.written_slowly(300)
        await bench.until(lambda: len(bench.contents("ap")) == 300)
        bench.cut("eu", None)
        await bench.caught_up()

    play(bench, script)


def test_what_is_fresh_is_not_kept_waiting_by_the_backlog() -> None:
    """A target that answers again takes part at once, beside what it missed."""
    bench = Bench(targets=("eu", "ap"))
    bench.cut("eu")

    async def script() -> None:
        await bench.written_slowly(500, every_s=0.05)
        bench.cut("eu", None)
        bench.ports["eu"].call_s = 0.2
        await bench.until(lambda: bool(bench.contents("eu")))
        bench.put("fresh", "x")
        await bench.until(lambda: "fresh" in bench.contents("eu"))
        assert len(bench.contents("eu")) < 400
        bench.ports["eu"].call_s = 0.001
        await bench.caught_up()

    play(bench, script)


@MODES
def test_two_targets_that_go_and_come_apart_miss_nothing(mode: Mode) -> None:
    """One is still away when the other is caught up: the stored position waits for both."""
    bench = Bench(mode)

    async def script() -> None:
        bench.cut("eu")
        await bench.written_slowly(100)
        bench.cut("ap")
        await bench.written_slowly(100, start=100)
        bench.cut("eu", None)
        await bench.until(lambda: len(bench.contents("eu")) == 200)
        await bench.written_slowly(100, start=200)
        assert len(bench.contents("ap")) < 200
        bench.cut("ap", None)
        await bench.caught_up()

    play(bench, script)


@MODES
def test_a_target_that_breaks_again_while_it_catches_up_misses_nothing(mode: Mode) -> None:
    """It is detached once more, and begins again from the stored position."""
    bench = Bench(mode)

    async def script() -> None:
        bench.cut("eu")
        await bench.written_slowly(100)
        for turn in range(3):
            bench.cut("eu", None)
            bench.ports["eu"].call_s = 0.1
            await bench.clock.sleep(3.0)
            bench.cut("eu")
            await bench.written_slowly(100, start=100 + 100 * turn)
        bench.cut("eu", None)
        await bench.caught_up()
        assert len(bench.contents("eu")) == 400

    play(bench, script)


@MODES
def test_deletes_and_rewrites_reach_a_target_that_was_away(mode: Mode) -> None:
    """In whatever order the fresh and the missed arrive, versions decide."""
    bench = Bench(mode)
    rng = Random(7)

    async def busy(count: int) -> None:
        for number in range(count):
            name = f"k{rng.randrange(12)}"
            gone = rng.random() < 0.4 and name in bench.contents("us")
            bench.put(name, None if gone else f"v{number}-{rng.random()}")
            await bench.clock.sleep(0.07)

    async def script() -> None:
        await busy(50)
        for _ in range(3):
            bench.cut("eu")
            await busy(200)
            bench.cut("eu", None)
            await busy(100)
        await bench.caught_up()

    play(bench, script)


@MODES
def test_a_process_that_begins_anew_while_a_link_is_away_loses_nothing(mode: Mode) -> None:
    """Everybody begins at the stored position; what was delivered is found to be there."""
    bench = Bench(mode)

    async def away() -> None:
        bench.cut("eu")
        await bench.written_slowly(200)

    async def back() -> None:
        await bench.written_slowly(50, start=200)
        bench.cut("eu", None)
        await bench.caught_up()
        assert len(bench.contents("eu")) == 250

    play(bench, away)
    bench.reborn()
    play(bench, back)


def test_a_session_that_fails_while_a_link_catches_up_loses_nothing() -> None:
    """Both begin again from what is stored."""
    bench = Bench()

    async def script() -> None:
        bench.cut("eu")
        await bench.written_slowly(200)
        bench.cut("eu", None)
        bench.ports["eu"].call_s = 0.1
        await bench.until(lambda: len(bench.contents("eu")) > 20)
        bench.stores.fail("save", Fatal("access denied"))
        await bench.written_slowly(20, start=200)
        bench.ports["eu"].call_s = 0.001
        await bench.caught_up()

    play(bench, script)


@MODES
def test_when_every_target_is_down_reading_waits(mode: Mode) -> None:
    """There is nobody to go on for: what cannot be written yet waits in the stream."""
    bench = Bench(mode)

    async def script() -> None:
        for target in bench.stats.targets:
            bench.cut(target)
        await bench.written_slowly(300)
        most = 2 * LIMITS.unsettled_records_max  # each write, and its stamp behind it
        assert bench.snapshot()["unsettled"] <= most
        for target in bench.stats.targets:
            bench.cut(target, None)
        await bench.caught_up()

    play(bench, script)


@MODES
def test_another_that_answers_while_one_is_caught_up_misses_nothing(mode: Mode) -> None:
    """What the one has been brought is stored for both only when the other has it, too."""
    bench = Bench(mode)

    async def script() -> None:
        bench.cut("eu")
        bench.cut("ap")
        await bench.written_slowly(400)
        bench.ports["eu"].call_s = 0.2
        bench.cut("eu", None)
        await bench.until(lambda: len(bench.contents("eu")) > 150)
        bench.cut("ap", None)
        await bench.caught_up()

    play(bench, script)


async def parked_while_caught_up(bench: Bench) -> None:
    """One change that the target refuses is among what it missed, and is parked."""
    put = bench.ports["eu"].put

    async def picky(operation: Put) -> Outcome:
        if operation.item.image["content"] == {"S": "refused"}:
            raise Poison("too large")
        return await put(operation)

    bench.cut("eu")
    await bench.written_slowly(100)
    bench.ports["eu"].put = picky  # type: ignore[method-assign]
    bench.write("bad", "refused")
    await bench.written_slowly(50, start=100)
    bench.cut("eu", None)
    await bench.until(lambda: bench.position == After(bench.stream.sequences("a")[-1]))
    await bench.clock.sleep(10.0)  # the session that caught it up has ended
    assert [parked.key.id for parked in bench.stores.parked] == ["bad"]
    assert bench.stats.links["eu"].quarantined == 1


@MODES
def test_what_was_parked_while_catching_up_is_beaten_by_a_later_change(mode: Mode) -> None:
    """Whoever parked it: once a newer one of the key has arrived, it is taken out."""
    bench = Bench(mode, targets=("eu", "ap"))

    async def script() -> None:
        await parked_while_caught_up(bench)
        bench.put("bad", "fine")
        await bench.until(lambda: not bench.stores.parked)
        assert bench.contents("eu")["bad"] == "fine"
        assert bench.stats.links["eu"].quarantined == 0

    play(bench, script)


def test_what_was_parked_while_catching_up_is_counted_until_a_person_drops_it() -> None:
    """The count follows the quarantine, and does not wait for the process to begin anew."""
    bench = Bench(targets=("eu", "ap"))

    async def script() -> None:
        await parked_while_caught_up(bench)
        await bench.clock.sleep(2 * LIMITS.recount_interval_s)
        assert bench.stats.links["eu"].quarantined == 1
        bench.stores.parked.clear()
        await bench.clock.sleep(2 * LIMITS.recount_interval_s)
        assert bench.stats.links["eu"].quarantined == 0

    play(bench, script)


@MODES
def test_a_key_that_one_target_refuses_holds_up_nobody_else(mode: Mode) -> None:
    """However many records are behind it: they hold no images, and in the end it is detached."""
    bench = Bench(mode)
    read = bench.ports["eu"].read

    async def refusing(keys: Sequence[Key]) -> list[KeyState]:
        if any(key.id == "bad" for key in keys):
            raise Malformed("its row")
        return await read(keys)

    bench.ports["eu"].read = refusing  # type: ignore[method-assign]
    bench.reborn()
    count = 15 * LIMITS.unsettled_records_max

    async def script() -> None:
        bench.put("bad", "x")
        await bench.written_slowly(count)
        for target in ("ap", "sa"):
            await bench.until(lambda t=target: len(bench.contents(t)) == count + 1)  # type: ignore[misc]

    play(bench, script)


def test_what_is_read_ahead_is_bounded_in_bytes() -> None:
    """Large items fill the memory long before there are many of them."""
    limits = PipelineLimits(unsettled_bytes_max=10_000, detach_after_s=2.0)
    bench = Bench(Mode.ONE_WAY, targets=("eu",), limits=limits)
    bench.cut("eu")
    for number in range(300):
        bench.put(f"k{number}", "x" * 1_000)

    async def script() -> None:
        await bench.clock.sleep(60.0)
        assert bench.snapshot()["unsettled"] <= 10 + 40
        bench.cut("eu", None)
        await bench.caught_up()

    play(bench, script)
