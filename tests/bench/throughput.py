"""Items a second: before a real engine, over a long round trip, and with the number of shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from bench import plain
from bench.answers import TABLE, Answers
from bench.endpoint import NullEndpoint
from bench.engine import WARM_UP, running
from bench.figures import Bench, Figure, Round, at_least
from bench.measuring import Turns
from bench.replication import replicating, settings_for
from replicator.records import Mode
from replicator.settings import ClientPlane

ITEMS = 3000
THREADS = 8
ROUND_TRIP_S = 0.07
REFERENCE_THREADS = 128
IN_FLIGHT = 1024


@contextmanager
def _real_engine() -> Iterator[Round]:
    """Each round fills an untouched region by plain boto3, which is one side, and replicates it."""
    with running() as at:

        def measure() -> Mapping[str, float]:
            source, target = at.region_with(TABLE), at.region_with(TABLE)
            boto3 = at.cost(partial(_put_all, at.url, source))
            settings = settings_for(Mode.ONE_WAY, at.url, aws_regions=(source, target))
            with replicating(settings, ITEMS) as work:
                ours = at.cost(work)
            return {
                "throughput-engine": ours.wall.per_s / boto3.wall.per_s,
                **ours.parts("ours"),
                **boto3.parts("boto3"),
            }

        for _ in range(WARM_UP):
            measure()
        yield measure


def _put_all(url: str, region: str) -> int:
    put = plain.default_client(url, region).put_item
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(lambda n: put(TableName=TABLE, Item=plain.wire_item(n)), range(ITEMS)):
            pass
    return ITEMS


@contextmanager
def _long_round_trip() -> Iterator[Round]:
    ours_answers, reference_answers = (
        Answers(shards=8, pages=2),
        Answers(shards=8, pages=1, page_records=250),
    )
    with (
        NullEndpoint(ours_answers, round_trip_s=ROUND_TRIP_S) as near,
        NullEndpoint(reference_answers, round_trip_s=ROUND_TRIP_S) as far,
        replicating(
            settings_for(Mode.ONE_WAY, near.url, concurrency=IN_FLIGHT), ours_answers.records
        ) as lean,
        replicating(
            settings_for(
                Mode.ONE_WAY,
                far.url,
                concurrency=REFERENCE_THREADS,
                plane=ClientPlane.BOTOCORE,
            ),
            reference_answers.records,
        ) as reference,
    ):
        turns = Turns(lean, reference)

        def measure() -> Mapping[str, float]:
            ours, theirs = turns.take()
            return {
                "throughput-round-trip": ours.per_s / theirs.per_s,
                "items/s": ours.per_s,
                "items/s by the reference": theirs.per_s,
            }

        yield measure


@contextmanager
def _shards() -> Iterator[Round]:
    """Each shard gives 20 records per poll: what one shard does, four are to do four times."""
    one, four = (Answers(shards=n, pages=40, page_records=20) for n in (1, 4))
    with (
        NullEndpoint(one) as first,
        NullEndpoint(four) as second,
        replicating(settings_for(Mode.ONE_WAY, first.url, poll_idle_s=0.1), one.records) as single,
        replicating(
            settings_for(Mode.ONE_WAY, second.url, poll_idle_s=0.1), four.records
        ) as fourfold,
    ):
        turns = Turns(fourfold, single)

        def measure() -> Mapping[str, float]:
            of_four, of_one = turns.take()
            return {
                "shards-4": of_four.per_s / (4 * of_one.per_s),
                "items/s of 4": of_four.per_s,
                "items/s of 1": of_one.per_s,
            }

        yield measure


BENCHES = (
    Bench(
        figures=[
            Figure(
                name="throughput-engine",
                title="items/s, one link, DynamoDB Local ÷ boto3 put_item, 8 threads",
                goal=at_least(2.5),
            )
        ],
        prepare=_real_engine,
    ),
    Bench(
        figures=[
            Figure(
                name="throughput-round-trip",
                title="items/s over 70 ms, 8 shards ÷ botocore's plane, 128 threads",
                goal=at_least(10),
            )
        ],
        prepare=_long_round_trip,
    ),
    Bench(
        figures=[
            Figure(
                name="shards-4",
                title="items/s, 4 shards ÷ 4 times 1 shard, below the limit of the core",
                goal=at_least(0.8),
            )
        ],
        prepare=_shards,
    ),
)
