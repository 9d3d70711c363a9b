"""`replicator demo`: three regions that write against each other, an outage, and equal tables.

Everything is real but the cloud: an embedded engine stands for DynamoDB (engine.py), `replicator
run` is started once per region as it would be deployed (stage.py), the regions are joined by links
that are slow and can be cut (network.py), and applications that know nothing of replication write
against each other on purpose (writers.py). At the end the tables are judged from outside
(verdict.py). The phases stand in story.py.
"""

from __future__ import annotations

import random

from rich.console import Console

from replicator.demo import engine
from replicator.demo.screen import LiveScreen, PlainLines, Screen
from replicator.demo.story import Options, play

__all__ = ["run_demo"]


def run_demo(*, seconds: float, headless: bool, port: int | None) -> int:
    """Play the demo on this machine; the result is the exit status.

    0: all tables equal, the last writes stand. 1: not so. 128 + n: ended by signal n. `seconds` is
    the time of the writing; `port` that of the status page: without it any that is free, or no
    page when headless.

    Raises: ConfigurationError when it cannot be started here, ChildFailed when a part of it fails.
    """
    engine.require()
    console = Console()
    live = console.is_terminal and not headless
    screen: Screen = LiveScreen(console) if live else PlainLines(console)
    if port is None and live:
        port = 0
    options = Options(seconds=seconds, port=port, seed=random.SystemRandom().randrange(10**6))
    return play(options, screen)
