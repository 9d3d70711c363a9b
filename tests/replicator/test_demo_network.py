"""The demo's network: it forwards late, cuts both ways, and heals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from replicator.demo.network import Link, Network
from replicator.demo.world import LOOPBACK, PAIRS

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LARGE = bytes(range(256)) * 8_192


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes."""
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def network(*, round_trip_s: float = 0.0) -> AsyncIterator[Network]:
    """A network that leads to an echo server."""
    server = await asyncio.start_server(echo, LOOPBACK, 0)
    made = Network(engine_port=server.sockets[0].getsockname()[1], round_trip_s=round_trip_s)
    async with server:
        await made.open()
        try:
            yield made
        finally:
            await made.close()


async def connect(made: Network, pair: tuple[str, str]) -> Connection:
    """A connection over the link of this pair."""
    return await asyncio.open_connection(LOOPBACK, urlsplit(made.urls[pair]).port)


async def answered(connection: Connection, data: bytes = b"?") -> bytes:
    """What comes back for `data`; nothing where the connection is cut."""
    reader, writer = connection
    try:
        writer.write(data)
        return await reader.readexactly(len(data))
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run one test, bounded."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def test_bytes_pass_unchanged_and_in_order() -> None:
    """More than fits any buffer goes through a link and back without loss."""

    async def test() -> None:
        async with network(round_trip_s=0.002) as made:
            reader, writer = await connect(made, PAIRS[0])
            writer.write(LARGE)
            assert await reader.readexactly(len(LARGE)) == LARGE
            writer.close()

    run(test)


def test_an_answer_takes_a_round_trip() -> None:
    """Each direction is late by half of it."""

    async def test() -> None:
        clock = asyncio.get_running_loop().time
        async with network(round_trip_s=0.1) as made:
            connection = await connect(made, PAIRS[0])
            began_s = clock()
            assert await answered(connection) == b"?"
            assert clock() - began_s >= 0.1

    run(test)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_cut_region_is_cut_in_both_directions_and_no_other_is(pair: tuple[str, str]) -> None:
    """Standing connections break and new ones fail, exactly on the links of the cut region."""

    async def test() -> None:
        region = "ap-southeast-2"
        async with network() as made:
            standing = await connect(made, pair)
            made.cut(region)
            expected = b"" if region in pair else b"?"
            assert await answered(standing) == expected
            assert await answered(await connect(made, pair)) == expected
            assert made.connected(pair) == (region not in pair)

    run(test)


def test_a_healed_region_is_reached_again_at_the_same_address() -> None:
    """Healing needs no new configuration of a replicator."""

    async def test() -> None:
        pair = PAIRS[0]
        async with network() as made:
            before = made.urls[pair]
            made.cut(pair[1])
            assert await answered(await connect(made, pair)) == b""
            made.heal(pair[1])
            assert made.urls[pair] == before
            assert await answered(await connect(made, pair)) == b"?"

    run(test)


def test_what_was_on_the_way_when_the_cut_came_is_lost() -> None:
    """A cut does not hold data back for later: what had not arrived never does."""

    async def test() -> None:
        async with network(round_trip_s=0.2) as made:
            reader, writer = await connect(made, PAIRS[0])
            writer.write(b"on the way")
            await writer.drain()
            made.cut(PAIRS[0][0])
            made.heal(PAIRS[0][0])
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()

    run(test)


def test_a_link_to_nowhere_resets() -> None:
    """When the engine is gone, a client is told at once instead of being left waiting."""

    async def test() -> None:
        server = await asyncio.start_server(echo, LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        link = Link(port=port, one_way_s=0.0)
        await link.open()
        connection = await asyncio.open_connection(LOOPBACK, urlsplit(link.url).port)
        assert await answered(connection) == b""
        await link.close()

    run(test)
