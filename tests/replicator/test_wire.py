"""The lean plane's connections, clock and keys, before a server that the test scripts."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from contract.over_http import WallClock
from replicator.errors import Fatal, Transient
from replicator.wire import keyring
from replicator.wire.access import Keys
from replicator.wire.pool import PoolLimits
from support.lean import PUT, lean
from support.raw_server import raw_server, response

DONE = response({})
HOUR_S = 3600


def test_calls_share_few_connections() -> None:
    """A connection is used again and again, and there are never more than the limit."""

    async def main() -> tuple[int, int]:
        async with raw_server(DONE) as server:
            with lean(server.url, limits=PoolLimits(connections_max=3)) as api:
                await asyncio.gather(*(api.call("PutItem", PUT) for _ in range(50)))
                return server.connections, len(server.requests)

    assert asyncio.run(main()) == (3, 50)


def test_answers_go_to_who_asked() -> None:
    """However many calls are under way, each gets the answer to its own request."""

    def echo(_: int, request: bytes) -> bytes:
        return response(b'{"Attributes":%b}' % request.partition(b'"Item":')[2][:-1])

    async def ask(api: Any, number: int) -> bool:
        item = {"id": {"N": str(number)}}
        return bool(await api.call("PutItem", {"Item": item}) == {"Attributes": item})

    async def main() -> list[bool]:
        async with raw_server(echo) as server:
            with lean(server.url, limits=PoolLimits(connections_max=4)) as api:
                return await asyncio.gather(*(ask(api, number) for number in range(60)))

    assert all(asyncio.run(main()))


def test_a_call_that_is_cancelled_leaves_no_answer_behind() -> None:
    """Its connection ends with it: the next call must not be given its answer."""

    async def main() -> Any:
        asked = asyncio.Event()

        def numbered(number: int, _: bytes) -> bytes:
            asked.set()
            return response({"Attributes": {"id": {"N": str(number)}}})

        async with raw_server(numbered) as server:
            with lean(server.url, limits=PoolLimits(connections_max=1)) as api:
                first = asyncio.create_task(api.call("PutItem", PUT))
                await asked.wait()
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first
                second = await api.call("PutItem", PUT)
                return second["Attributes"]["id"]["N"], str(len(server.requests))

    said, last = asyncio.run(main())
    assert said == last


def test_those_who_wait_get_a_connection_when_one_is_cancelled_or_lost() -> None:
    """Neither a cancelled wait nor a lost connection leaves anyone standing in line."""

    def fickle(number: int, _: bytes) -> bytes | None:
        return None if number % 3 == 0 else DONE

    async def main() -> list[str]:
        async with raw_server(fickle) as server:
            with lean(server.url, limits=PoolLimits(connections_max=2)) as api:
                calls = [asyncio.create_task(api.call("PutItem", PUT)) for _ in range(30)]
                await asyncio.sleep(0.01)
                for call in calls[5:9]:
                    call.cancel()
                done = await asyncio.gather(*calls, return_exceptions=True)
                return [type(each).__name__ for each in done]

    assert set(asyncio.run(main())) <= {"dict", "Transient", "CancelledError"}


def test_a_silent_service_is_given_up() -> None:
    """No call waits longer than the limit for its answer."""

    async def main() -> None:
        async with raw_server(b"") as server:
            with lean(server.url, limits=PoolLimits(answer_s=0.1)) as api:
                await api.call("PutItem", PUT)

    with pytest.raises(Transient, match=r"no answer within 0\.1 s"):
        asyncio.run(main())


def test_an_idle_connection_is_let_go() -> None:
    """What has been idle for long is not trusted with a write."""

    async def main() -> int:
        async with raw_server(DONE) as server:
            with lean(server.url, limits=PoolLimits(idle_s=0.0)) as api:
                await api.call("PutItem", PUT)
                await asyncio.sleep(0.7)
                await api.call("PutItem", PUT)
                return server.connections

    assert asyncio.run(main()) == 2


def test_a_name_is_resolved_for_each_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """When an endpoint moves, its new address is found as soon as a connection is lost."""
    asked: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def noted(host: Any, *rest: Any, **more: Any) -> Any:
            asked.append(host)
            return await resolve(host, *rest, **more)

        monkeypatch.setattr(loop, "getaddrinfo", noted)
        async with raw_server(DONE, end=True) as server:
            with lean(server.url) as api:
                for _ in range(3):
                    await api.call("PutItem", PUT)
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert asked == ["localhost"] * 3


@pytest.mark.parametrize("unknown", ["raises", "is empty"])
def test_f31_a_name_without_an_address_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    """An outage of DNS is one that passes: the next call asks anew, and nothing is remembered."""
    outage = 3

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        ends: list[str] = []
        resolve = loop.getaddrinfo

        async def failing(*host: Any, **more: Any) -> Any:
            if len(ends) >= outage:
                return await resolve(*host, **more)
            if unknown == "raises":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return []

        monkeypatch.setattr(loop, "getaddrinfo", failing)
        async with raw_server(DONE) as server:
            with lean(server.url) as api:
                while not server.requests:
                    try:
                        await api.call("PutItem", PUT)
                    except Transient as error:
                        ends.append(str(error))
        return ends

    ends = asyncio.run(main())
    assert len(ends) == outage
    assert all("no connection" in end for end in ends)


def test_an_api_serves_one_loop_after_the_other() -> None:
    """With a loop its connections end, and nothing of it is left open."""

    async def once(api: Any) -> None:
        async with raw_server(DONE) as server:
            del server
            with pytest.raises(Transient, match="no connection"):
                await api.call("PutItem", PUT)

    with lean("http://localhost:1") as api:
        asyncio.run(once(api))
        asyncio.run(once(api))
    gc.collect()


# --- the clock ------------------------------------------------------------------------------------


class Behind(WallClock):
    """A clock that is an hour behind."""

    def now_us(self) -> int:
        return super().now_us() - HOUR_S * 1_000_000


def _date(ahead_s: float = 0) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "InvalidSignatureException"])
def test_a_clock_that_is_off_is_mended_once(code: str) -> None:
    """The service's own date is taken over, the call repeated, and later ones signed right."""
    refusal = response({"__type": f"com.amazonaws#{code}"}, 400, date=_date())

    async def main() -> list[str]:
        async with raw_server(lambda number, _: refusal if number == 1 else DONE) as server:
            with lean(server.url, clock=Behind()) as api:
                await api.call("PutItem", PUT)
                await api.call("PutItem", PUT)
            return [server.header(number, "x-amz-date") for number in range(3)]

    first, *later = asyncio.run(main())
    times = [datetime.strptime(at, "%Y%m%dT%H%M%S%z").timestamp() for at in (first, *later)]
    assert HOUR_S - 60 < times[1] - times[0] < HOUR_S + 60
    assert abs(times[2] - datetime.now(UTC).timestamp()) < 60


def test_a_bad_signature_by_a_right_clock_is_fatal_at_once() -> None:
    """Where the date explains nothing, nothing is repeated."""
    refusal = response({"__type": "x#InvalidSignatureException"}, 400, date=_date())

    async def main() -> int:
        async with raw_server(refusal) as server:
            with lean(server.url) as api, pytest.raises(Fatal, match="InvalidSignatureException"):
                await api.call("PutItem", PUT)
            return len(server.requests)

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize("date", ["", "yesterday", "\xff"])
def test_a_date_of_no_form_mends_no_clock(date: str) -> None:
    """A refusal without a usable date stands."""
    refusal = response({"__type": "x#RequestTimeTooSkewed"}, 400, date=date)

    async def main() -> None:
        async with raw_server(refusal) as server:
            with lean(server.url, clock=Behind()) as api:
                await api.call("PutItem", PUT)

    with pytest.raises(Fatal, match="RequestTimeTooSkewed"):
        asyncio.run(main())


# --- keys -----------------------------------------------------------------------------------------


def _numbered() -> Callable[[], Keys]:
    count = 0

    def load() -> Keys:
        nonlocal count
        count += 1
        return Keys(f"key{count}", "secret", f"token{count}")

    return load


def test_a_key_that_has_ended_is_replaced() -> None:
    """The refused call is Transient; the one after it is signed with new keys, token and all."""
    expired = response({"__type": "x#ExpiredTokenException"}, 400)

    async def main() -> list[str]:
        async with raw_server(lambda number, _: expired if number == 1 else DONE) as server:
            with lean(server.url, load_keys=_numbered()) as api:
                with pytest.raises(Transient, match="ExpiredToken"):
                    await api.call("PutItem", PUT)
                await api.call("PutItem", PUT)
                await api.call("PutItem", PUT)
            return [server.header(number, "x-amz-security-token") for number in range(3)]

    assert asyncio.run(main()) == ["token1", "token2", "token2"]


def test_keys_are_renewed_while_calls_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking the chain may block: it happens in a thread, and no call waits for it."""
    monkeypatch.setattr(keyring, "ASK_EVERY_S", 0.0)
    renewing, go_on = threading.Event(), threading.Event()
    loaded = iter([Keys("key1", "secret"), Keys("key2", "secret")])

    def load() -> Keys:
        keys = next(loaded)
        if keys.access_key == "key2":
            renewing.set()
            go_on.wait(5)
        return keys

    async def main() -> list[bool]:
        async with raw_server(DONE) as server:
            with lean(server.url, load_keys=load) as api:
                while not renewing.is_set():
                    await api.call("PutItem", PUT)
                monkeypatch.setattr(keyring, "ASK_EVERY_S", 60.0)
                await api.call("PutItem", PUT)
                go_on.set()
                while "key2" not in server.header(-1, "authorization"):
                    await api.call("PutItem", PUT)
                    await asyncio.sleep(0.001)
            return ["key1" in server.header(n, "authorization") for n in (0, 1)]

    assert asyncio.run(main()) == [True, True]


def test_keys_that_cannot_be_had_fail_the_call() -> None:
    """The reason of the chain is the reason of the call."""

    def none() -> Keys:
        raise Fatal("no usable credentials")

    async def main() -> None:
        with lean("http://localhost:1", load_keys=none) as api:
            await api.call("PutItem", PUT)

    with pytest.raises(Fatal, match="no usable credentials"):
        asyncio.run(main())


# --- TLS ------------------------------------------------------------------------------------------


def _certificate(directory: Path) -> tuple[ssl.SSLContext, str]:
    """A server's TLS for localhost, and the file of the certificate that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public, private = directory / "certificate.pem", directory / "key.pem"
    public.write_bytes(pem)
    private.write_bytes(secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, str(public)


def test_a_certificate_is_verified(tmp_path: Path) -> None:
    """A server that the bundle vouches for is talked to; any other gets no request."""
    context, bundle = _certificate(tmp_path)

    async def main() -> tuple[Any, int]:
        async with raw_server(DONE, tls=context) as server:
            with lean(server.url) as api, pytest.raises(Transient, match="no connection: SSLCert"):
                await api.call("PutItem", PUT)
            asked = len(server.requests)
            with lean(server.url, ca_bundle=bundle) as api:
                return await api.call("PutItem", PUT), asked

    assert asyncio.run(main()) == ({}, 0)
