"""Clocks that are off: what the service's Date explains, and calls that are signed by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from botocore import UNSIGNED, auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.session import Session

from replicator.aws.api import Boto3Api
from replicator.aws.clock import ClockCorrection, CorrectedAuth
from replicator.errors import Fatal
from replicator.plane import RegionApi, lean_api
from replicator.settings import ClientPlane
from replicator.skew import OFF_S_MIN, service_time_s
from support.lean import PUT
from support.raw_server import raw_server, response

AHEAD_S = 3600.0
CALLS = 20
DATE = "Thu, 26 Nov 2026 11:00:00 GMT"
DATE_S = datetime(2026, 11, 26, 11, tzinfo=UTC).timestamp()
REFUSED = {"__type": "com.amazonaws#InvalidSignatureException", "message": "Signature expired"}

BOTH_PLANES = pytest.mark.parametrize("plane", ClientPlane)


@contextmanager
def opened(plane: ClientPlane, url: str) -> Iterator[RegionApi]:
    """A region's API on a plane."""
    reference = Boto3Api.open(region="eu-west-1", endpoint_url=url, threads=CALLS)
    lean = plane is ClientPlane.LEAN
    api = lean_api("eu-west-1", reference, connections_max=CALLS) if lean else reference
    try:
        yield api
    finally:
        api.close()


def date(ahead_s: float = 0.0) -> str:
    """The Date header of a service that is so far ahead."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)


def by_its_own_clock(ahead_s: float) -> Callable[[int, bytes], bytes]:
    """A service that takes only what is signed with about its own time."""

    def answer(_: int, request: bytes) -> bytes:
        stamp = request.lower().partition(b"x-amz-date: ")[2][:16].decode().upper()
        signed = datetime.strptime(stamp, "%Y%m%dT%H%M%S%z")
        off = datetime.now(UTC) + timedelta(seconds=ahead_s) - signed
        if abs(off) > timedelta(minutes=5):
            return response(REFUSED, 400, date=date(ahead_s))
        return response({})

    return answer


# --- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize("off_s", [-3600, -OFF_S_MIN, OFF_S_MIN, 86_400])
@pytest.mark.parametrize(
    "code",
    ["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "InvalidSignatureException"],
)
def test_a_date_that_differs_explains_a_refusal(code: str, off_s: int) -> None:
    """The service's time is what its answer is dated with."""
    assert service_time_s(code, DATE, DATE_S - off_s) == DATE_S


@pytest.mark.parametrize(
    ("code", "said", "signed_s"),
    [
        ("InvalidSignatureException", DATE, DATE_S + 1),
        ("AccessDeniedException", DATE, DATE_S + AHEAD_S),
        ("RequestTimeTooSkewed", "", 0.0),
        ("RequestTimeTooSkewed", "yesterday", 0.0),
        ("RequestTimeTooSkewed", "Thu, 26 Nov 99999 11:00:00 GMT", 0.0),
    ],
)
def test_what_the_clock_does_not_explain(code: str, said: str, signed_s: float) -> None:
    """A wrong key, a refusal for another reason, and a date that is none."""
    assert service_time_s(code, said, signed_s) is None


# --- calls ----------------------------------------------------------------------------------------


@BOTH_PLANES
@pytest.mark.parametrize("ahead_s", [AHEAD_S, -AHEAD_S])
def test_calls_side_by_side_are_all_made_again(plane: ClientPlane, ahead_s: float) -> None:
    """All of them are signed before the first is refused: none of them fails for it, and what is
    called afterwards is signed right at once."""

    async def main() -> tuple[int, int]:
        async with raw_server(by_its_own_clock(ahead_s)) as server:
            with opened(plane, server.url) as api:
                await asyncio.gather(*(api.call("PutItem", PUT) for _ in range(CALLS)))
                first = len(server.requests)
                await api.call("PutItem", PUT)
                return first, len(server.requests) - first

    first, later = asyncio.run(main())
    assert CALLS < first <= 2 * CALLS
    assert later == 1


@BOTH_PLANES
def test_a_clock_that_is_set_right_again_is_followed(plane: ClientPlane) -> None:
    """What was corrected is no longer right then, and is corrected once more."""
    ahead_s = AHEAD_S

    def answer(number: int, request: bytes) -> bytes:
        return by_its_own_clock(ahead_s)(number, request)

    async def main() -> int:
        nonlocal ahead_s
        async with raw_server(answer) as server:
            with opened(plane, server.url) as api:
                await api.call("PutItem", PUT)
                ahead_s = 0.0
                await api.call("PutItem", PUT)
                await api.call("PutItem", PUT)
                return len(server.requests)

    assert asyncio.run(main()) == 5


@BOTH_PLANES
@pytest.mark.parametrize("moving", [False, True])
def test_a_refusal_that_a_date_does_not_mend_is_fatal(plane: ClientPlane, moving: bool) -> None:
    """A key that is wrong by a clock that is right is told at once; a service whose date runs away
    is asked twice and no more."""

    async def main() -> int:
        def refuse(number: int, _: bytes) -> bytes:
            return response(REFUSED, 400, date=date(AHEAD_S * number * moving))

        async with raw_server(refuse) as server:
            with opened(plane, server.url) as api, pytest.raises(Fatal, match="InvalidSignature"):
                await api.call("PutItem", PUT)
            return len(server.requests)

    assert asyncio.run(main()) == 1 + moving


# --- botocore's other clients ---------------------------------------------------------------------


REFUSED_AS_XML = b"<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>"
DONE_AS_XML = b"<GetCallerIdentityResponse><GetCallerIdentityResult/></GetCallerIdentityResponse>"


def ask_sts(url: str, **config: Any) -> None:
    """Make one call of STS by a session that corrects its clock."""
    session = Session()
    ClockCorrection().register(session)
    once = Config(retries={"total_max_attempts": 1, "mode": "legacy"}, **config)
    sts: Any = session.create_client("sts", "eu-west-1", endpoint_url=url, config=once)
    try:
        sts.get_caller_identity()
    finally:
        sts.close()


def test_a_role_is_assumed_by_the_right_clock() -> None:
    """STS speaks XML, and is a client of the same session."""
    judge = by_its_own_clock(AHEAD_S)

    def answer(number: int, request: bytes) -> bytes:
        if b" 400 " in judge(number, request):
            return response(REFUSED_AS_XML, 403, date=date(AHEAD_S), content_type="text/xml")
        return response(DONE_AS_XML, content_type="text/xml")

    async def main() -> int:
        async with raw_server(answer) as server:
            await asyncio.to_thread(ask_sts, server.url)
            return len(server.requests)

    assert asyncio.run(main()) == 2


def test_what_is_not_signed_is_refused_for_another_reason() -> None:
    """A web identity's token, for one, is sent without a signature: no clock is to be mended."""
    refused = response(REFUSED_AS_XML, 403, date=date(AHEAD_S), content_type="text/xml")

    async def main() -> int:
        async with raw_server(refused) as server:
            with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
                await asyncio.to_thread(ask_sts, server.url, signature_version=UNSIGNED)
            return len(server.requests)

    assert asyncio.run(main()) == 1


def test_what_is_corrected_is_signed_as_by_a_clock_that_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same request, by botocore's own signer at the service's time, has the same headers."""
    at = datetime(2026, 11, 26, 23, 59, 58, tzinfo=UTC)

    def signed(kind: type[auth.SigV4Auth], now: datetime, **context: Any) -> dict[str, str]:
        monkeypatch.setattr(auth, "get_current_datetime", lambda: now)
        request = AWSRequest(method="POST", url="https://dynamodb.eu-west-1.amazonaws.com/")
        request.data = b"{}"
        request.headers["X-Amz-Target"] = "DynamoDB_20120810.PutItem"
        request.context = context
        kind(Credentials("key", "secret", "token"), "dynamodb", "eu-west-1").add_auth(request)
        return dict(request.headers.items())

    right = signed(auth.SigV4Auth, at + timedelta(seconds=AHEAD_S))
    assert signed(CorrectedAuth, at, ahead_s=AHEAD_S) == right
    assert "20261127" in right["Authorization"]
