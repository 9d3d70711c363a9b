"""The targets of `make fuzz` take what is well-formed, and what broke them once."""

from __future__ import annotations

import pytest

from fuzz.__main__ import NAMES
from fuzz.targets import TARGETS

BROKE = {
    "records": (
        b'{"Records":[{"dynamodb":{"ApproximateCreationDateTime":1,"SequenceNumber":"7="}}]}',
    ),
    "rows": (
        b'{"Items":[{"since_us":{"N":"one"},"read_us":{"N":"one"}}]}',
        b'{"Items":[{"since_us":{"N":"Infinity"}}]}',
        b'{"Items":[{"sk":{"S":"eu"}}]}',
        b'{"Items":[{"until_us":{"S":"7"},"sent_us":{"N":"1.5E15"}}]}',
        b'{"Items":[{"settled":{"S":"seven"},"secret":{"S":"7"}}]}',
        b'{"Items":[{"sk":{"S":"7#us#key"},"at_us":{"N":"1E30"}}]}',
        b'{"Items":[{"asked_for":{"S":"{}"},"counts":{"S":"{}"}}]}',
    ),
    "event": (b'{"Records":[{"eventSourceARN":{}}]}', b'{"Records":[],"eventSourceARN":[]}'),
    "marker": (),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_target_takes_its_seeds_and_what_broke_it(name: str) -> None:
    """Else feeding it would say nothing; each input here ended a process with a wrong error."""
    for data in (*TARGETS[name].seeds, *BROKE[name]):
        TARGETS[name].run(data)


def test_every_target_is_fed() -> None:
    """The fuzzer knows them by name, before it has loaded them."""
    assert set(NAMES) == set(TARGETS)
