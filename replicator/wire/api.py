"""ports.Api over the lean data plane; the control plane goes to the reference beside it.

A call is signed, sent and answered once. Its answer is checked against its checksum, its type and
its operation's shape before anything of it counts; what fails there is Transient, as a lost answer
is. What the service refuses becomes an error by the table that every client has (refusals.py).

Where the service says that the clock is wrong, the difference to its own Date is taken over, and
the call made once more: no machine is too far off to replicate. Where it says that a key has ended,
the next call waits for new ones.

This module must not know what a request means, nor try anything again for another reason.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit
from zlib import crc32

import msgspec

from replicator.errors import ReplicatorError, Transient
from replicator.images import ENCODER
from replicator.ports import Api, Clock
from replicator.refusals import JSON_TYPE, NOT_DYNAMODBS, STREAM_OPERATIONS, place_of, refused
from replicator.skew import OFF_S_MIN, service_time_s
from replicator.text_records import records_as_text
from replicator.wire.access import Access, Keys
from replicator.wire.connection import Answer, Broken
from replicator.wire.keyring import KeyRing
from replicator.wire.pool import Pool, PoolLimits
from replicator.wire.shapes import ANSWERS, REFUSALS, Refusal
from replicator.wire.signing import Signer

log = logging.getLogger(__name__)

TABLES_TARGET = "DynamoDB_20120810"
STREAMS_TARGET = "DynamoDBStreams_20120810"
"""Source: the service's models, targetPrefix."""

CHECKSUM = b"x-amz-crc32"
"""Source: DynamoDB, low-level API, "Response content": the CRC32 of the body."""

_OK = 200
_JSON = JSON_TYPE.encode()
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_KEYS_REFUSED = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
    }
)


class ControlApi(Api, Protocol):
    """The API that has every operation."""

    def close(self) -> None: ...


class _Endpoint:
    """Where one of the two services answers, and how it is talked to."""

    def __init__(self, url: str, access: Access, target: str, limits: PoolLimits) -> None:
        host = urlsplit(url).netloc
        for scheme, port in (("https", ":443"), ("http", ":80")):
            if url.startswith(f"{scheme}:"):
                host = host.removesuffix(port)
        self.pool = Pool(url=url, ca_bundle=access.ca_bundle, limits=limits)
        self.signer = Signer(host=host, region=access.region, target=target)


class LeanApi:
    """One region's data plane. Numbers come as text, binaries as bytes."""

    def __init__(
        self,
        *,
        region: str,
        access: Access,
        control: ControlApi,
        clock: Clock,
        limits: PoolLimits,
    ) -> None:
        self._region, self._control, self._clock = region, control, clock
        self._keyring = KeyRing(load=access.load_keys, clock=clock)
        tables = _Endpoint(access.tables_url, access, TABLES_TARGET, limits)
        streams = _Endpoint(access.streams_url, access, STREAMS_TARGET, limits)
        self._endpoints = (tables, streams)
        self._routes = {
            operation: (streams if operation in STREAM_OPERATIONS else tables, decoder)
            for operation, decoder in ANSWERS.items()
        }
        self._ahead_s = 0.0
        """How far the service's clock is ahead of ours."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Make one call. One that is cancelled may yet take effect."""
        route = self._routes.get(operation)
        if route is None:
            return await self._control.call(operation, request)
        endpoint, decoder = route
        body = ENCODER.encode(request)
        mended = False
        while True:
            keys = self._keyring.at_hand() or await self._keyring.fetched()
            now_s = int(self._clock.now_us() / 1e6 + self._ahead_s)
            head = endpoint.signer.head(operation, body, keys, now_s)
            try:
                answer = await endpoint.pool.exchange(head + body)
            except Broken as broken:
                raise Transient(f"{self._place(operation, request)}: {broken}") from None
            stated = answer.headers.get(CHECKSUM)
            if stated is not None and stated != b"%d" % crc32(answer.body):
                raise self._garbled(operation, request, "its checksum is wrong")
            if answer.status == _OK:
                break
            if mended or not self._mends_clock(answer, now_s):
                raise self._refused(answer, keys, operation, request)
            mended = True
        if not answer.headers.get(b"content-type", b"").startswith(_JSON):
            raise Transient(f"{self._place(operation, request)}: {NOT_DYNAMODBS}")
        try:
            if stated is not None and operation == "GetRecords":
                return records_as_text(answer.body)
            understood: dict[str, Any] = decoder.decode(answer.body)
        except _MALFORMED as error:
            raise self._garbled(operation, request, type(error).__name__) from None
        return understood

    def close(self) -> None:
        """End the connections."""
        for endpoint in self._endpoints:
            endpoint.pool.close()
        self._control.close()

    def _mends_clock(self, answer: Answer, signed_s: int) -> bool:
        """Whether the clock was what was refused, so that the call may be repeated by a better one.

        Calls under way side by side are all refused for it, and the first of them sets it.
        """
        refusal = _refusal(answer)
        date = answer.headers.get(b"date", b"").decode("latin-1")
        service_s = service_time_s(refusal[0], date, signed_s) if refusal else None
        if service_s is None:
            return False
        ahead_s = service_s - self._clock.now_us() / 1e6
        if abs(ahead_s - self._ahead_s) >= OFF_S_MIN:
            self._ahead_s = ahead_s
            log.warning("clock.off", extra={"region": self._region, "ahead_s": round(ahead_s)})
        return True

    def _refused(
        self, answer: Answer, keys: Keys, operation: str, request: Mapping[str, Any]
    ) -> ReplicatorError:
        refusal = _refusal(answer)
        if refusal is None:
            return self._garbled(operation, request, f"a refusal ({answer.status}) of no form")
        code, said = refusal
        if code in _KEYS_REFUSED:
            self._keyring.forget(keys)
        item: Any = said.item
        return refused(
            code=code,
            text=said.message or said.capital_message,
            status=answer.status,
            answered=operation,
            item=item,
            operation=operation,
            place=self._place(operation, request),
        )

    def _garbled(self, operation: str, request: Mapping[str, Any], how: str) -> Transient:
        return Transient(f"{self._place(operation, request)}: the answer is garbled: {how}")

    def _place(self, operation: str, request: Mapping[str, Any]) -> str:
        return place_of(operation, request, self._region)


def _refusal(answer: Answer) -> tuple[str, Refusal] | None:
    """The code of a refusal and what is said with it; None for DynamoDB's own, garbled.

    What stands between and speaks another tongue is known by its status alone.
    """
    try:
        said = REFUSALS.decode(answer.body)
    except _MALFORMED:
        ours = answer.headers.get(b"content-type", b"").startswith(_JSON)
        return None if ours and answer.body else (str(answer.status), Refusal())
    kind = said.type or answer.headers.get(b"x-amzn-errortype", b"").decode("latin-1")
    return kind.partition(":")[0].rpartition("#")[2] or str(answer.status), said
