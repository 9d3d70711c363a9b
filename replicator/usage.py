"""What may be said on the command line: every command with its options.

Which values an option takes is arguments.py's matter; what a command does is that of commands/,
whose functions have the commands' names.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from replicator import __version__, arguments
from replicator.logs import LEVELS

DEFAULT_FILE = Path("replicator.toml")
WRONG = 2
DASHBOARD_PORT = 8090

SUMMARY = "Replicate DynamoDB tables between regions, on DynamoDB Streams."


class _Parser(argparse.ArgumentParser):
    """One line for wrong usage."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(WRONG, f"{self.prog}: {line}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Everything that may be said; wrong usage is one line, and exit status 2."""
    parser = _Parser(prog="replicator", description=SUMMARY, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"replicator {__version__}")
    _add_common(parser, defaults=True)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_init(_add(commands, "init", "write a starter configuration"))
    _add_setup(_add(commands, "setup", "make control tables, and streams where none is on"))
    _add_doctor(_add(commands, "doctor", "check the regions and tell what to mend"))
    _add_run(_add(commands, "run", "replicate until SIGTERM, which drains"))
    _add_verify(_add(commands, "verify", "compare a table's regions, and repair what differs"))
    _add_backfill(_add(commands, "backfill", "bring what stands in one region to the others"))
    _add_failover(_add(commands, "failover", "move a table's writers to another region"))
    _add_failback(_add(commands, "failback", "move them back to a region that has returned"))
    _add_drill(_add(commands, "drill", "rehearse a failover; changes nothing"))
    _add_status(_add(commands, "status", "show what running replicators report"))
    _add_top(_add(commands, "top", "watch what running replicators report"))
    _add_conflicts(_add(commands, "conflicts", "list what was decided between concurrent writes"))
    _add_quarantine(_add(commands, "quarantine", "deal with changes that could not be applied"))
    _add_dashboard(_add(commands, "dashboard", "show several running replicators on one page"))
    _add_pause(_add(commands, "pause", "stop links, durably, until they are resumed"))
    _add_pause(_add(commands, "resume", "let paused links go on where they stopped"))
    _add_demo(_add(commands, "demo", "see it work on this machine, AWS not needed"))
    return parser


def changes(parsed: argparse.Namespace) -> bool:
    """Whether a command does more than tell, so that a lost output must not stop it on the way."""
    match parsed.command:
        case "verify":
            return bool(parsed.repair)
        case "quarantine":
            return parsed.action in ("replay", "drop")
        case "setup" | "backfill":
            return not parsed.dry_run
        case name:
            return name in ("init", "failover", "failback", "pause", "resume")


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
    parser.add_argument(
        "--streams-only", action="store_true", help="leave control tables to the stacks of infra/"
    )
    _add_json(parser)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", action="append", metavar="REGION",
        help="try what the service of this region needs; may be repeated; all if left out",
    )  # fmt: skip
    _add_json(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", action="append", metavar="REGION",
        help="read only this region's streams; may be repeated; all regions if left out",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=arguments.port, help="of the status page, in place of http.port"
    )
    parser.add_argument(
        "--tolerate-outage", action="store_true",
        help="start although a region does not answer, or another's control table is yet to be "
        "made; its links begin when it is there",
    )  # fmt: skip


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--workers", type=arguments.count, help="processes of a Dask cluster made here"
    )
    which.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster to work on")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Keys of items that differ are printed in clear, and written to the report. Exit status: "
        "0 equal or repaired, 1 different or not known to be equal, 2 wrong usage or a region "
        "does not answer."
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
        "--sample", type=arguments.share, default=1.0, metavar="SHARE",
        help="compare this share of the keys, such as 0.1; all if left out",
    )  # fmt: skip
    parser.add_argument(
        "--settle", type=arguments.seconds, default=3.0, metavar="SECONDS",
        help="between looks at what differs; longer than the replication lag; 3 if left out",
    )  # fmt: skip
    parser.add_argument(
        "--read-rate", type=arguments.rate, metavar="UNITS",
        help="read units a second in each region; as fast as it goes if left out",
    )  # fmt: skip
    parser.add_argument(
        "--write-rate", type=arguments.rate, metavar="UNITS",
        help="write units a second that --repair spends in each region; likewise",
    )  # fmt: skip
    _add_cluster(parser)
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
            option, type=arguments.rate, metavar="UNITS",
            help=f"{unit} units a second, all workers together; as fast as it goes if left out",
        )  # fmt: skip
    parser.add_argument(
        "--segments", type=arguments.count, help="of the scan, 8 or more if left out"
    )
    _add_cluster(parser)
    parser.add_argument(
        "--restart", action="store_true", help="begin anew, also where one is not finished"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it would cost, write nothing"
    )
    _add_json(parser)


def _add_failover(parser: argparse.ArgumentParser) -> None:
    _add_handover(parser)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--planned", action="store_true",
        help="wait until its writers have stopped, all is across and the tables are equal",
    )  # fmt: skip
    way.add_argument(
        "--unplanned", action="store_true",
        help="say what is not across, as far as it can be known, and hand over",
    )  # fmt: skip
    _add_acting(parser)


def _add_failback(parser: argparse.ArgumentParser) -> None:
    _add_handover(parser)
    parser.add_argument(
        "--one-way", action="store_true",
        help="make the region the only source again, where an unplanned failover made all write",
    )  # fmt: skip
    _add_acting(parser)


def _add_drill(parser: argparse.ArgumentParser) -> None:
    _add_handover(parser)


def _add_handover(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--table", metavar="NAME", help="as configured")
    which.add_argument("--all", action="store_true", help="every table that has both regions")
    parser.add_argument(
        "--from", required=True, dest="from_region", metavar="REGION", help="whose writers stop"
    )
    parser.add_argument(
        "--to", required=True, dest="to_region", metavar="REGION", help="where they go on"
    )
    parser.add_argument(
        "--no-compare", action="store_true", help="do not read the tables to see them equal"
    )
    parser.add_argument(
        "--url", action="append",
        help="of a process that may know more of a region out of reach; may be repeated",
    )  # fmt: skip
    _add_json(parser)


def _add_acting(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Exit status: 0 handed over, 1 not, or not all of it: what was changed is said, 2 wrong "
        "usage, or a file of --write or --keys that could not be written at the end: the outcome "
        "was said before. Where a table has one source, the changed configuration is printed, or "
        "written with --write."
    )
    parser.add_argument(
        "--wait", type=arguments.seconds, default=300.0, metavar="SECONDS",
        help="for writers to stop and records to arrive, 300 if left out",
    )  # fmt: skip
    parser.add_argument(
        "--quiet", type=arguments.seconds, default=10.0, metavar="SECONDS",
        help="without a write after which writers count as stopped, 10 if left out",
    )  # fmt: skip
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="write the changed configuration here"
    )
    parser.add_argument(
        "--keys", type=Path, metavar="FILE", help="write the keys that are not across here, as JSON"
    )


def _add_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", action="append", help="of a process; may be repeated; from http if left out"
    )
    _add_json(parser)


def _add_top(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Ctrl-C ends it, with exit status 0. After --looks: that of `status` at the last look."
    )
    _add_status(parser)
    parser.add_argument(
        "--interval", type=arguments.seconds, default=1.0, metavar="SECONDS", help="1 if left out"
    )
    parser.add_argument("--looks", type=arguments.count, help="how many; until Ctrl-C if left out")


def _add_conflicts(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit status: 0 done, 1 a region's ledger is missing, 2 wrong usage."
    parser.add_argument("--table", metavar="NAME", help="as configured; all if left out")
    parser.add_argument("--region", help="where it was decided; all if left out")
    parser.add_argument(
        "--since",
        type=arguments.ago,
        metavar="TIME",
        help="no older than, such as 90s, 15m, 6h, 7d",
    )
    parser.add_argument(
        "--limit",
        type=arguments.count,
        default=50,
        help="newest to print, by the time of the write that won; 50 if left out",
    )
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="write all that fit here, as lines of JSON"
    )
    _add_json(parser)


def _add_quarantine(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)
    for action, text in (
        ("list", "say what is parked, without item data"),
        ("show", "say all of some; what they hold with --image"),
        ("replay", "apply again; what is newer wins; what has served is taken out"),
        ("drop", "give up for good"),
    ):
        act = actions.add_parser(action, help=text, description=text, allow_abbrev=False)
        _add_common(act, defaults=False)
        act.add_argument("--table", metavar="NAME", help="only of this table")
        act.add_argument("--source", metavar="REGION", help="only changes made in this region")
        act.add_argument("--target", metavar="REGION", help="only what this region refused")
        act.add_argument("--key", metavar="DIGEST", help="only of this key; its beginning will do")
        if action == "show":
            act.add_argument("--image", action="store_true", help="with the key and what it holds")
        if action in ("replay", "drop"):
            act.add_argument("--all", action="store_true", help="whatever is parked")
        if action == "drop":
            act.add_argument("--yes", action="store_true", help="without asking")
        _add_json(act)


def _add_dashboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", action="append", help="of a process; may be repeated; from http if left out"
    )
    parser.add_argument(
        "--port", type=arguments.port, default=DASHBOARD_PORT, help=f"{DASHBOARD_PORT} if left out"
    )


def _add_pause(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Running processes obey within seconds. A stream holds 24 hours: what is paused for longer "
        "loses records, which is then reported as a gap and mended by comparison."
    )
    parser.add_argument("--table", required=True, metavar="NAME", help="as configured")
    parser.add_argument("--source", metavar="REGION", help="read from; each if left out")
    parser.add_argument("--target", metavar="REGION", help="written to; each if left out")
    _add_json(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=arguments.seconds, default=30.0, help="of writing, 30 if left out"
    )
    parser.add_argument("--headless", action="store_true", help="plain lines, no live screen")
    parser.add_argument(
        "--port", type=arguments.port,
        help="of the status page; if left out any free, and no page with --headless or without a "
        "terminal",
    )  # fmt: skip
