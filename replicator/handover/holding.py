"""Who holds a one-way table by what all of its regions were told, and the telling of them.

A region that was out of reach at a hand-over has no row of it, or an old one. So all that answer
are asked, and the newest row counts. They are told one after the other, the former source first and
the others in the order of their names, whoever tells: of two operators one is refused by the first
region that both reach. What is refused is the end of it, for it was handed over to somebody else in
the meantime. Only a row that is older than the newest one seen gives way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from replicator.errors import Fatal, ReplicatorError
from replicator.handover.active import Handover
from replicator.handover.plan import Kind, Request
from replicator.handover.scene import Scene, reason
from replicator.preflight import ANSWER_WITHIN_S

Say = Callable[[str], None]


async def check_holder(scene: Scene, request: Request, say: Say) -> Handover | None:
    """The newest hand-over that any region knows; None where the configuration holds.

    Raises: Fatal where it went to neither of the request's two regions, or one that must answer
    does not: the target, and the source of what is planned.
    """
    needed = {request.target, *((request.source,) if request.kind is not Kind.UNPLANNED else ())}
    told = await asyncio.gather(*(_told(scene, region) for region in scene.members))
    known: list[Handover] = []
    for region, answer in zip(scene.members, told, strict=True):
        if isinstance(answer, Handover):
            known.append(answer)
        elif isinstance(answer, BaseException):
            text = f"{region} cannot be asked who holds it: {reason(answer)}"
            if region in needed:
                raise Fatal(text)
            say(text)
    newest = max(known, key=lambda handover: handover.at_us, default=None)
    if newest is not None and newest.source not in (request.source, request.target):
        raise Fatal(
            f"{newest.source} holds it; it was handed over to it before: correct the "
            "configuration, see runbooks/failback.md"
        )
    return newest


async def tell_regions(scene: Scene, handover: Handover, seen: Handover | None, say: Say) -> None:
    """Write it down in every region that answers; `seen`: the newest that was there before.

    Raises: Fatal where another hand-over came in between, or the new source cannot be told.
    """
    if seen is not None:  # the clocks of two operators may differ
        handover = replace(handover, at_us=max(handover.at_us, seen.at_us + 1))
    told: list[str] = []
    for region in _in_order(scene.members, handover.former):
        try:
            stored = await scene.store(region, handover, seen)
        except (ReplicatorError, TimeoutError) as error:
            if region == handover.source:
                text = f"{region} could not be told: {reason(error)}; {_so_far(told)}"
                raise Fatal(text) from None
            say(f"{region} could not be told: {reason(error)}; what it sends is refused")
            continue
        if not stored:
            raise Fatal(f"by {region} another region holds it; {_so_far(told)}")
        told.append(region)


async def _told(scene: Scene, region: str) -> Handover | BaseException | None:
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await scene.handover(region)
    except (ReplicatorError, TimeoutError) as error:
        return error


def _in_order(members: Sequence[str], former: str) -> list[str]:
    return sorted(members, key=lambda region: (region != former, region))


def _so_far(told: Sequence[str]) -> str:
    if not told:
        return "nothing was changed"
    return f"told before: {', '.join(told)}; see who holds it by `replicator doctor`, run it again"
