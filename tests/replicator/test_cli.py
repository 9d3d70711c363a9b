"""The command: what a person can mend is one line per error, the exit status says the rest."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import io
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from opentelemetry.util.re import parse_env_headers

from replicator import __version__
from replicator.cli import main
from replicator.commands import ROOMS, command_of
from replicator.dashboard.access import Access
from replicator.dashboard.app import create_app
from replicator.dashboard.serving import listen, serve_on
from replicator.handover import command as handover
from replicator.logs import JsonLines, TextLines
from replicator.output import Output
from replicator.usage import changes, parser
from support.engines import Engine, free_port

REGIONS = ("us-east-1", "eu-west-1")
BEARER = "t0ken-of-sixteen-characters"


@pytest.fixture(autouse=True)
def _directory_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test an empty directory, and take back what a command does to logging."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; its exit status, its output and the lines of its standard error."""

    def call(*arguments: str) -> tuple[int, str, list[str]]:
        try:
            status = main(arguments)
        except SystemExit as wrong_usage:
            status = int(str(wrong_usage.code))
        said = capsys.readouterr()
        return status, said.out, said.err.splitlines()

    return call


def write(text: str, name: str = "replicator.toml") -> None:
    """Write a configuration."""
    Path(name).write_text(text)


def configuration(endpoint_url: str, control_table: str = "replicator-control") -> str:
    """Describe two regions of one engine, both of which write to `orders`."""
    regions = "".join(
        f'[regions.{region}]\nendpoint_url = "{endpoint_url}"\n' for region in REGIONS
    )
    return (
        f'control_table = "{control_table}"\n{regions}'
        f"[tables.orders]\nregions = {json.dumps(REGIONS)}\n"
    )


def test_help_names_the_commands(run: Run) -> None:
    """What there is to run is found by asking."""
    status, out, _ = run("--help")
    assert status == 0
    assert all(f"  {name} " in out for name in ("init", "setup", "doctor", "run", "status", "demo"))


@pytest.mark.parametrize(
    ("command", "promises"),
    [
        ("failover", ["1 not, or not all of it: what was changed is said", "written at the end"]),
        ("failback", ["1 not, or not all of it: what was changed is said", "written at the end"]),
        ("top", ["Ctrl-C ends it, with exit status 0", "at the last look"]),
        ("demo", ["no page with --headless or without a terminal"]),
    ],
)
def test_help_promises_what_is_kept(run: Run, command: str, promises: list[str]) -> None:
    """Scripts go by exit statuses, and by what is not there."""
    said = " ".join(run(command, "--help")[1].split())
    assert not [promise for promise in promises if promise not in said]


def test_version(run: Run) -> None:
    """The version is that of the package."""
    assert run("--version") == (0, f"replicator {__version__}\n", [])


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("run", "--prot", "1"),
        ("run", "--port", "x"),
        ("run", "--port", "65536"),
        ("demo", "--seconds", "nan"),
        ("demo", "--seconds", "-1"),
        ("doctor", "--log-level", "loud"),
        ("status", "--url", "nonsense"),
        ("init", "--regions", ","),
        ("init", "--regions", "us-east-1,us-east-1"),
        ("init", "--regions", "us-east-1"),
        ("init", "--source", "eu-west-3"),
        ("init", "--table", "a b"),
    ],
)
def test_wrong_usage_is_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    """Wrong usage names what is wrong and changes nothing."""
    status, out, err = run(*arguments)
    assert (status, out, len(err)) == (2, "", 1)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("command", ["setup", "doctor", "run", "status"])
def test_a_missing_configuration_is_one_line(run: Run, command: str) -> None:
    """It names the file and the way to one."""
    line = (
        "replicator: replicator.toml: not found; write one with `replicator init`, or name "
        "another with --config"
    )
    assert run(command) == (2, "", [line])


@pytest.mark.parametrize("command", ["setup", "doctor", "run", "status"])
def test_a_wrong_configuration_is_one_line_per_error(run: Run, command: str) -> None:
    """Every command refuses it alike."""
    write('[regions.us-east-1]\n[tables.orders]\nregions = ["us-east-1", "us-east-2"]\nwhen = 1\n')
    status, out, err = run(command)
    assert (status, out) == (2, "")
    assert err == [
        ('replicator: replicator.toml: tables.orders.when: unknown key; did you mean "where"?')
    ]


def test_the_configuration_may_be_named_before_or_after(run: Run) -> None:
    """`--config` is taken on both sides of the command."""
    expected = (2, "", ["replicator: a.toml: is not TOML: Invalid value (at end of document)"])
    write("a =", "a.toml")
    assert run("--config", "a.toml", "doctor") == expected
    assert run("doctor", "--config", "a.toml") == expected


def test_init_writes_a_sound_file_once(run: Run) -> None:
    """A file that is there is kept unless told otherwise."""
    assert run("init", "--regions", "us-west-2, eu-west-3", "--table", "books")[0] == 0
    assert '[tables.books]\nregions = ["us-west-2", "eu-west-3"]' in Path(
        "replicator.toml"
    ).read_text(encoding="utf-8")
    status, _, err = run("init")
    assert (status, len(err)) == (2, 1)
    assert "--force" in err[0]
    assert run("init", "--force", "--json") == (0, '{"written": "replicator.toml"}\n', [])


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--table", "a\nb", r"'a\nb' is no table's name; "),
        ("--table", "", "'' is no table's name; "),
        ("--table", "a\x7fb", r"'a\x7fb' is no table's name; "),
        ("--table", "\udcff" * 3, r"'\udcff\udcff\udcff' is no table's name; "),
        ("--regions", "us-east-1\nx,eu-west-1", r"'us-east-1\nx' is no region's name; "),
        ("--regions", "us-east-1,eu-west-1,us-east-1", "a region is named twice; "),
        ("--regions", "us-east1,eu-west-1", "'us-east1' is no AWS region; give it as AWS does"),
        ("--regions", "us-east-1", "names one only; give at least two"),
        ("--regions", " , ", "names none; give at least two"),
        ("--source", "us-\x7f", r"'us-\x7f' is no region's name; "),
        ("--source", "us-east1", '"us-east1" is none of --regions; did you mean "us-east-1"?'),
        ("--source", "ap-south-1", '"ap-south-1" is none of --regions; '),
    ],
)
def test_init_names_the_option_that_is_wrong(run: Run, option: str, value: str, said: str) -> None:
    """Whatever stands in it, on one line."""
    status, out, err = run("init", option, value)
    assert (status, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"replicator: {option}: {said}")
    assert not list(Path().iterdir())


def test_an_unknown_source_is_one_line(run: Run) -> None:
    """It names the nearest region that is read."""
    run("init")
    assert run("run", "--source", "us-east-2") == (
        2,
        "",
        [
            (
                'replicator: --source: "us-east-2" is no region whose tables are read; did you '
                'mean "us-east-1"?'
            )
        ],
    )


def test_run_refuses_an_unreachable_endpoint(run: Run) -> None:
    """One line per region, within seconds, and no traceback."""
    write(configuration(f"http://127.0.0.1:{free_port()}"))
    status, out, err = run("run")
    assert (status, out, len(err)) == (2, "", 2)
    for line, region in zip(err, REGIONS, strict=True):
        assert line.startswith(f"replicator: region {region}: ")
        assert "; check endpoint_url, aws_region and the network; " in line
        assert line.endswith("if the region is down, start the others with --tolerate-outage")


def test_run_refuses_an_unknown_profile(run: Run) -> None:
    """A profile that is not set up is one line."""
    write(configuration("http://127.0.0.1:1") + '[regions.us-west-2]\nprofile = "nobody"\n')
    text = Path("replicator.toml").read_text(encoding="utf-8")
    write(text.replace('"eu-west-1"]', '"us-west-2"]'))
    status, _, err = run("run")
    assert (status, len(err)) == (2, 2)
    assert "nobody" in err[1]


@pytest.mark.parametrize("command", [("run", "--tolerate-outage"), ("verify", "--table", "orders")])
def test_a_token_file_that_is_not_there_is_one_line(
    run: Run, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No outage, no traceback of botocore's, and it is the credentials that are to be checked."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/token")
    write(configuration(f"http://127.0.0.1:{free_port()}"))
    status, out, err = run(*command)
    assert (status, out, len(err)) == (2, "", 2)
    for line, region in zip(err, REGIONS, strict=True):
        assert line.startswith(f"replicator: region {region}: ")
        assert "not to be had: /no/such/token: No such file or directory; check the cred" in line


@pytest.mark.parametrize("name", ["ministack", "dynamodb-local"])
def test_setup_then_doctor_on_an_engine(
    run: Run, engine: Callable[[str], Engine], name: str
) -> None:
    """From bare tables to a sound set-up; what is missing is named on the way."""
    url = engine(name).endpoint_url
    control = f"control-{free_port()}"
    write(configuration(url, control).replace("tables.orders", f"tables.orders-{control}"))
    table = f"orders-{control}"
    assert run("run") == (
        2,
        "",
        [
            line.format(region=region)
            for line in (
                (
                    f"replicator: control table {control} in {{region}}: does not exist; run "
                    "`replicator setup`"
                ),
            )
            for region in REGIONS
        ]
        + [
            f"replicator: table {table} in {region}: does not exist; create it, or set its name: "
            f"[tables.{table}.names] {region} = …"
            for region in REGIONS
        ],
    )
    for region in REGIONS:
        _create_table(url, region, table)
    assert run("doctor")[0] == 1
    status, out, _ = run("setup", "--json")
    assert (status, {check["level"] for check in json.loads(out)}) == (0, {"ok"})
    status, out, err = run("doctor")
    assert (status, err) == (0, [])
    assert out.splitlines()[-1].endswith(f" ok, {len(REGIONS)} to look at")
    assert out.count("was never read to its end") == len(REGIONS)


def _create_table(endpoint_url: str, region: str, name: str) -> None:
    client = boto3.client("dynamodb", region_name=region, endpoint_url=endpoint_url)
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    client.close()


def _status(state: str, error: str | None = None) -> dict[str, Any]:
    link: dict[str, Any] = {"target": "eu-west-1", "state": "ok", "error": error, "pending": 3}
    link |= {"backlog_age_s": None, "latency_ms": {"p50": None, "p99": 12.5}}
    link |= dict.fromkeys(("applied", "stale", "removed", "quarantined", "retries"), 1_234)
    pipeline: dict[str, Any] = {"table": "orders", "source": "us-east-1", "error": None}
    pipeline |= {"state": "running", "gap": None, "links": [link], "records": {"conflicts": 58}}
    exposure = {"us-east-1": {"seconds": None, "records": 3}}
    document: dict[str, Any] = {"version": "1", "pid": 7, "state": state, "now_us": 17_000_000}
    return {**document, "exposure": exposure, "pipelines": [pipeline]}


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """Serve a status as a running replicator would, to who has the token; gives its URL."""
    ends: list[Callable[[], None]] = []

    def serve_status(status: dict[str, Any], token: str | None = None) -> str:
        listener = listen("127.0.0.1", 0)
        port: int = listener.getsockname()[1]
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        access = Access() if token is None else Access(host="192.0.2.1", token=token)
        app = create_app(lambda: status, access=access)
        thread = Thread(target=loop.run_until_complete, args=(serve_on(app, listener, stop),))
        thread.start()

        def end() -> None:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)
            loop.close()

        ends.append(end)
        return f"http://127.0.0.1:{port}"

    yield serve_status
    for end in ends:
        end()


def test_status_shows_each_link(run: Run, serving: Callable[[dict[str, Any]], str]) -> None:
    """What is unknown is called so, and never shown as zero."""
    status, out, err = run("status", "--url", serving(_status("ok")))
    assert (status, err) == (0, [])
    (row,) = [line for line in out.splitlines() if "us-east-1 → eu-west-1" in line]
    assert row.split()[4:8] == ["ok", "3", "unknown", "unknown"]
    assert row.split()[8:] == ["12.5", "ms", "unknown", *["1,234"] * 4]
    assert "if us-east-1 vanished now: unknown, at least 3 changes" in out
    assert "conflicts decided: 58" in out


def test_status_of_several_processes_is_json(
    run: Run, serving: Callable[[dict[str, Any]], str]
) -> None:
    """One entry per process; one that does not answer makes the exit status 1."""
    here, nowhere = serving(_status("ok")), f"http://127.0.0.1:{free_port()}"
    status, out, err = run("status", "--json", "--url", here, "--url", nowhere)
    assert (status, len(err)) == (1, 1)
    assert err[0].endswith("is `replicator run` running?")
    reports = json.loads(out)
    assert [report["url"] for report in reports] == [here, nowhere]
    assert reports[0]["status"] == _status("ok")
    assert reports[1]["status"] is None


@pytest.mark.parametrize("command", [("status",), ("top", "--looks", "1"), ("dashboard",)])
@pytest.mark.parametrize("name", ["nonexistent.toml", "replicator.toml"])
def test_a_configuration_that_is_named_has_to_be_there(
    run: Run, serving: Callable[[dict[str, Any]], str], command: tuple[str, ...], name: str
) -> None:
    """Though every page is named as well: with a slip of the pen the token would be missing."""
    where = ("--config", name, "--url", serving(_status("ok")))
    status, out, err = run(*command, *where)
    assert (status, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"replicator: {name}: not found; ")


@pytest.mark.parametrize("state", ["degraded", "failed"])
def test_status_that_is_not_ok_is_exit_1(
    run: Run, serving: Callable[[dict[str, Any]], str], state: str
) -> None:
    """A script can rely on the exit status."""
    assert run("status", "--url", serving(_status(state)))[0] == 1


def test_status_obeys_nothing_that_it_shows(
    run: Run, serving: Callable[[dict[str, Any]], str]
) -> None:
    """Neither terminal controls nor markup of an error's text take effect."""
    error = "\x1b[2J[red]gone[/red]\u202e"
    _, out, _ = run("status", "--url", serving(_status("degraded", error)))
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "[red]gone[/red]" in out


@pytest.mark.parametrize("text", ["", "5", "h", "5x", "1.5h", "-5m", "\u0665m"])
def test_a_time_that_is_none_is_wrong_usage(run: Run, text: str) -> None:
    """One line, with an example."""
    status, _, err = run("conflicts", f"--since={text}")
    assert (status, len(err)) == (2, 1)
    assert "give one such as 90s, 15m, 6h, 7d" in err[0]


def test_top_shows_what_status_shows(run: Run, serving: Callable[[dict[str, Any]], str]) -> None:
    """So many looks as are asked for, with the exit status of the last."""
    here = serving(_status("ok"))
    status, out, err = run("top", "--url", here, "--looks", "2", "--interval", "0.01")
    assert (status, err) == (0, [])
    assert out.count("us-east-1 → eu-west-1") == 2
    assert run("top", "--url", serving(_status("failed")), "--looks", "1")[0] == 1


@pytest.mark.parametrize("command", ["failover", "failback", "drill"])
def test_a_hand_over_hears_the_pages_that_it_is_given(
    run: Run, serving: Callable[..., str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """With the token; a page that cannot be heard is told, and holds nothing up."""
    heard: list[Any] = []

    def hand_over(*_: object, statuses: Any, **__: object) -> Any:
        heard.extend(statuses)
        return [] if command == "drill" else 0

    monkeypatch.setattr(handover, "rehearse" if command == "drill" else "run_handover", hand_over)
    here, another = serving(_status("ok"), BEARER), serving(_status("ok"), f"another-{BEARER}")
    nowhere = f"http://127.0.0.1:{free_port()}"
    write(f'{configuration("http://127.0.0.1:9")}[http]\ntoken = "{BEARER}"\n')
    moving = ("--table", "orders", "--from", REGIONS[0], "--to", REGIONS[1])
    pages = [word for url in (here, another, nowhere) for word in ("--url", url)]
    kind = ["--planned"] if command == "failover" else []
    status, _, err = run(command, *kind, *moving, *pages)
    assert (status, heard, len(err)) == (0, [_status("ok")], 2)
    assert err[0].startswith(f"replicator: {another}: no status: 401 ")
    assert err[1].startswith(f"replicator: {nowhere}: no status: ")


def test_as_a_process_it_ends_without_a_traceback(tmp_path: Path) -> None:
    """The same, seen from a shell."""
    done = subprocess.run(
        [sys.executable, "-m", "replicator", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def shell(*arguments: str, stdout: int, **environment: str) -> tuple[int, str]:
    """Run a command as a process; its exit status and its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "replicator", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.decode()


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short output is written at once, or as the process ends."""
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


SAYING = [("init", "--force"), ("--help",), ("conflicts", "--help"), ("--version",)]


@pytest.mark.usefixtures("buffering")
@pytest.mark.parametrize("arguments", SAYING, ids=" ".join)
def test_output_that_nobody_reads_ends_quietly(arguments: tuple[str, ...]) -> None:
    """`replicator … | true` is no bug of anybody's; a shell says the same of others."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert shell(*arguments, stdout=writer) == (141, "")
    finally:
        os.close(writer)


@pytest.mark.usefixtures("buffering")
@pytest.mark.parametrize("arguments", SAYING, ids=" ".join)
def test_output_to_a_full_disk_is_one_line(arguments: tuple[str, ...]) -> None:
    """What was asked for is not there, so it is not called done."""
    with Path("/dev/full").open("wb") as full:
        status, err = shell(*arguments, stdout=full.fileno())
    line = "replicator: standard output: not written: No space left on device\n"
    assert (status, err) == (1, line)


@pytest.mark.usefixtures("buffering")
@pytest.mark.parametrize("arguments", [("doctor",), ("resume",)])
def test_errors_to_a_full_disk_leave_the_exit_status(arguments: tuple[str, ...]) -> None:
    """It is what a script looks at."""
    command = [sys.executable, "-m", "replicator", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, env=environment, stderr=full, timeout=60, check=False)
    assert done.returncode == 2


@pytest.mark.usefixtures("buffering")
def test_what_ended_badly_and_was_not_heard_is_one_line() -> None:
    """The exit status is that of the command; that nothing was told is said all the same."""
    with Path("/dev/full").open("wb") as full:
        status, err = shell("status", "--url", "http://127.0.0.1:9", "--json", stdout=full.fileno())
    assert status == 1
    assert err.splitlines()[-1].endswith("standard output: not written: No space left on device")


def test_a_bug_is_told_without_its_words_though_nobody_reads(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the command goes on after its output was lost."""

    def broken(_: object) -> int:
        sys.stdout.write("told to nobody\n")
        raise ValueError("canary")

    run("init", "--force")
    monkeypatch.setattr("replicator.commands.tables.backfill", broken)
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        status, _, err = run("backfill", "--table", "orders")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert status == 1
    assert not any("canary" in line for line in err if "raise" not in line)


def test_errors_are_written_again_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that was full for a minute must not silence a process for weeks."""

    class Disk(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(text)

    disk = Disk()
    monkeypatch.setattr(sys, "stderr", disk)
    with Output("stderr"):
        sys.stderr.write("lost\n")
        disk.full = False
        sys.stderr.write("told\n")
    assert disk.getvalue() == "told\n"


def test_a_table_for_nobody_ends_quietly(
    run: Run, serving: Callable[[dict[str, Any]], str]
) -> None:
    """Also where a library writes, which has its own idea of such an end."""
    run("init")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert shell("status", "--url", serving(_status("ok")), stdout=writer) == (141, "")
    finally:
        os.close(writer)


def test_a_name_that_the_terminal_cannot_show_is_shown_in_part(tmp_path: Path) -> None:
    """By then the work is done; what cannot be said of it does not make it a failure."""
    out = tmp_path / "out"
    with out.open("wb") as file:
        told = shell(
            "init", "--config", "bücher.toml", stdout=file.fileno(), PYTHONIOENCODING="ascii"
        )
    assert told == (0, "")
    assert out.read_bytes() == b"b?cher.toml: written; next: setup, doctor\n"


def test_without_an_output_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """`>&-`: nobody wants to hear of it."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["init"]) == 0
    assert Path("replicator.toml").exists()


def _record(**fields: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "x", "levelname": "INFO", "msg": "shard.retry", "created": 0.5, **fields}
    )


def test_an_event_is_one_line() -> None:
    """Fields follow the event's name; what could break the line is quoted."""
    line = TextLines().format(_record(region="eu-west-1", error='a\nb "c"', count=3))
    assert line.startswith("1970-01-01T00:00:00.")
    assert line.endswith(r'Z INFO shard.retry region=eu-west-1 error="a\nb \"c\"" count=3')


def test_an_event_as_json_holds_the_same() -> None:
    """One object per line, which no field can overrule."""
    line = json.loads(JsonLines().format(_record(region="eu-west-1", level="x")))
    assert (line["event"], line["level"], line["region"]) == ("shard.retry", "INFO", "eu-west-1")


def test_libraries_that_print_bodies_stay_quiet(run: Run) -> None:
    """Requests are printed by botocore at DEBUG, items included."""
    run("--log-level", "debug", "doctor")
    assert logging.getLogger().level == logging.DEBUG
    assert not logging.getLogger("botocore.endpoint").isEnabledFor(logging.INFO)
    assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.INFO)


def test_a_header_of_the_collectors_is_not_quoted(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenTelemetry repeats what it cannot read of OTEL_EXPORTER_OTLP_HEADERS."""
    run("doctor")
    parse_env_headers("Authorization: Bearer hunter2")
    said = capsys.readouterr().err
    assert "OTEL_EXPORTER_OTLP_HEADERS" in said
    assert "hunter2" not in said


def test_a_bug_is_told_by_its_place_and_not_by_its_words(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an unforeseen error says may quote an item."""

    def broken(_: object) -> int:
        raise ExceptionGroup("canary", [KeyError("canary")])

    monkeypatch.setattr("replicator.commands.watching.status", broken)
    status, out, err = run("status")
    assert (status, out) == (1, "")
    assert err[0] == "Traceback (most recent call last):"
    assert err[-1].startswith("replicator: internal error: KeyError")
    assert not any("canary" in line for line in err if "raise" not in line)


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()])
def test_an_exception_in_a_log_is_told_without_its_words(formatter: logging.Formatter) -> None:
    """Libraries log what they catch, with what it says."""
    items: dict[str, int] = {}
    try:
        items["yranac"[::-1]]
    except KeyError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("uvicorn.error", logging.ERROR, "f", 1, "failed", (), info)
    text = formatter.format(record)
    assert "KeyError" in text
    assert "test_an_exception_in_a_log" in text
    assert "canary" not in text


def test_a_dashboard_whose_port_is_taken_is_one_line(run: Run) -> None:
    """It names the address and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, out, err = run("dashboard", "--url", "http://127.0.0.1:9", "--port", port)
    assert (status, out) == (2, "")
    (line,) = err
    assert line.startswith(f"replicator: http: cannot listen on 127.0.0.1:{port}: ")
    assert line.endswith("end the process that listens there, or choose another with --port")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("dashboard", "--url", "here"), "--url: 'here' is no URL; write it like http"),
        (("dashboard", "--port", "0"), "argument --port: '0' is no port"),
        (("pause", "--table", "order"), '--table: "order" is not configured; did you mean'),
        (("resume", "--table", "orders", "--target", "mars"), '--target: "mars" is no target'),
        (("pause",), "the following arguments are required: --table"),
    ],
)
def test_wrong_usage_of_the_page_and_of_pausing_is_one_line(
    run: Run, arguments: tuple[str, ...], complaint: str
) -> None:
    """Status 2, and nothing is asked of any region."""
    run("init", "--table", "orders")
    status, out, err = run(*arguments)
    assert (status, out, len(err)) == (2, "", 1)
    assert complaint in err[0]


def test_every_command_that_may_be_said_is_there() -> None:
    """Each in one room of commands/, whose function tells what it does."""
    (said,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    named = [name for names in ROOMS.values() for name in names]
    assert sorted(said.choices) == sorted(named)
    assert all(command_of(name).__doc__ for name in named)


@pytest.mark.parametrize(
    ("arguments", "more_than_told"),
    [
        ("verify --table orders", False),
        ("verify --table orders --repair", True),
        ("quarantine list", False),
        ("quarantine drop --all", True),
        ("setup --dry-run", False),
        ("setup", True),
        ("failover --planned --all --from us-east-1 --to eu-west-1", True),
        ("drill --all --from us-east-1 --to eu-west-1", False),
        ("status", False),
        ("pause --table orders", True),
    ],
)
def test_a_lost_output_ends_what_only_tells(arguments: str, *, more_than_told: bool) -> None:
    """And nothing that changes something."""
    assert changes(parser().parse_args(arguments.split())) == more_than_told


@pytest.mark.parametrize("command", ["backfill", "verify"])
def test_a_cluster_is_made_here_or_named(run: Run, command: str) -> None:
    """Not both; nothing is asked of any region."""
    cluster = ("--workers", "2", "--scheduler", "tcp://127.0.0.1:8786")
    status, out, err = run(command, "--table", "orders", *cluster)
    assert (status, out, len(err)) == (2, "", 1)
    assert "--scheduler: not allowed with argument --workers" in err[0]
