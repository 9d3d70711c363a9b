"""What Lambda mode costs by itself: `PYTHONPATH=.:tests .venv/bin/python -m bench.lambda_mode`.

The function runs under AWS's own runtime client, against MiniStack on this machine.

    cold   from the start of the process to the answer to its first invocation, which holds one
           record: interpreter, runtime client, imports, regions opened, table described
    warm   an invocation whose one record needs no call (an echo of our own stamp): what an
           invocation costs besides the work, from handing the event over to its answer
    work   an invocation of one local write, stamped at home and brought to one region

CPU seconds are those of the function's process; they tell what the wall clock of a busy machine
does not. AWS gives a function with 1,769 MB one whole processor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import boto3

from conflict.version import Kind, Version
from support.black_box import CONTROL_TABLE, World, prepared
from support.black_box_tables import Connection, Table
from support.engines import CREDENTIALS, Ministack
from support.event_source_mapping import lambda_record
from support.lambda_runtime import ExecutionEnvironment
from support.tables import unique_name

HOME, AWAY = "us-east-1", "eu-west-1"
COLD_S_MAX, WARM_MS_MAX = 1.5, 10.0
"""What the mode is to keep to."""


@dataclass(frozen=True)
class Figures:
    """Medians, and the best where the machine was busy."""

    cold_s: float
    cold_best_s: float
    cold_cpu_s: float
    warm_ms: float
    warm_best_ms: float
    work_ms: float


def measure(*, colds: int = 5, warms: int = 300) -> Figures:
    """Run it all once, on an engine and tables of its own."""
    os.environ.update(CREDENTIALS)
    with Ministack() as engine, tempfile.TemporaryDirectory() as directory:
        connection = Connection(engine.endpoint_url, CONTROL_TABLE)
        prepared(connection)
        world = World(connection, Path(directory))
        table = world.add(Table(unique_name(), regions=(HOME, AWAY)))
        config = Path(directory) / "replicator.toml"
        config.write_text(world.configuration())
        arn = connection.stream(table, HOME).arn
        variables = {"REPLICATOR_CONFIG": str(config), "AWS_REGION": HOME}

        def made() -> ExecutionEnvironment:
            return ExecutionEnvironment(variables, timeout_s=30.0, log=Path(directory) / "log")

        echo = _event(arn, 1, stamped=True)
        cold, cpu = zip(*(_cold(made(), echo) for _ in range(colds)), strict=True)
        environment = made()
        try:
            environment.invoke(echo)
            warm = [_took_ms(lambda: environment.invoke(echo)) for _ in range(warms)]
            work = [
                _took_ms(lambda: environment.invoke(event))  # noqa: B023 - called at once
                for event in _written(connection, table, arn, warms // 10)
            ]
        finally:
            environment.close()
    return Figures(
        cold_s=statistics.median(cold),
        cold_best_s=min(cold),
        cold_cpu_s=statistics.median(cpu),
        warm_ms=statistics.median(warm),
        warm_best_ms=min(warm),
        work_ms=statistics.median(work),
    )


def _cold(environment: ExecutionEnvironment, event: object) -> tuple[float, float]:
    """Wall and CPU seconds of a first invocation, the start of the process included."""
    try:
        took_s = _took_ms(lambda: environment.invoke(event)) / 1000
        return took_s, environment.cpu_s()
    finally:
        environment.close()


def _took_ms(work: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    work()
    return (time.perf_counter() - begun_s) * 1000


def _event(arn: str, sequence: int, *, stamped: bool) -> dict[str, Any]:
    image: dict[str, Any] = {"id": {"S": str(sequence)}}
    version = Version(time.time_ns() // 1000, HOME, sequence, Kind.SETTLED)
    told = {
        "ApproximateCreationDateTime": float(int(time.time())),
        "Keys": image,
        "OldImage": image,
        "NewImage": {**image, "_replicator": {"S": version.text}} if stamped else image,
        "SequenceNumber": str(sequence),
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    record = lambda_record({"eventName": "MODIFY", "dynamodb": told}, arn, HOME)
    return {"Records": [record]}


def _written(connection: Connection, table: Table, arn: str, count: int) -> list[dict[str, Any]]:
    """An event for each of some writes that were made at home."""
    client = boto3.client("dynamodb", region_name=HOME, endpoint_url=connection.endpoint_url)
    for number in range(count):
        client.put_item(TableName=table.name, Item={"id": {"S": f"w{number}"}})
    records = connection.stream(table, HOME).records()[-count:]
    return [{"Records": [lambda_record(dict(record), arn, HOME)]} for record in records]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures as JSON; 1 where they are beyond what the mode is to keep to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--colds", type=int, default=5)
    parser.add_argument("--warms", type=int, default=300)
    parsed = parser.parse_args(arguments)
    figures = measure(colds=parsed.colds, warms=parsed.warms)
    sys.stdout.write(json.dumps(asdict(figures), indent=2) + "\n")
    return int(figures.cold_s > COLD_S_MAX or figures.warm_ms > WARM_MS_MAX)


if __name__ == "__main__":
    raise SystemExit(main())
