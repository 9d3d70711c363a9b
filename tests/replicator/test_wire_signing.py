"""Signatures of the lean plane beside those that botocore makes of the same request."""

from __future__ import annotations

from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from replicator.wire.access import Keys
from replicator.wire.signing import CONTENT_TYPE, SERVICE, Signer

PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
KEYS = st.builds(Keys, PRINTABLE, PRINTABLE, st.none() | PRINTABLE)
TIMES = st.integers(0, 4_102_444_800)
TARGET = "DynamoDB_20120810"


def _said(head: bytes) -> dict[str, str]:
    lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")[1:]
    return {name: value for name, _, value in (line.partition(": ") for line in lines)}


def _by_botocore(said: dict[str, str], body: bytes, keys: Keys, region: str) -> str:
    """The Authorization that botocore gives the same request at the same second."""
    unsigned = {"Authorization", "Content-Length", "X-Amz-Date", "X-Amz-Security-Token"}
    headers = {name: value for name, value in said.items() if name not in unsigned}
    request = AWSRequest("POST", f"http://{said['Host']}/", headers=headers, data=body)
    at = said["X-Amz-Date"]
    with patch("botocore.auth.get_current_datetime") as now:
        now.return_value.strftime.return_value = at
        credentials = Credentials(keys.access_key, keys.secret_key, keys.token)
        SigV4Auth(credentials, SERVICE, region).add_auth(request)
    return str(request.headers["Authorization"])


@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(["PutItem", "GetRecords", "BatchGetItem"]),
            st.binary(max_size=300),
            KEYS,
            TIMES,
        ),
        min_size=1,
        max_size=6,
    ),
    host=st.sampled_from(["dynamodb.us-east-1.amazonaws.com", "127.0.0.1:8000", "localhost"]),
    region=st.sampled_from(["us-east-1", "eu-west-1", "us-gov-west-1"]),
)
def test_signatures_are_botocores(
    calls: list[tuple[str, bytes, Keys, int]], host: str, region: str
) -> None:
    """Any operation, body, key and second, one after the other through one signer."""
    signer = Signer(host=host, region=region, target=TARGET)
    for operation, body, keys, now_s in calls:
        said = _said(signer.head(operation, body, keys, now_s))

        assert said["X-Amz-Target"] == f"{TARGET}.{operation}"
        assert said["Content-Type"] == CONTENT_TYPE
        assert said.get("X-Amz-Security-Token") == keys.token
        assert said["Authorization"] == _by_botocore(said, body, keys, region)


def test_keys_show_in_no_text() -> None:
    """A log or a traceback that holds the value holds no secret."""
    assert "hidden" not in repr(Keys("hidden", "hidden", "hidden"))
