"""`requirements.lock`, as `make lock` makes it: complete, by hash, from anywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
_ENTRY = re.compile(
    r"^([a-z0-9-]+)==(\S+)((?: ;[^\\\n]+)?)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)"
)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+),<([0-9]+)(\.[0-9.]+)?")


def locked() -> dict[str, tuple[str, int]]:
    """The version of each package, and how many hashes it has."""
    entries = re.split(r"\n(?=[a-z])", LOCK)
    found = {}
    for entry in entries:
        match = _ENTRY.match(entry)
        if match is not None:
            name, version, _, hashes = match.groups()
            found[name] = (version, hashes.count("sha256:"))
    return found


def test_every_dependency_is_locked_within_its_bounds() -> None:
    """Whoever adds a dependency or moves a bound runs `make lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = locked()
    for requirement in project["dependencies"]:
        match = _REQUIREMENT.fullmatch(requirement)
        assert match is not None, f"{requirement}: not of the form name>=low,<high"
        name, low, high, _ = match.groups()
        version, _ = versions[name.lower()]
        numbers = [int(part) for part in re.findall(r"\d+", version)]
        assert numbers >= [int(part) for part in low.split(".")], requirement
        assert numbers[0] < int(high), requirement


def test_every_package_is_held_by_hash() -> None:
    """What is installed is what was looked at."""
    lines = [line for line in LOCK.splitlines() if re.match(r"[a-z0-9-]+==", line)]
    versions = locked()
    assert len(lines) == len(versions) > 10
    assert all(hashes > 0 for _, hashes in versions.values())


def test_the_lock_names_no_place_to_download_from() -> None:
    """It serves wherever packages come from."""
    assert "://" not in LOCK
    assert "--index" not in LOCK
