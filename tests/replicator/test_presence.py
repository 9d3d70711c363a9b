"""Who reads a source, in the control table of a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing

from replicator.aws.api import Boto3Api
from replicator.control import create_control_table_request
from replicator.presence import Presence, instance_name
from support.engines import Engine
from support.tables import unique_name


def test_each_reader_is_told_whose_name_stood_there(engine: Callable[[str], Engine]) -> None:
    """Rows are apart by table and source; the first finds none."""
    url = engine("ministack").endpoint_url
    api, name = Boto3Api.open(region="eu-west-1", endpoint_url=url), unique_name()
    with asyncio.Runner() as runner, closing(api):
        runner.run(api.call("CreateTable", create_control_table_request(name)))
        one, two = (Presence(api=api, control_table=name, instance=letter) for letter in "ab")
        said = [
            runner.run(reader.announce(table, "eu-west-1", 7))
            for reader, table in ((one, "t"), (one, "t"), (two, "t"), (one, "t"), (two, "u"))
        ]
    assert said == [None, "a", "a", "b", None]


def test_no_two_processes_have_one_name() -> None:
    """Nor one that is started again."""
    assert instance_name() != instance_name()
