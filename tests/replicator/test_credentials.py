"""What gives the keys may fail in its own ways: that is transient, and named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from replicator.dynamodb import Boto3Api
from replicator.errors import Transient


def for_botocore(api: Boto3Api) -> None:
    """Make a call by botocore."""
    asyncio.run(api.call("ListTables", {}))


def for_the_lean_plane(api: Boto3Api) -> None:
    """Load the keys, as the lean data plane does before it signs."""
    api.access.load_keys()


@pytest.mark.parametrize("ask", [for_botocore, for_the_lean_plane])
@pytest.mark.parametrize("later", ["says nothing", "is gone"])
def test_a_renewal_that_fails_oddly_is_transient(
    ask: Callable[[Boto3Api], None], later: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `credential_process` whose first keys are about to expire, and that gives no others."""
    soon = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    keys = {"AccessKeyId": "a", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": soon}
    script, config = tmp_path / "keys.sh", tmp_path / "config"
    script.write_text(f"#!/bin/sh\necho '{json.dumps({'Version': 1, **keys})}'\n")
    script.chmod(0o700)
    config.write_text(f"[default]\ncredential_process = {script}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    opened = Boto3Api.open(region="us-east-1", endpoint_url="http://127.0.0.1:9", threads=1)
    script.write_text("#!/bin/sh\n")
    if later == "is gone":
        script.unlink()
    with closing(opened) as api, pytest.raises(Transient, match="credentials in us-east-1"):
        ask(api)
