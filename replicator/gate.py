"""A gate that lets so many through at once; the others wait in their order.

It does what asyncio.Semaphore does, for less: who finds room goes in by a plain call, and nothing
waits, is woken or made for it. A busy table passes it for every write.

This module must not know what happens behind the gate.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """Room for so many. Whoever was let in has to leave, whatever happens to it inside."""

    __slots__ = ("_room", "_waiting")

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: deque[asyncio.Future[None]] = deque()

    def enter(self) -> bool:
        """Go in if there is room, which there never is while anybody waits; whether there was."""
        if self._room:
            self._room -= 1
            return True
        return False

    async def wait(self) -> None:
        """Stand in line, and go in."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come already
                self.leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Make room: for the first in line, if there is one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._room += 1
