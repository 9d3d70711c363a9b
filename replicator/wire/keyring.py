"""The keys that calls are signed with: at hand without waiting, renewed off the loop.

The chain behind `load` decides when keys are to be renewed; asking it may block, so it is asked in
a thread, now and then, while calls go on with the keys that are there. Only the first call waits,
and the one after the service has refused a key.

This module must not know what a key is good for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from replicator.errors import ReplicatorError, spoken
from replicator.ports import Clock
from replicator.wire.access import Keys

log = logging.getLogger(__name__)

ASK_EVERY_S = 60.0
"""Far less than the ten minutes before their end in which botocore renews keys at the latest."""

ASK_AGAIN_S = 10.0
"""After a renewal that failed; the old keys serve meanwhile."""


class KeyRing:
    """The keys of one account and role."""

    def __init__(self, *, load: Callable[[], Keys], clock: Clock) -> None:
        self._load, self._clock = load, clock
        self._keys: Keys | None = None
        self._stale_s = 0.0
        self._loading: asyncio.Task[Keys] | None = None

    def at_hand(self) -> Keys | None:
        """The keys, if there are any; has them renewed in the background when it is time."""
        if self._keys is not None and self._clock.monotonic_s() > self._stale_s:
            self._stale_s = self._clock.monotonic_s() + ASK_EVERY_S
            self._begin().add_done_callback(self._renewed)
        return self._keys

    async def fetched(self) -> Keys:
        """The keys, asked for now. Raises what `load` raises."""
        return await asyncio.shield(self._begin())

    def forget(self, keys: Keys) -> None:
        """The service refuses these keys: the next call is to wait for others."""
        if self._keys is keys:
            self._keys = None

    def _begin(self) -> asyncio.Task[Keys]:
        """The asking that is under way, or a new one."""
        loading = self._loading
        if (
            loading is None
            or loading.done()
            or loading.get_loop() is not asyncio.get_running_loop()
        ):
            loading = self._loading = asyncio.create_task(self._ask())
        return loading

    async def _ask(self) -> Keys:
        keys = await asyncio.to_thread(self._load)
        self._stale_s = self._clock.monotonic_s() + ASK_EVERY_S
        if self._keys is None or self._keys != keys:  # else what is kept for the old object serves
            self._keys = keys
        return self._keys

    def _renewed(self, loading: asyncio.Task[Keys]) -> None:
        if loading.cancelled():
            return
        error = loading.exception()
        if error is None:
            return
        self._stale_s = self._clock.monotonic_s() + ASK_AGAIN_S
        if not isinstance(error, ReplicatorError):
            raise error
        log.warning("credentials.not_renewed", extra={"error": spoken(error)})
