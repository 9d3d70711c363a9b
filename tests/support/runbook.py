"""A runbook's page: its sections, and its commands as blocks that can be run.

A page has the sections Symptom, Check, Act and Verify. Its commands stand in fenced blocks that
begin with `sh` and words: `exit 1` (the block ends so), or the name of a variant of the page.
What the README has in such blocks is for every page: an operator pastes it first.
What they are run in is runbook_ward.py's.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.black_box import command, environment

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "runbooks"
SECTIONS = ["Symptom", "Check", "Act", "Verify"]
_FENCE = re.compile(r"^```sh ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    section: str
    text: str
    variant: str | None
    exit_status: int

    @property
    def commands(self) -> set[str]:
        """The commands of the product that it uses."""
        words = re.findall(r"^replicator ([a-z]+)", self.text, re.MULTILINE)
        return set(words)


def sections(page: str) -> list[str]:
    """The headings of a page."""
    return _SECTION.findall((PAGES / f"{page}.md").read_text(encoding="utf-8"))


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return list(_blocks(page, text))


def _blocks(page: str, text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        section = _SECTION.findall(text[: match.start()])[-1]
        words = match.group(1).split()
        status = int(words[words.index("exit") + 1]) if "exit" in words else 0
        variants = [w for w in words if w not in ("exit", str(status))]
        yield Block(page, section, match.group(2), variants[0] if variants else None, status)


@cache
def pasted_first() -> str:
    """What the pages' commands use and the README defines."""
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    return "".join(match.group(2) for match in _FENCE.finditer(text))


@cache
def known_commands() -> set[str]:
    """The commands that this version has."""
    helped = subprocess.run(
        command("--help"), env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    return set(re.findall(r"^    ([a-z]+) ", helped.stdout, re.MULTILINE))
