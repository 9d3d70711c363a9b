"""`make bench`: measures the figures that were asked for, prints a table, writes bench.json.

    make bench                                   every figure
    make bench ARGS='client-cpu reader-cpu'      figures whose names begin so
    make bench ARGS='--list' ROUNDS=9

Exit status: 0 measured, 1 a figure could not be measured (or, with --check, missed its goal), 2
wrong usage.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

import bench
from bench.figures import Bench, Figure, Result, Unmeasurable, measured
from bench.report import document, keep, markdown, show
from support.engines import CREDENTIALS


def benches() -> Iterator[Bench]:
    """Every bench of this package, by module and in its order."""
    for module in sorted(found.name for found in pkgutil.iter_modules(bench.__path__)):
        if module != "__main__" and not module.startswith("test_"):
            yield from getattr(importlib.import_module(f"bench.{module}"), "BENCHES", ())


def chosen(known: Sequence[Bench], names: Sequence[str]) -> list[tuple[Bench, list[Figure]]]:
    """The benches that have wanted figures, and which. Raises: ValueError for a name of none."""
    figures = [figure.name for each in known for figure in each.figures]
    for name in names:
        if not any(figure.startswith(name) for figure in figures):
            raise ValueError(f'no figure is named "{name}"; known: {", ".join(figures)}')
    pairs = [
        (each, [f for f in each.figures if not names or f.name.startswith(tuple(names))])
        for each in known
    ]
    return [(each, wanted) for each, wanted in pairs if wanted]


def run(
    work: Sequence[tuple[Bench, list[Figure]]], rounds: int | None, output: Path
) -> list[Result]:
    """Measure, and keep what is found as it is found; what cannot be measured is told."""
    results: list[Result] = []
    for each, wanted in work:
        names = ", ".join(figure.name for figure in wanted)
        print(f"measuring {names}", file=sys.stderr, flush=True)
        try:
            found = measured(each, rounds or each.rounds, wanted)
        except Unmeasurable as reason:
            print(f"{names}: not measured: {reason}", file=sys.stderr)
            continue
        keep(output, [document(result, _command(result, rounds)) for result in found])
        results += found
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the replicator.")
    parser.add_argument("figures", nargs="*", help="names of figures, or how they begin")
    parser.add_argument("--rounds", type=int, help="at least 1; a figure's own number if left out")
    parser.add_argument("--list", action="store_true", help="name the figures and end")
    parser.add_argument("--markdown", action="store_true", help="print what is stored, and end")
    parser.add_argument("--check", action="store_true", help="exit 1 where a goal is missed")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds is at least 1")
    try:
        work = chosen(list(benches()), options.figures)
    except ValueError as error:
        parser.error(str(error))
    if options.markdown:
        print(markdown(options.output))
        return 0
    if options.list:
        for _, figures in work:
            for figure in figures:
                print(f"{figure.name:32} {figure.goal!s:9} {figure.title}")
        return 0
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # nobody's own account takes part
    os.environ.update(CREDENTIALS)
    results = run(work, options.rounds, options.output)
    show(results, Console(width=None if sys.stdout.isatty() else 200))
    missed = options.check and not all(result.reached for result in results)
    return 1 if missed or len(results) < sum(len(figures) for _, figures in work) else 0


def _command(result: Result, rounds: int | None) -> str:
    """The command that measures a figure alone."""
    said = f"make bench ARGS={shlex.quote(result.figure.name)}"
    return said if rounds is None else f"{said} ROUNDS={rounds}"


if __name__ == "__main__":
    sys.exit(main())
