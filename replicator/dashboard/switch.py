"""Pausing and resuming links by way of the page.

A switch is given an order and who asks; it carries it out, or refuses with a status and a line that
may be shown. The order is data from outside, held to its shape here and to what is configured by
whoever carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from replicator.dashboard.access import Access
from replicator.errors import ConfigurationError
from replicator.pausing import chosen_links, switch_links
from replicator.ports import Api, Clock
from replicator.settings import Settings

Name = Annotated[str, Field(min_length=1, max_length=255)]


class Order(BaseModel):
    """Pause or resume the links of a table; a source or target left out means each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Name
    source: Name | None = None
    target: Name | None = None
    paused: bool


class Refused(Exception):
    """An order was not carried out; `status` is that of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Switch(Protocol):
    """Carries out orders."""

    async def __call__(self, order: Order, authorization: str | None) -> int:
        """How many links were switched. Raises: Refused."""
        ...


async def no_switch(order: Order, authorization: str | None) -> int:
    """The switch of a page that has none."""
    del order, authorization
    raise Refused(403, "read-only: set http.token to pause from here, or use `replicator pause`")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSwitch:
    """The switch of a process that reads streams: writes to its source regions' control tables."""

    settings: Settings
    apis: Mapping[str, Api]
    access: Access
    clock: Clock

    async def __call__(self, order: Order, authorization: str | None) -> int:
        if self.access.token is None:
            return await no_switch(order, authorization)
        if not self.access.admits(authorization):
            raise Refused(401, "the token is needed, and this is not it")
        try:
            links = chosen_links(self.settings, order.table, order.source, order.target)
        except ConfigurationError as error:
            raise Refused(404, str(error).removeprefix("--")) from None
        switched = await switch_links(
            self.settings,
            self.apis,
            [link for link in links if link.source in self.apis],
            paused=order.paused,
            now_us=self.clock.now_us(),
        )
        if switched.failed:
            lines = dict.fromkeys(
                f"{link.source}: {error}" for link, error in switched.failed.items()
            )
            raise Refused(502, "; ".join(lines))
        return len(switched.changed)
