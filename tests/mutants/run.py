"""Run every mutant and print what killed it: `make mutants`.

The rules of the protocol (simulation/mutants.py) and the bugs of the service (service.py), each in
a copy of the sources and a process of its own. Exit status 1 if one survives.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

from rich.console import Console
from rich.progress import track
from rich.table import Table

from mutants.service import SERVICE_MUTANTS, ServiceMutant
from simulation.mutants import MUTANTS, Mutant


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one mutant. `trouble`: it neither passed nor failed by an assertion."""

    name: str
    where: str
    killer: str
    killed: bool
    seconds: float
    trouble: str = ""


def judge(mutant: Mutant | ServiceMutant) -> Verdict:
    """Run one mutant."""
    begun_s = time.monotonic()
    noticed: Callable[[Path], bool]
    if isinstance(mutant, ServiceMutant):
        name, killer, noticed = mutant.bug, mutant.test, mutant.is_killed
    else:
        name, noticed = mutant.rule, mutant.is_noticed
        killer = mutant.scene or f"simulation, {mutant.seeds} seeds from {mutant.first}"
    killed, trouble = False, ""
    with tempfile.TemporaryDirectory() as directory:
        mutant.copy_to(Path(directory))
        try:
            killed = noticed(Path(directory))
        except (RuntimeError, TimeoutExpired) as error:
            trouble = str(error).strip().splitlines()[-1]
    return Verdict(name, mutant.file, killer, killed, time.monotonic() - begun_s, trouble)


def main() -> int:
    """Run them all on all cores."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    mutants: list[Mutant | ServiceMutant] = [*SERVICE_MUTANTS, *MUTANTS]
    with multiprocessing.Pool(os.cpu_count()) as pool:
        judged = pool.imap(judge, mutants)
        told = track(judged, "mutants", len(mutants), console=Console(stderr=True))
        verdicts = list(told)
    table = Table("", "seeded bug", "in", "killed by", "s", title="Mutants")
    for verdict in verdicts:
        sign = "killed" if verdict.killed else "SURVIVED"
        killer = verdict.killer.rpartition("::")[2] + (
            f" ({verdict.trouble})" * bool(verdict.trouble)
        )
        table.add_row(sign, verdict.name, verdict.where, killer, f"{verdict.seconds:.0f}")
    console.print(table)
    killed = sum(verdict.killed for verdict in verdicts)
    console.print(f"{killed} of {len(verdicts)} mutants killed")
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
