"""`make audit`: it fails for a hole, for silence, and for a package that nobody knows.

pip-audit is played by a module of its name, which answers from a table; no service is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / "infra" / "audit.py"
HOLE = {"id": "PYSEC-2019-217", "aliases": ["CVE-2019-10906"], "fix_versions": ["2.10.1"]}
LOCKED = ("anyio", "h11", "typing-extensions")

PLAYED = """
import json, pathlib, re, sys
known = json.loads(pathlib.Path(__file__).with_name("known.json").read_text())
if known is None:
    sys.exit("ConnectionError: no route")
lock = pathlib.Path(sys.argv[sys.argv.index("--requirement") + 1]).read_text()
said = [
    {"name": name, "version": "1", "vulns": known[name]} if name in known
    else {"name": name, "skip_reason": "not found"}
    for name in re.findall("(?m)^([a-z0-9-]+)==", lock) if name != "left-out"
]
print(json.dumps({"dependencies": said, "fixes": []}))
"""


def audit(
    directory: Path, known: dict[str, list[object]] | None, *arguments: str, more: str = ""
) -> tuple[int, str]:
    """Audit LOCKED, of a service that knows these packages and their holes."""
    (directory / "pip_audit.py").write_text(PLAYED, encoding="utf-8")
    (directory / "known.json").write_text(json.dumps(known), encoding="utf-8")
    lock = directory / "requirements.lock"
    lock.write_text("".join(f"{name}==1\n" for name in LOCKED) + more, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(AUDIT), "--lock", str(lock), *arguments],
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def sound(*but: str) -> dict[str, list[object]]:
    """A service that speaks, and knows no hole in what is locked; `but`: what it does not know."""
    known: dict[str, list[object]] = {name: [] for name in LOCKED if name not in but}
    return {**known, "jinja2": [HOLE]}


def test_sound_packages_pass(tmp_path: Path) -> None:
    """Every package was looked up, and nothing is known against any."""
    status, said = audit(tmp_path, sound())
    assert status == 0, said
    assert "3 looked up, 0 unknown" in said


def test_a_hole_fails_and_is_named(tmp_path: Path) -> None:
    """Also beside packages that are accepted unknown."""
    known = sound("anyio")
    known["h11"] = [HOLE]
    status, said = audit(tmp_path, known, "--unknown", "anyio")
    assert status == 1
    assert "VULNERABLE  h11: PYSEC-2019-217 CVE-2019-10906" in said


@pytest.mark.parametrize("canary", [{}, {"jinja2": []}])
def test_a_service_that_names_no_hole_in_the_canary_proves_nothing(
    tmp_path: Path, canary: dict[str, list[object]]
) -> None:
    """Its silence on all others fails the audit too, whether it knows the canary or not."""
    known = {name: found for name, found in sound().items() if name != "jinja2"} | canary
    status, said = audit(tmp_path, known, *(f"--unknown={name}" for name in LOCKED))
    assert status == 1
    assert "names no hole in jinja2==2.10" in said


def test_an_unknown_package_is_named_and_fails_unless_it_was_accepted(tmp_path: Path) -> None:
    """And accepting one accepts no other."""
    status, said = audit(tmp_path, sound("anyio"))
    assert status == 1
    assert "UNKNOWN  anyio: not found" in said
    status, said = audit(tmp_path, sound("anyio"), "--unknown", "anyio")
    assert status == 0
    assert "UNKNOWN (accepted)  anyio: not found" in said
    assert audit(tmp_path, sound("anyio", "h11"), "--unknown", "anyio")[0] == 1


def test_a_package_that_was_left_out_was_not_looked_up(tmp_path: Path) -> None:
    """What the answer does not mention is unknown."""
    status, said = audit(tmp_path, sound(), more="left-out==1\n")
    assert status == 1
    assert "UNKNOWN  left-out: was not looked up" in said


def test_a_service_out_of_reach_fails(tmp_path: Path) -> None:
    """With pip-audit's own last words."""
    status, said = audit(tmp_path, None)
    assert status == 1
    assert "could not be asked: ConnectionError: no route" in said
