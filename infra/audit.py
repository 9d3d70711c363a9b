"""`make audit`: are there known vulnerabilities in what is locked? Asked of the public advisories.

pip-audit asks, and what it says is judged here, for its own verdict takes a package that the
service does not know for a sound one. Silence counts only of a service that speaks:

  * first it is asked about CANARY, a release with a known hole; a service that names none for it
    knows nothing, and the audit fails;
  * each locked package has to be known to it. One that is not is named, and fails the audit unless
    the caller takes it upon himself (`--unknown NAME`): a release may be unknown because it was
    taken down;
  * a service that cannot be reached fails the audit.

    python infra/audit.py [--lock FILE] [--unknown NAME]... [-- arguments of pip-audit]

Exit status: 0 all were looked up and nothing was found, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"

CANARY = "jinja2==2.10"
"""Source: CVE-2019-10906, PYSEC-2019-217: fixed in 2.10.1."""

WITHIN_S = 300.0
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)


class AuditFailed(Exception):
    """Nothing can be said of the packages; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the service said. `holes`: of each package it knows; `unknown`: packages and reasons."""

    holes: Mapping[str, tuple[str, ...]]
    unknown: Mapping[str, str]


def report_of(document: str, names: Collection[str]) -> Report:
    """The report on these packages that a document of `pip-audit --format json` states.

    A package that the document leaves out is unknown. Raises: AuditFailed for no document.
    """
    try:
        found: list[dict[str, Any]] = json.loads(document)["dependencies"]
    except (ValueError, KeyError, TypeError):
        raise AuditFailed("the service could not be asked") from None
    said = {each["name"]: each for each in found}
    holes = {
        name: tuple(f"{hole['id']} {', '.join(hole['aliases'])}".rstrip() for hole in each["vulns"])
        for name, each in said.items()
        if "vulns" in each
    }
    unknown = {
        name: said.get(name, {}).get("skip_reason", "was not looked up")
        for name in names
        if name not in holes
    }
    return Report(holes=holes, unknown=unknown)


def verdict(report: Report, accepted: Collection[str]) -> tuple[list[str], bool]:
    """What is to be printed, and whether the audit is passed."""
    lines = [
        f"VULNERABLE  {name}: {hole}" for name, holes in report.holes.items() for hole in holes
    ]
    passed = not lines
    for name, reason in report.unknown.items():
        taken = name in accepted
        passed = passed and taken
        lines.append(f"UNKNOWN{' (accepted)' if taken else ''}  {name}: {reason}")
    lines.append(f"{len(report.holes)} looked up, {len(report.unknown)} unknown to the service")
    return lines, passed


def names_in(lock: Path) -> list[str]:
    """The packages of a lock, each by its name in normal form. Source: PEP 503."""
    names = _LOCKED.findall(lock.read_text(encoding="utf-8"))
    return [re.sub(r"[-_.]+", "-", name).lower() for name in names]


def ask(lock: Path, arguments: Sequence[str]) -> Report:
    """Have pip-audit look up the packages of a lock. Raises: AuditFailed."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format", "json"]
    command += ["--progress-spinner", "off", "--requirement", str(lock), *arguments]
    done = subprocess.run(  # noqa: S603 - the caller's own arguments
        command, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    try:
        return report_of(done.stdout, names_in(lock))
    except AuditFailed as failed:
        last = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        raise AuditFailed(f"{failed}: {last}") from None


def assert_speaks(arguments: Sequence[str]) -> None:
    """Raise AuditFailed unless the service names the hole that it must know."""
    with tempfile.TemporaryDirectory() as directory:
        planted = Path(directory) / "canary.txt"
        planted.write_text(f"{CANARY}\n", encoding="utf-8")
        report = ask(planted, arguments)
    if not any(report.holes.values()):
        why = "; ".join(report.unknown.values()) or "it says that nothing is known"
        raise AuditFailed(f"the service names no hole in {CANARY}, which has one ({why})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit a lock; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make audit", description="known vulnerabilities")
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--unknown", action="append", default=[], metavar="NAME")
    parser.add_argument("more", nargs="*", metavar="ARGUMENT", help="of pip-audit, after --")
    given = parser.parse_args(arguments)
    try:
        assert_speaks(given.more)
        report = ask(given.lock, given.more)
    except AuditFailed as failed:
        sys.stderr.write(f"AUDIT NOT PASSED: {failed}\n")
        return 1
    lines, passed = verdict(report, given.unknown)
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.write("audit passed\n" if passed else "AUDIT NOT PASSED\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
