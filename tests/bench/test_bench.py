"""The suite of measurements itself: what a figure says, and that the null endpoint is one."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import pytest

from bench.__main__ import benches, chosen, main
from bench.answers import Answers
from bench.endpoint import NullEndpoint
from bench.engine import Place
from bench.figures import Bench, Figure, Round, at_least, at_most, measured
from bench.report import document, keep, markdown
from replicator.requests import page


def _bench(*values: float) -> Bench:
    figures = [Figure(name="a-cpu", title="a", goal=at_most(3.0))]

    @contextmanager
    def prepare() -> Iterator[Round]:
        left = iter(values)
        yield lambda: {"a-cpu": (value := next(left)), "part": 10 * value}

    return Bench(figures=figures, prepare=prepare)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    """One round that something else disturbed does not move a figure, but shows in its spread."""
    bench = _bench(2.0, 90.0, 1.0)

    (result,) = measured(bench, 3, bench.figures)

    assert (result.value, result.spread, result.reached) == (2.0, (1.0, 90.0), True)
    assert result.parts == {"part": 20.0}


def test_a_goal_has_a_side() -> None:
    """What is to be small is reached from above, what is to be large from below."""
    assert at_most(3).reached_by(3)
    assert not at_most(3).reached_by(3.1)
    assert at_least(3).reached_by(3)
    assert not at_least(3).reached_by(2.9)


def test_figures_not_measured_stay_in_the_file(tmp_path: Path) -> None:
    """Measuring one figure anew keeps the others, and replaces its own."""
    path, bench = tmp_path / "bench.json", _bench(1.0, 2.0)
    (first,) = measured(bench, 1, bench.figures)
    (second,) = measured(_bench(2.0), 1, bench.figures)

    keep(path, [{**document(first, "make"), "figure": "other"}, document(first, "make")])
    keep(path, [document(second, "make")])

    assert [(entry["figure"], entry["value"]) for entry in json.loads(path.read_text())] == [
        ("other", 1.0),
        ("a-cpu", 2.0),
    ]


def test_the_table_says_what_is_stored(tmp_path: Path) -> None:
    """The README's table is made from the file, and tells a goal that was missed."""
    path = tmp_path / "bench.json"
    (result,) = measured(_bench(4.0, 5.0, 6.0), 3, _bench().figures)
    keep(path, [document(result, "make bench ARGS=a-cpu")])

    row = markdown(path).splitlines()[-1]

    assert row.startswith("| a | 5 | 4 to 6 | <= 3, missed | part 50 | `make bench ARGS=a-cpu`, ")


def test_every_figure_has_a_name_of_its_own() -> None:
    """The command line and the file tell figures apart by their names."""
    names = [figure.name for bench in benches() for figure in bench.figures]

    assert names
    assert len(set(names)) == len(names)


def test_a_name_of_no_figure_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure that is misspelt is named, and nothing is measured."""
    with pytest.raises(SystemExit) as end:
        main(["client-gpu"])

    assert end.value.code == 2
    assert 'no figure is named "client-gpu"' in capsys.readouterr().err
    with pytest.raises(ValueError, match="known: a-cpu"):
        chosen([_bench()], ["b"])


def test_no_region_is_given_twice() -> None:
    """What a round leaves behind in a region would slow down the next one there."""
    at = Place("http://127.0.0.1:1")
    given = [at.region() for _ in range(200)]

    assert len(set(given)) == len(given)


def test_the_null_endpoint_answers_as_dynamodb_does() -> None:
    """Pages follow each other with right checksums, and after the last come empty ones."""
    with NullEndpoint(Answers(pages=2, page_records=3)) as endpoint:
        pages, iterator = [], "shardId-0000/0"
        for _ in range(3):
            body = json.dumps({"ShardIterator": iterator}).encode()
            headers = {"X-Amz-Target": "DynamoDBStreams_20120810.GetRecords"}
            request = urllib.request.Request(endpoint.url, body, headers)  # noqa: S310 - loopback
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                content = answer.read()
                assert crc32(content) == int(answer.headers["x-amz-crc32"])
            pages.append(page(json.loads(content)))
            iterator = pages[-1].next_iterator or ""

    assert [len(each.records) for each in pages] == [3, 3, 0]
    sequences = [record.sequence for each in pages for record in each.records]
    assert sequences == sorted(set(sequences))
