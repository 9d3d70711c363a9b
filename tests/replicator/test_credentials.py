"""What gives keys may fail in its own ways, or give what can be none: named, and never shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ConnectTimeoutError, HTTPClientError

from replicator.aws.api import Boto3Api
from replicator.errors import ConfigurationError, Fatal, Transient, Unsigned

KEYS = "aws_access_key_id = a\naws_secret_access_key = s\n"


def for_botocore(api: Boto3Api) -> None:
    """Make a call by botocore."""
    asyncio.run(api.call("ListTables", {}))


def for_the_lean_plane(api: Boto3Api) -> None:
    """Load the keys, as the lean data plane does before it signs."""
    api.access.load_keys()


@dataclass(frozen=True, slots=True)
class Process:
    """A `credential_process`."""

    script: Path

    def gives(self, keys: Mapping[str, str], *, for_s: float) -> None:
        """Let it give these keys, and others that will do, for so long."""
        until = (datetime.now(UTC) + timedelta(seconds=for_s)).isoformat()
        given = {"AccessKeyId": "a", "SecretAccessKey": "s", "SessionToken": "t", **keys}
        said = json.dumps({"Version": 1, "Expiration": until, **given})
        self.script.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
        self.script.chmod(0o700)


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    """Make a `credential_process` the one that is asked."""
    script, config = tmp_path / "keys.sh", tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {script}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return Process(script)


def opened() -> Boto3Api:
    """Open a region on this machine, where nobody answers."""
    return Boto3Api.open(region="us-east-1", endpoint_url="http://127.0.0.1:9", threads=1)


@pytest.mark.parametrize("default", [None, "us-east-1"])
@pytest.mark.parametrize("way", ["a token file", "a profile's role"])
def test_a_regions_keys_come_from_its_own_sts(
    way: str, default: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region that is lost, or the global endpoint, takes nobody else's keys with it."""
    token, config = tmp_path / "token", tmp_path / "config"
    token.write_text("token")
    role = "role_arn = arn:aws:iam::123456789012:role/a"
    config.write_text(f"[profile role]\n{role}\nsource_profile = keys\n[profile keys]\n{KEYS}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    if default is not None:
        monkeypatch.setenv("AWS_REGION", default)
        monkeypatch.setenv("AWS_DEFAULT_REGION", default)
    if way == "a token file":
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/a")
    asked: list[str] = []

    def send(_: object, request: AWSPreparedRequest) -> NoReturn:
        asked.append(request.url)
        raise ConnectTimeoutError(endpoint_url=request.url)

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    profile = None if way == "a token file" else "role"
    api = Boto3Api.open(region="eu-west-1", profile=profile, threads=1)
    with closing(api), pytest.raises(Transient):
        api.access.load_keys()
    assert {urlsplit(url).hostname for url in asked} == {"sts.eu-west-1.amazonaws.com"}


@pytest.mark.parametrize("ask", [for_botocore, for_the_lean_plane])
@pytest.mark.parametrize("later", ["says nothing", "says a list", "is gone"])
def test_a_renewal_that_fails_oddly_is_transient(
    ask: Callable[[Boto3Api], None], later: str, process: Process
) -> None:
    """Keys that are about to expire, and no others given."""
    process.gives({}, for_s=30)
    api = opened()
    process.script.write_text("#!/bin/sh\n" + ("echo []\n" if later == "says a list" else ""))
    if later == "is gone":
        process.script.unlink()
    with closing(api), pytest.raises(Unsigned, match="credentials in us-east-1: not to be had"):
        ask(api)


@pytest.mark.parametrize("ask", [for_botocore, for_the_lean_plane])
def test_keys_that_have_expired_already_are_told_as_such(
    ask: Callable[[Boto3Api], None], process: Process
) -> None:
    """A program that goes on giving what it gave yesterday."""
    process.gives({}, for_s=-30)
    with closing(opened()) as api, pytest.raises(Unsigned, match="has expired already"):
        ask(api)


@pytest.mark.parametrize("role_arn", [None, "arn:aws:iam::1:role/x"])
@pytest.mark.parametrize("given", [None, "", "[]", "{"])
def test_what_gives_no_keys_at_the_start_is_named(
    given: str | None, role_arn: str | None, process: Process
) -> None:
    """The program is not there, or says what is none: one line, and the right remedy."""
    if given is not None:
        process.script.write_text(f"#!/bin/sh\necho '{given}'\n")
        process.script.chmod(0o700)
    with pytest.raises(ConfigurationError) as caught:
        Boto3Api.open(region="us-east-1", role_arn=role_arn, threads=1)
    line = str(caught.value)
    assert line.startswith("region us-east-1: no credentials: ")
    assert line.endswith("; check the credentials: profile, role_arn or the environment's")
    assert given is not None or f"{process.script}: No such file or directory" in line


@pytest.mark.parametrize("way", [{}, {"endpoint_url": "http://127.0.0.1:9", "role_arn": "a:role"}])
@pytest.mark.parametrize("text", [None, "no certificate"])
def test_certificates_that_are_not_there_are_named(
    way: dict[str, str], text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever needs them finds out at the start; plain http on this machine does not."""
    bundle = tmp_path / "ca.pem"
    if text is not None:
        bundle.write_text(text)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(ConfigurationError, match="correct AWS_CA_BUNDLE") as caught:
        Boto3Api.open(region="us-east-1", threads=1, **way)
    assert str(caught.value).startswith(f"region us-east-1: {bundle}: no file of certificates: ")
    opened().close()


KEPT = "FwoGZXIvYXdzE0SECRET"
"""A session token's text, which nothing may print."""


@pytest.mark.parametrize(
    ("ask", "field", "variable"),
    [
        (for_botocore, "AccessKeyId", "AWS_ACCESS_KEY_ID"),
        (for_botocore, "SessionToken", "AWS_SESSION_TOKEN"),
        (for_the_lean_plane, "AccessKeyId", "AWS_ACCESS_KEY_ID"),
        (for_the_lean_plane, "SecretAccessKey", "AWS_SECRET_ACCESS_KEY"),
        (for_the_lean_plane, "SessionToken", "AWS_SESSION_TOKEN"),
    ],
)
def test_fetched_keys_that_can_be_none_are_named_and_not_shown(
    ask: Callable[[Boto3Api], None], field: str, variable: str, process: Process
) -> None:
    """A line break would end a header; the words of whoever notices quote the token."""
    process.gives({field: f"{KEPT}\n"}, for_s=3_600)
    with closing(opened()) as api, pytest.raises(Fatal) as caught:
        ask(api)
    assert variable in str(caught.value)
    assert "line break" in str(caught.value)
    assert KEPT not in str(caught.value)


@pytest.mark.parametrize("role_arn", [None, "arn:aws:iam::1:role/x"])
@pytest.mark.parametrize("endpoint_url", [None, "http://127.0.0.1:9"])
@pytest.mark.parametrize("kept", [f"{KEPT}\n", f"{KEPT}\r", f"{KEPT} ", f"\u201c{KEPT}"])
def test_keys_at_hand_that_can_be_none_are_refused_at_the_start(
    kept: str, endpoint_url: str | None, role_arn: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No outage, and nothing to wait for: a person has to mend the variable."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", kept)
    with pytest.raises(ConfigurationError) as caught:
        Boto3Api.open(region="us-east-1", endpoint_url=endpoint_url, role_arn=role_arn, threads=1)
    assert str(caught.value).startswith("region us-east-1: the session token (AWS_SESSION_TOKEN")
    assert KEPT not in str(caught.value)


def test_an_error_of_the_client_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What botocore has not foreseen it repeats, whatever it quotes."""

    def break_down(*_: object, **__: object) -> None:
        raise HTTPClientError(error=ValueError(f"Invalid header value b'{KEPT}'"))

    monkeypatch.setattr("botocore.endpoint.Endpoint._send", break_down)
    with closing(opened()) as api, pytest.raises(Transient) as caught:
        for_botocore(api)
    assert str(caught.value) == "ListTables in us-east-1: HTTPClientError"
