"""The stream of events: nobody waits for anybody, and a client that does not read is dropped."""

from __future__ import annotations

WITHIN_S = 20
