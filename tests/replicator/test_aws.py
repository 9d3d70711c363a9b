"""The AWS edge against a service that answers by script: the reference and the lean plane.

What is said of `api` holds for both: the lean plane is held to what the reference does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.session import Session

from replicator.aws import sessions
from replicator.aws.api import Boto3Api
from replicator.aws.failures import refusal
from replicator.aws.sessions import EMULATOR_CREDENTIALS, role_session
from replicator.errors import (
    ConditionFailed,
    ConfigurationError,
    Fatal,
    IteratorExpired,
    Poison,
    ReplicatorError,
    ShardGone,
    Throttled,
    Transient,
    Trimmed,
)
from replicator.plane import RegionApi, lean_api

CANARY = "canary-7781"
JSON = "application/x-amz-json-1.0"
"""Stands in items, keys and the service's own words; must never reach an error's text."""

ITEM = {"id": {"S": CANARY}, "blob": {"B": b"\x00\xff"}, "n": {"N": "1.50"}}
PUT = {"TableName": "orders", "Item": ITEM}
REQUESTS: Mapping[str, dict[str, Any]] = {
    "PutItem": PUT,
    "UpdateItem": {"TableName": "orders", "Key": {"id": {"S": CANARY}}},
    "DeleteItem": {"TableName": "orders", "Key": {"id": {"S": CANARY}}},
    "BatchGetItem": {"RequestItems": {"orders": {"Keys": [{"id": {"S": CANARY}}]}}},
    "DescribeTable": {"TableName": "orders"},
    "DescribeStream": {"StreamArn": "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/x"},
    "GetShardIterator": {"StreamArn": "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/x"},
    "GetRecords": {"ShardIterator": "here"},
}


@dataclass(slots=True)
class Answer:
    """What the service says next, to any request. `body` None: it closes the connection."""

    status: int = 200
    body: dict[str, Any] | None = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Service:
    """A service on the loopback that gives one answer to everything and keeps what it was sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer = Answer()
        self.received: list[tuple[dict[str, str], dict[str, Any]]] = []

    def refuses(self, code: str, *, status: int = 400, **members: Any) -> None:
        """Answer with an error."""
        message = {"message": f"in words: {CANARY}"}
        self.answer = Answer(status, {"__type": f"com.amazonaws#{code}", **message, **members})


@contextmanager
def serving() -> Iterator[Service]:
    """Run a service for a while."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            said.received.append((dict(self.headers), json.loads(content)))
            answer = said.answer
            if answer.body is None:
                self.close_connection = True
                return
            body = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            headers = {"Content-Type": JSON, **answer.headers, "Content-Length": str(len(body))}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    said = Service(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield said
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def opened(plane: str, url: str) -> RegionApi:
    """A client of `url` on one of the planes."""
    reference = Boto3Api.open(region="eu-west-1", endpoint_url=url, threads=4)
    lean = plane == "lean"
    return lean_api("eu-west-1", reference, connections_max=4) if lean else reference


@pytest.fixture(scope="module", params=["botocore", "lean"])
def running(
    _credentials: None, request: pytest.FixtureRequest
) -> Iterator[tuple[Service, RegionApi]]:
    """Give one service and one client of it to all tests: clients are slow to make."""
    with serving() as service:
        api = opened(request.param, service.url)
        with closing(api):
            yield service, api


@pytest.fixture
def service(running: tuple[Service, RegionApi]) -> Service:
    """Give the service, with nothing received yet."""
    running[0].answer = Answer()
    running[0].received.clear()
    return running[0]


@pytest.fixture
def api(running: tuple[Service, RegionApi]) -> RegionApi:
    """Give the client."""
    return running[1]


def call(api: RegionApi, operation: str = "PutItem") -> dict[str, Any]:
    """Make one call."""
    return asyncio.run(api.call(operation, REQUESTS[operation]))


def failure(api: RegionApi, operation: str = "PutItem") -> ReplicatorError:
    """Make a call that fails."""
    with pytest.raises(ReplicatorError) as caught:
        call(api, operation)
    return caught.value


def test_values_go_and_come_verbatim(api: RegionApi, service: Service) -> None:
    """Numbers are text both ways, binaries bytes."""
    service.answer = Answer(
        body={"Attributes": {"n": {"N": "1.50"}, "b": {"B": "AP8="}, "m": {"M": {}}}}
    )
    got = call(api)
    assert got == {"Attributes": {"n": {"N": "1.50"}, "b": {"B": b"\x00\xff"}, "m": {"M": {}}}}
    sent = service.received[0][1]
    assert sent["Item"] == {"id": {"S": CANARY}, "blob": {"B": "AP8="}, "n": {"N": "1.50"}}


@pytest.mark.parametrize(
    ("code", "operation", "kind"),
    [
        ("ProvisionedThroughputExceededException", "PutItem", Throttled),
        ("ThrottlingException", "BatchGetItem", Throttled),
        ("RequestLimitExceeded", "UpdateItem", Throttled),
        ("LimitExceededException", "GetRecords", Throttled),
        ("InternalServerError", "PutItem", Transient),
        ("TransactionConflictException", "UpdateItem", Transient),
        ("ReplicatedWriteConflictException", "DeleteItem", Transient),
        ("ExpiredTokenException", "GetRecords", Transient),
        ("ValidationException", "PutItem", Poison),
        ("ValidationException", "UpdateItem", Poison),
        ("ValidationException", "DeleteItem", Poison),
        ("SerializationException", "PutItem", Poison),
        ("ItemCollectionSizeLimitExceededException", "PutItem", Poison),
        ("ValidationException", "BatchGetItem", Fatal),
        ("ValidationException", "GetRecords", Fatal),
        ("ValidationException", "GetShardIterator", Fatal),
        ("ValidationException", "DescribeTable", Fatal),
        ("AccessDeniedException", "PutItem", Fatal),
        ("UnrecognizedClientException", "PutItem", Fatal),
        ("InvalidSignatureException", "PutItem", Fatal),
        ("KMSDisabledException", "PutItem", Fatal),
        ("NeverHeardOfException", "PutItem", Fatal),
        ("ResourceNotFoundException", "PutItem", Fatal),
        ("ResourceNotFoundException", "DescribeStream", Fatal),
        ("ResourceNotFoundException", "GetShardIterator", ShardGone),
        ("ResourceNotFoundException", "GetRecords", ShardGone),
        ("ExpiredIteratorException", "GetRecords", IteratorExpired),
        ("TrimmedDataAccessException", "GetRecords", Trimmed),
        ("TrimmedDataAccessException", "GetShardIterator", Trimmed),
    ],
)
def test_an_error_code_says_what_is_to_be_done(
    api: RegionApi, service: Service, code: str, operation: str, kind: type[ReplicatorError]
) -> None:
    """Each code is one error, by the operation where that makes the difference."""
    service.refuses(code)
    error = failure(api, operation)
    assert type(error) is kind
    assert str(error).startswith(f"{operation} ")
    assert "in eu-west-1" in str(error)
    assert code in str(error)
    assert "on orders" in str(error) or operation == "GetRecords"


@pytest.mark.parametrize("status", [500, 502, 503])
def test_an_unknown_code_with_a_server_error_is_transient(
    api: RegionApi, service: Service, status: int
) -> None:
    """The status decides where the code is not listed."""
    service.refuses("NeverHeardOfException", status=status)
    assert type(failure(api)) is Transient


def test_a_lost_condition_brings_the_item(api: RegionApi, service: Service) -> None:
    """The item that stood comes in wire form, binaries as bytes; an absent one is None."""
    service.refuses("ConditionalCheckFailedException", Item={"b": {"B": "AP8="}})
    lost = failure(api)
    assert isinstance(lost, ConditionFailed)
    assert lost.item == {"b": {"B": b"\x00\xff"}}
    service.refuses("ConditionalCheckFailedException")
    absent = failure(api)
    assert isinstance(absent, ConditionFailed)
    assert absent.item is None


@pytest.mark.parametrize("code", ["ValidationException", "SerializationException"])
@pytest.mark.parametrize("operation", ["PutItem", "UpdateItem", "DeleteItem", "BatchGetItem"])
def test_an_error_never_quotes_an_item(
    api: RegionApi, service: Service, code: str, operation: str
) -> None:
    """Words that may quote a value are left out, and no botocore exception hangs on the error."""
    service.refuses(code)
    error = failure(api, operation)
    assert CANARY not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_a_known_opening_gets_through(api: RegionApi, service: Service) -> None:
    """What names a rule is repeated as far as it is listed, and no further."""
    opening = "Item size has exceeded the maximum allowed size"
    service.refuses("ValidationException", message=f"{opening} {CANARY}")
    assert str(failure(api)) == f"PutItem on orders in eu-west-1: ValidationException: {opening}"


def test_other_words_get_through(api: RegionApi, service: Service) -> None:
    """Who was refused what is worth knowing, and quotes no item."""
    service.refuses("AccessDeniedException", message="User: arn:aws:iam::1:user/x")
    assert str(failure(api)).endswith("AccessDeniedException: User: arn:aws:iam::1:user/x")


@pytest.mark.parametrize(
    "words",
    [
        "Check your key.\n\nThe Canonical String should have been\n'x-amz-security-token:{}'",
        "'{}' not a valid key=value pair in Authorization header: 'Credential={}'",
        "Authorization header requires 'Signature' parameter. Authorization={}",
    ],
)
@pytest.mark.parametrize("code", ["InvalidSignatureException", "IncompleteSignature"])
def test_a_refused_signature_quotes_no_header(
    api: RegionApi, service: Service, code: str, words: str
) -> None:
    """The service shows what it was sent: key, token and signature."""
    service.refuses(code)
    assert service.answer.body is not None
    service.answer.body["message"] = words.replace("{}", CANARY)
    assert CANARY not in str(failure(api))


def test_a_call_is_made_once(api: RegionApi, service: Service) -> None:
    """There is one retry layer, and it is not here."""
    service.refuses("InternalServerError", status=500)
    failure(api)
    assert len(service.received) == 1


def test_a_broken_answer_is_transient(api: RegionApi, service: Service) -> None:
    """The CRC that DynamoDB sends is checked, and a mismatch is tried again."""
    service.answer = Answer(body={"Attributes": {}}, headers={"x-amz-crc32": "1"})
    error = failure(api)
    assert type(error) is Transient
    assert "checksum" in str(error).lower()


def test_a_dropped_connection_is_transient(api: RegionApi, service: Service) -> None:
    """An answer that does not come may have been a write that was done."""
    service.answer = Answer(body=None)
    assert type(failure(api)) is Transient


def test_an_endpoint_that_is_not_there_is_transient() -> None:
    """Nobody listens: said at once, with the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with closing(Boto3Api.open(region="eu-west-1", endpoint_url=url, threads=1)) as api:
        error = failure(api)
    assert type(error) is Transient
    assert url in str(error)


def test_a_service_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is taken and never answered ends with the read time-out."""
    monkeypatch.setattr(sessions, "READ_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with closing(Boto3Api.open(region="eu-west-1", endpoint_url=url, threads=1)) as api:
            error = failure(api)
    assert type(error) is Transient
    assert "ReadTimeoutError" in str(error)


def test_calls_run_side_by_side(api: RegionApi, service: Service) -> None:
    """As many calls as there are threads are under way at once, the others wait their turn."""

    async def many() -> list[dict[str, Any]]:
        return await asyncio.gather(*(api.call("PutItem", PUT) for _ in range(40)))

    assert asyncio.run(many()) == [{}] * 40
    assert len(service.received) == 40


def test_other_endpoints_in_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_ENDPOINT_URL would send every region, and the role's STS, to one place."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
    with closing(Boto3Api.open(region="eu-west-1", threads=1)) as api:
        assert api.endpoint_url.startswith("https://dynamodb.eu-west-1.")


def test_an_emulator_needs_no_credentials(
    monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    """On the loopback, and only there, missing credentials are replaced by harmless ones."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with closing(Boto3Api.open(region="eu-west-1", endpoint_url=service.url, threads=1)) as api:
        call(api)
    assert f"Credential={EMULATOR_CREDENTIALS[0]}/" in service.received[0][0]["Authorization"]


def test_no_credentials_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials a call to AWS is Fatal, and nothing is sent."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with closing(Boto3Api.open(region="eu-west-1", threads=1)) as api:
        error = failure(api)
    assert type(error) is Fatal
    assert "no usable credentials" in str(error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"profile": "nobody"},
        {"region": "not a region"},
        {"endpoint_url": "no endpoint"},
    ],
)
def test_what_cannot_be_used_is_said_when_opening(wrong: dict[str, str]) -> None:
    """A profile, region or endpoint that cannot be is the user's to mend."""
    with pytest.raises(ConfigurationError, match="region "):
        Boto3Api.open(**{"region": "eu-west-1", **wrong})  # type: ignore[arg-type]


def test_a_role_needs_credentials_to_be_assumed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said when opening."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigurationError, match="to assume arn:aws:iam::1:role/x"):
        Boto3Api.open(region="eu-west-1", role_arn="arn:aws:iam::1:role/x")


class FakeSts:
    """A botocore session whose only client is an STS that hands out numbered credentials."""

    def __init__(self, valid_for: timedelta) -> None:
        self._valid_for = valid_for
        self.asked: list[dict[str, Any]] = []
        self.region = ""

    def get_credentials(self) -> Credentials:
        return Credentials("source", "secret")

    def create_client(self, service: str, *, region_name: str, **_: object) -> FakeSts:
        assert service == "sts"
        self.region = region_name
        return self

    def assume_role(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        credentials = {
            "AccessKeyId": f"role{len(self.asked)}",
            "SecretAccessKey": "secret",
            "SessionToken": "token",
            "Expiration": datetime.now(UTC) + self._valid_for,
        }
        return {"Credentials": credentials}


def role_keys(sts: FakeSts, uses: int) -> list[str | None]:
    """Use an assumed role so many times, and name the access keys it signed with."""
    session = role_session(cast("Session", sts), "ap-south-1", "arn:aws:iam::1:role/x")
    credentials = session.get_credentials()
    assert credentials is not None
    return [credentials.get_frozen_credentials().access_key for _ in range(uses)]


def test_a_role_is_assumed_once_while_it_is_valid() -> None:
    """It is assumed in the region itself, under the product's name, when first needed."""
    sts = FakeSts(timedelta(hours=1))
    assert role_keys(sts, 3) == ["role1"] * 3
    assert sts.region == "ap-south-1"
    assert sts.asked == [{"RoleArn": "arn:aws:iam::1:role/x", "RoleSessionName": "replicator"}]


def test_f33_a_role_is_assumed_anew_before_it_expires() -> None:
    """Credentials that are about to expire are replaced without an error in between."""
    assert role_keys(FakeSts(timedelta(minutes=11)), 2) == ["role1", "role2"]


def test_a_refused_role_blames_no_item() -> None:
    """What STS refuses in the midst of a write is Fatal and names both operations."""
    answer = {"Error": {"Code": "ValidationException", "Message": "bad role"}}
    error = ClientError(cast("Any", answer), "AssumeRole")
    got = refusal(error, "PutItem", "PutItem on orders in eu-west-1")
    assert type(got) is Fatal
    assert str(got).endswith("AssumeRole: ValidationException: bad role")


def test_an_answer_that_is_not_dynamodbs_is_no_answer(api: RegionApi, service: Service) -> None:
    """A 200 from something in between is tried again; it must not pass for a write."""
    service.answer = Answer(200, {}, headers={"Content-Type": "text/html"})
    with pytest.raises(Transient):
        call(api)
