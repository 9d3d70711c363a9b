"""`replicator run` with what a person can get wrong: status 2, one line each, no traceback, soon.

A missing file is in replicator/test_cli.py, as a process as well; what else may be wrong in one is
in replicator/test_settings.py.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.black_box import CONTROL_TABLE, REGIONS, World, command, environment
from support.black_box_tables import Table
from support.engines import HOST, free_port
from support.tables import unique_name

HOME, AWAY = REGIONS[:2]
ENDS_WITHIN_S = 60.0

Lines = list[str]


def run(directory: Path, configuration: str | bytes, *arguments: str) -> Lines:
    """Run the product with this configuration; returns its complaints, one per line."""
    file = directory / "replicator.toml"
    file.write_bytes(configuration if isinstance(configuration, bytes) else configuration.encode())
    done = subprocess.run(
        command("run", *arguments),
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("replicator: ") for line in lines), done.stderr
    return [line.removeprefix("replicator: ") for line in lines]


SOUND = f'[regions.{HOME}]\n[regions.{AWAY}]\n[tables.orders]\nregions = ["{HOME}", "{AWAY}"]\n'


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        pytest.param(
            "[regions\n",
            ["replicator.toml: is not TOML: Expected ']'"],
            id="malformed",
        ),
        pytest.param(
            b"\xff\xfe",
            ["replicator.toml: is not TOML: not in UTF-8; save it as UTF-8"],
            id="no text",
        ),
        pytest.param(
            SOUND + "retgions = []\n",
            ['replicator.toml: tables.orders.retgions: unknown key; did you mean "regions"?'],
            id="unknown key",
        ),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, configuration: str | bytes, said: Lines) -> None:
    """Each line names file, key and remedy; nothing is asked of any region."""
    lines = run(tmp_path, configuration)
    assert len(lines) == len(said)
    for line, beginning in zip(lines, said, strict=True):
        assert line.startswith(beginning)


@pytest.fixture
def table(world: World) -> Table:
    """Describe a table that no region has yet."""
    table = Table(unique_name(), regions=(HOME, AWAY))
    world.tables.append(table)
    return table


def make(world: World, table: Table, region: str, **wrong: object) -> None:
    """Create the table in a region, sound but for what is stated."""
    view_type = wrong.get("view_type", "NEW_AND_OLD_IMAGES")
    schema = wrong.get("key_schema", table.key_schema)
    as_wanted = Table(table.name, regions=table.regions, key_schema=schema)  # type: ignore[arg-type]
    world.connection.create(as_wanted, region, view_type)  # type: ignore[arg-type]


WRONG: Mapping[str, dict[str, object] | None] = {
    "does not exist; create it, or set its name: [tables.{table}.names] eu-west-1 = …": None,
    "has no stream; run `replicator setup`": {"view_type": None},
    "has a stream of NEW_IMAGE; where several regions write it takes NEW_AND_OLD_IMAGES": {
        "view_type": "NEW_IMAGE"
    },
    "has keys id (N), but in us-east-1 keys id (S); create it anew with the same keys": {
        "key_schema": {"id": "N"}
    },
    "has keys id (S), at (N), but in us-east-1 keys id (S); create it anew": {
        "key_schema": {"id": "S", "at": "N"}
    },
}
"""What is said of a table, and how it is to be made for that; None: not at all."""


def test_each_table_that_cannot_be_replicated_is_one_line(world: World, tmp_path: Path) -> None:
    """The line names the table, the region and the remedy."""
    expected = []
    for said, wrong in WRONG.items():
        table = Table(unique_name(), regions=(HOME, AWAY))
        world.tables.append(table)
        make(world, table, HOME)
        if wrong is not None:
            make(world, table, AWAY, **wrong)
        expected.append(f"table {table.name} in {AWAY}: {said.format(table=table.name)}")
    lines = run(tmp_path, world.configuration())
    assert len(lines) == len(expected)
    for line, beginning in zip(sorted(lines), sorted(expected), strict=True):
        assert line.startswith(beginning)


def test_all_that_is_wrong_is_said_at_once(world: World, table: Table, tmp_path: Path) -> None:
    """A person mends a set-up once and not line by line."""
    make(world, table, HOME, view_type=None)
    lines = run(tmp_path, world.configuration().replace(CONTROL_TABLE, "no-such-table"))
    assert lines == [
        f"control table no-such-table in {HOME}: does not exist; run `replicator setup`",
        f"control table no-such-table in {AWAY}: does not exist; run `replicator setup`",
        f"table {table.name} in {HOME}: has no stream; run `replicator setup`",
        (
            f"table {table.name} in {AWAY}: does not exist; create it, or set its name: "
            f"[tables.{table.name}.names] {AWAY} = …"
        ),
    ]


def test_a_table_that_is_no_control_table_is_one_line(
    world: World, table: Table, tmp_path: Path
) -> None:
    """Another's table is not written into."""
    control = Table(unique_name("control"), regions=(HOME, AWAY))
    for region in (HOME, AWAY):
        make(world, table, region)
        make(world, control, region)
    lines = run(tmp_path, world.configuration().replace(CONTROL_TABLE, control.name))
    assert lines == [
        f"control table {control.name} in {region}: has keys id (S), so it is another's; "
        "set control_table to a free name"
        for region in (HOME, AWAY)
    ]


def test_an_endpoint_that_nobody_listens_on_is_one_line(
    world: World, table: Table, tmp_path: Path
) -> None:
    """Only the region that cannot be reached is complained about."""
    make(world, table, HOME)
    closed = f"http://{HOST}:{free_port()}"
    lines = run(tmp_path, world.configuration({AWAY: closed}))
    assert len(lines) == 1
    assert lines[0].startswith(f"region {AWAY}: ")
    assert closed in lines[0]
    assert "; check endpoint_url, aws_region and the network" in lines[0]


class Refusing(BaseHTTPRequestHandler):
    """Answers as AWS does to credentials that it does not know."""

    def do_POST(self) -> None:
        body = json.dumps(
            {
                "__type": "com.amazon.coral.service#UnrecognizedClientException",
                "message": "The security token included in the request is invalid.",
            }
        ).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    """An endpoint that refuses every credential."""
    with ThreadingHTTPServer((HOST, 0), Refusing) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()
        serving.join()


def test_refused_credentials_are_one_line(
    world: World, table: Table, tmp_path: Path, refusing: str
) -> None:
    """The line says what the service said, and where credentials come from."""
    make(world, table, HOME)
    lines = run(tmp_path, world.configuration({AWAY: refusing}))
    assert len(lines) == 1
    assert lines[0].startswith(f"region {AWAY}: ")
    assert "UnrecognizedClientException: The security token" in lines[0]
    assert "; check the credentials: profile, role_arn or the environment's" in lines[0]


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where connections are taken and nothing is ever answered."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"http://{HOST}:{listener.getsockname()[1]}"


def test_an_endpoint_that_never_answers_is_one_line(
    world: World, table: Table, tmp_path: Path, silent: str
) -> None:
    """A person does not wait for ever."""
    make(world, table, HOME)
    lines = run(tmp_path, world.configuration({AWAY: silent}))
    assert len(lines) == 1
    assert lines[0].startswith(f"region {AWAY}: no answer within ")
    assert "; check endpoint_url and the network" in lines[0]


def test_a_port_that_is_taken_is_one_line(world: World, table: Table, tmp_path: Path) -> None:
    """Everything else is sound; the line names address and remedy."""
    make(world, table, HOME)
    make(world, table, AWAY)
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        lines = run(tmp_path, world.configuration(), "--port", str(port))
    assert len(lines) == 1
    assert lines[0].startswith(f"http: cannot listen on {HOST}:{port}: Address already in use; ")
    assert lines[0].endswith("or choose another with --port")
