"""`make fuzz`, or `python -m fuzz [--seconds S] [TARGET …]`: feed each target for some seconds.

Each target is a process of its own, since the fuzzer ends the process that it runs in. What breaks
one is kept as a file, whose name is said; `python -m fuzz --again FILE TARGET` feeds it once more.
Exit status: 0 where nothing broke.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

NAMES = ("records", "marker", "rows", "event")
INPUT_BYTES_MAX = 4096
KEPT = Path(__file__).parents[2] / ".fuzz"
"""Where what broke a target is kept."""

GRACE_S = 60.0
"""How much longer a target may take: loading, and the last input."""


def main() -> int:
    """Run what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--again", type=Path, help="feed this file, and nothing else")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES))
    given = parser.parse_args()
    names: Sequence[str] = given.targets or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    if given.here:
        feed(names[0], given.seconds, given.again)
    broken = [name for name in names if not survives(name, given.seconds, given.again)]
    sys.stdout.write(f"broken: {', '.join(broken)}\n" if broken else "nothing broke\n")
    return 1 if broken else 0


def survives(name: str, seconds: int, again: Path | None) -> bool:
    """Feed one target in a process of its own, which says what it does."""
    more = [] if again is None else ["--again", str(again)]
    command = [sys.executable, "-m", "fuzz", "--here", "--seconds", str(seconds), *more, name]
    sys.stdout.write(f"=== {name}\n")
    sys.stdout.flush()
    return subprocess.run(command, timeout=seconds + GRACE_S, check=False).returncode == 0


def feed(name: str, seconds: int, again: Path | None) -> None:
    """Become the fuzzer of one target; does not return."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["conflict", "replicator"]):
        targets = importlib.import_module("fuzz.targets")
    target = targets.TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        KEPT.mkdir(exist_ok=True)
        options = [f"-artifact_prefix={KEPT}/{name}-", "-print_final_stats=1", "-verbosity=0"]
        options += [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}"]
        what = corpus if again is None else str(again)
        atheris.Setup([sys.argv[0], *options, what], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
