"""Replicate DynamoDB tables between regions, on DynamoDB Streams.

This module reads the arguments and turns errors into lines and an exit status: 0 done, 1 a check
or a process is not well, 2 wrong usage, configuration or set-up. What a person can mend is one
line per error on standard error and never a traceback; a traceback is a bug. What the commands do
stands in commands.py, which is imported when one is run, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from replicator import __version__
from replicator.errors import ConfigurationError, ReplicatorError
from replicator.logs import LEVELS, configure

DEFAULT_FILE = Path("replicator.toml")
NOT_WELL, WRONG = 1, 2
PORT_MAX = 65_535
DAY_S = 86_400
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        _configure_logs(parsed)
        command = getattr(import_module("replicator.commands"), parsed.command)
        status: int = command(parsed)
    except ConfigurationError as error:
        return _complain(error, WRONG)
    except ReplicatorError as error:
        return _complain(error, NOT_WELL)
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _complain(error: ReplicatorError, status: int) -> int:
    for line in str(error).splitlines():
        print(f"replicator: {line}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """One line for wrong usage."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(WRONG, f"{self.prog}: {line}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="replicator", description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"replicator {__version__}")
    _add_common(parser, defaults=True)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_init(_add(commands, "init", "write a starter configuration"))
    _add_setup(_add(commands, "setup", "make control tables, and streams where none is on"))
    _add_json(_add(commands, "doctor", "check the regions and tell what to mend"))
    _add_run(_add(commands, "run", "replicate until SIGTERM, which drains"))
    _add_verify(_add(commands, "verify", "compare a table's regions, and repair what differs"))
    _add_backfill(_add(commands, "backfill", "bring what stands in one region to the others"))
    _add_status(_add(commands, "status", "show what running replicators report"))
    _add_demo(_add(commands, "demo", "see it work on this machine, AWS not needed"))
    return parser


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, allow_abbrev=False
    )
    _add_common(parser, defaults=False)
    parser.set_defaults(command=name)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, defaults: bool) -> None:
    """Options that may stand before the command or after it."""

    def default(value: object) -> object:
        return value if defaults else argparse.SUPPRESS

    parser.add_argument(
        "--config", metavar="FILE", type=Path, default=default(DEFAULT_FILE),
        help=f"configuration, {DEFAULT_FILE} if left out",
    )  # fmt: skip
    parser.add_argument(
        "--log-level", choices=LEVELS, default=default(None),
        help="info for run, warning for the others if left out",
    )  # fmt: skip
    parser.add_argument(
        "--log-json", action="store_true", default=default(False), help="one JSON object per event"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--regions", default="us-east-1,eu-west-1", help="separated by commas")
    parser.add_argument("--table", default="orders")
    parser.add_argument("--source", help="the one region that writes; every region if left out")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    _add_json(parser)


def _add_setup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    _add_json(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", action="append", metavar="REGION",
        help="read only this region's streams; may be repeated; all regions if left out",
    )  # fmt: skip
    parser.add_argument("--port", type=_port, help="of the status page, in place of http.port")
    parser.add_argument(
        "--tolerate-outage", action="store_true",
        help="start although a region does not answer; its links begin when it does",
    )  # fmt: skip


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Keys of items that differ are printed in clear, and written to the report. Exit status: "
        "0 equal or repaired, 1 different, 2 wrong usage or a region does not answer."
    )
    parser.add_argument("--table", required=True, metavar="NAME", help="as configured")
    parser.add_argument("--regions", help="separated by commas; all of the table's if left out")
    parser.add_argument(
        "--repair", action="store_true", help="bring the newest version of what differs everywhere"
    )
    parser.add_argument(
        "--authority", metavar="REGION", help="whose content wins where versions do not tell"
    )
    parser.add_argument(
        "--sample", type=_share, default=1.0, metavar="SHARE",
        help="compare this share of the keys, such as 0.1; all if left out",
    )  # fmt: skip
    parser.add_argument(
        "--settle", type=_seconds, default=3.0, metavar="SECONDS",
        help="between looks at what differs; longer than the replication lag; 3 if left out",
    )  # fmt: skip
    parser.add_argument(
        "--read-rate", type=_rate, metavar="UNITS",
        help="read units a second in each region; as fast as it goes if left out",
    )  # fmt: skip
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write each difference here as a line of JSON"
    )
    _add_json(parser)


def _add_backfill(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "May run beside live replication, and goes on where one that was stopped left off. Exit "
        "status: 0 done, 1 items in dispute or refused, 2 wrong usage or no access."
    )
    parser.add_argument("--table", required=True, metavar="NAME", help="as configured")
    parser.add_argument(
        "--source", metavar="REGION", help="copied from; of a one-way table its source if left out"
    )
    parser.add_argument(
        "--target", action="append", metavar="REGION",
        help="copied to; may be repeated; all other regions of the table if left out",
    )  # fmt: skip
    parser.add_argument(
        "--authority", metavar="REGION",
        help="whose content stays where two regions hold items that never had a version",
    )  # fmt: skip
    for option, unit in (("--write-rate", "write"), ("--read-rate", "read")):
        parser.add_argument(
            option, type=_rate, metavar="UNITS",
            help=f"{unit} units a second, all workers together; as fast as it goes if left out",
        )  # fmt: skip
    parser.add_argument("--segments", type=_count, help="of the scan, 8 or more if left out")
    parser.add_argument("--workers", type=_count, help="processes of a Dask cluster made here")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster to work on")
    parser.add_argument(
        "--restart", action="store_true", help="begin anew, also where one is not finished"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it would cost, write nothing"
    )
    _add_json(parser)


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", action="append", help="of a process; may be repeated; from http if left out"
    )
    _add_json(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=_seconds, default=30.0, help="of writing, 30 if left out")
    parser.add_argument("--headless", action="store_true", help="plain lines, no live screen")
    parser.add_argument("--port", type=_port, help="of the status page, any free if left out")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give one of 1 to {PORT_MAX}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= DAY_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; give seconds, such as 20")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give a whole number, such as 4")
    return int(text)


def _share(text: str) -> float:
    share = _number(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; give one up to 1, such as 0.1")
    return share


def _rate(text: str) -> float:
    rate = _number(text)
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; give units a second, such as 100")
    return rate


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _configure_logs(parsed: argparse.Namespace) -> None:
    level = parsed.log_level or ("info" if parsed.command == "run" else "warning")
    configure(level=level, as_json=parsed.log_json)


if __name__ == "__main__":
    raise SystemExit(main())
