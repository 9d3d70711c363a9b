"""Who reads a source: so that two processes that do are noticed.

Two processes for one source do no harm: every write is conditional, positions only rise, and what
one has done the other finds done. They cost twice, though, and are hardly ever meant. So each
writes its name into one row of the control table now and then, and is told whose name stood there.
A name that has replaced one's own since is that of another process, which is at work as well. (One
that stood there before is no sign: it may be that of the process before this one.)

Rows: pk `reader#<table>#<source>`, sk `state`; `instance` and `seen_us`.
"""

from __future__ import annotations

import os
import secrets
import socket

from replicator.control import STATE, row_key
from replicator.ports import Api


def instance_name() -> str:
    """A name that no other process has, and by which a person finds this one."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


class Presence:
    """ports.Presence over one region's control table."""

    def __init__(self, *, api: Api, control_table: str, instance: str) -> None:
        self.instance = instance
        self._api, self._control_table = api, control_table

    async def announce(self, table: str, source: str, now_us: int) -> str | None:
        """Write down that this instance reads a source; returns the name that stood there."""
        response = await self._api.call(
            "UpdateItem",
            {
                "TableName": self._control_table,
                "Key": row_key(f"reader#{table}#{source}", STATE),
                "UpdateExpression": "SET #i = :i, seen_us = :now",
                "ExpressionAttributeNames": {"#i": "instance"},
                "ExpressionAttributeValues": {
                    ":i": {"S": self.instance},
                    ":now": {"N": str(now_us)},
                },
                "ReturnValues": "ALL_OLD",
            },
        )
        found: str | None = response.get("Attributes", {}).get("instance", {}).get("S")
        return found
