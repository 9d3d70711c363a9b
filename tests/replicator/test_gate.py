"""A gate lets so many through at once, and the others in their order."""

from __future__ import annotations

import asyncio

from replicator.gate import Gate


async def settled() -> None:
    """Let whatever can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_so_many_go_in_and_the_next_when_one_leaves() -> None:
    """There is room for so many; whoever leaves makes room for the first in line."""

    async def main() -> None:
        gate, inside = Gate(2), list[str]()

        async def pass_through(name: str) -> None:
            if not gate.enter():
                await gate.wait()
            inside.append(name)

        tasks = [asyncio.create_task(pass_through(name)) for name in "abcd"]
        await settled()
        assert inside == ["a", "b"]
        gate.leave()
        await settled()
        assert inside == ["a", "b", "c"]
        gate.leave()
        await asyncio.gather(*tasks)
        assert inside == ["a", "b", "c", "d"]

    asyncio.run(main())


def test_nobody_overtakes_who_has_been_let_in() -> None:
    """Room that was made for one in line is not taken by one who comes before it wakes."""

    async def main() -> None:
        gate = Gate(1)
        assert gate.enter()
        waiting = asyncio.create_task(gate.wait())
        await settled()
        gate.leave()
        assert not gate.enter()
        await waiting

    asyncio.run(main())


def test_who_is_cancelled_takes_no_room() -> None:
    """Neither one that is cancelled in line, nor one whose turn had come, keeps others out."""

    async def main() -> None:
        gate = Gate(1)
        assert gate.enter()
        in_line, turn_came, last = (asyncio.create_task(gate.wait()) for _ in range(3))
        await settled()
        in_line.cancel()
        gate.leave()
        turn_came.cancel()
        await asyncio.wait_for(last, 1)
        assert turn_came.cancelled()
        gate.leave()
        assert gate.enter()

    asyncio.run(main())
