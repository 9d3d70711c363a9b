"""What the client costs: the whole way of a record, and reading alone, beside plain boto3.

The null endpoint answers, so that the client is all that is measured. One-way is read, decide, one
conditional put. Where every region writes it is read, look at the tombstone, stamp at home,
conditional put in the other region; that the replicator's own writes come back as echoes is
measured apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from bench import plain
from bench.answers import ARN, Answers
from bench.endpoint import NullEndpoint
from bench.figures import Bench, Figure, Round, at_most
from bench.measuring import Turns
from bench.replication import HOME, opened, replicating, settings_for
from replicator import loop
from replicator.ports import Api
from replicator.records import Mode
from replicator.stream import DynamoStream

PAGES = 5
PUTS = 250
READS = 4


@contextmanager
def _whole_way(figure: str, mode: Mode) -> Iterator[Round]:
    with NullEndpoint(Answers(pages=PAGES)) as endpoint:
        settings = settings_for(mode, endpoint.url)
        client = plain.default_client(endpoint.url)
        with replicating(settings, endpoint.answers.records) as work:
            work()
            turns = Turns(work, partial(plain.puts, client, PUTS))

            def measure() -> Mapping[str, float]:
                ours, boto3 = turns.take()
                return {
                    figure: ours.cpu_us_each / boto3.cpu_us_each,
                    "µs per record": ours.cpu_us_each,
                    "records/s": ours.per_s,
                    "µs per put_item": boto3.cpu_us_each,
                    "with uvloop": float(loop.is_fast()),
                }

            yield measure


@contextmanager
def _reading() -> Iterator[Round]:
    with NullEndpoint() as endpoint, opened(settings_for(Mode.ONE_WAY, endpoint.url)) as apis:
        turns = Turns(lambda: loop.run(_read(apis[HOME])), plain.reads(endpoint.url, READS))
        turns.take()

        def measure() -> Mapping[str, float]:
            ours, boto3 = turns.take()
            return {
                "reader-cpu": ours.cpu_us_each / boto3.cpu_us_each,
                "µs per record": ours.cpu_us_each,
                "µs per record of get_records": boto3.cpu_us_each,
                "with uvloop": float(loop.is_fast()),
            }

        yield measure


async def _read(api: Api) -> int:
    stream = DynamoStream(api=api, arn=ARN)
    pages = [await stream.records("shardId-0000/0", 1000) for _ in range(READS)]
    return sum(len(page.records) for page in pages)


BENCHES = (
    Bench(
        figures=[
            Figure(
                name="client-cpu-one-way",
                title="client CPU per record, one-way ÷ of one boto3 put_item",
                goal=at_most(0.05),
            )
        ],
        prepare=partial(_whole_way, "client-cpu-one-way", Mode.ONE_WAY),
    ),
    Bench(
        figures=[
            Figure(
                name="client-cpu-multi-writer",
                title="client CPU per record, every region writes ÷ of one boto3 put_item",
                goal=at_most(0.12),
            )
        ],
        prepare=partial(_whole_way, "client-cpu-multi-writer", Mode.MULTI_WRITER),
    ),
    Bench(
        figures=[
            Figure(
                name="reader-cpu",
                title="reader CPU per record ÷ of boto3 get_records",
                goal=at_most(0.05),
            )
        ],
        prepare=_reading,
    ),
)
