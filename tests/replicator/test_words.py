"""The words of an error that is not the product's own are in nothing that is said: they may quote
an item."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from replicator.logs import JsonLines, TextLines

MARK = "4f1d9e"

UNSEEN = f"""
import asyncio, gc
from replicator.logs import configure
configure(level="warning", as_json=True)

async def main():
    async def fails():
        raise ValueError("{MARK[:3]}" + "{MARK[3:]}")
    asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()

asyncio.run(main())
"""
FUNCTION = f"""
from replicator import lambda_handler

class Broken:
    def handle(self, event, context):
        raise ValueError("{MARK[:3]}" + "{MARK[3:]}")

lambda_handler.function = Broken
lambda_handler.handler({{}}, None)
"""


@pytest.mark.parametrize(
    ("code", "told"), [(UNSEEN, "task.failed"), (FUNCTION, "internal error: ValueError")]
)
def test_a_foreign_error_is_told_without_its_words(code: str, told: str) -> None:
    """A task that nobody waits for, in any command; a function, whose errors Lambda prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told in done.stderr
    assert "ValueError" in done.stderr
    assert MARK not in done.stdout + done.stderr


@pytest.mark.parametrize("lines", [TextLines(), JsonLines()])
def test_what_asyncio_says_of_no_error_is_kept(lines: logging.Formatter) -> None:
    """Such as a slow callback."""
    record = logging.makeLogRecord({"name": "asyncio", "levelname": "WARNING", "msg": "slow"})
    assert "slow" in lines.format(record)
