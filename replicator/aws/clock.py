"""Signing by the service's clock, once it has refused what was signed by this machine's.

What is made of an answer's date is decided in skew.py.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import Session

from replicator.skew import OFF_S_MIN, service_time_s

log = logging.getLogger(__name__)

CORRECTED = "v4-by-the-service's-clock"
"""A name among botocore's kinds of signatures."""


class ClockCorrection:
    """How far the service's clock is ahead of this machine's, for all clients of one session."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def register(self, session: Session) -> None:
        """Correct what the clients of a session sign, STS's among them; before any is made."""
        session.register("choose-signer", self._choose)
        session.register("needs-retry", self._mend)

    def _choose(self, **said: Any) -> Any:
        """Which signature a call is to have; None: the one that botocore has chosen."""
        said["context"]["ahead_s"] = self._ahead_s
        return CORRECTED if self._ahead_s and said["signature_version"] == "v4" else None

    def _mend(self, **said: Any) -> Any:
        """Seconds after which a call is made again; None: it is not.

        Calls under way side by side are all refused for the clock, and the first of them sets it.
        """
        context = said["request_dict"]["context"]
        unsigned = "timestamp" not in context
        if said["response"] is None or said["attempts"] > 1 or unsigned:
            return None
        answer = said["response"][1]
        code = str(answer.get("Error", {}).get("Code", ""))
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        signed_s = _time(context["timestamp"]).timestamp()
        service_s = service_time_s(code, date, signed_s)
        if service_s is None:
            return None
        ahead_s = context["ahead_s"] + service_s - signed_s
        if abs(ahead_s - self._ahead_s) >= OFF_S_MIN:
            self._ahead_s = ahead_s
            region = context.get("client_region")
            log.warning("clock.off", extra={"region": region, "ahead_s": round(ahead_s)})
        return 0


class CorrectedAuth(SigV4Auth):
    """Signature Version 4 at the time that the service has."""

    def canonical_request(self, request: AWSRequest) -> str:
        """What is signed. The time is in it, and whatever is made later takes it from there."""
        at = _time(request.context["timestamp"]) + timedelta(seconds=request.context["ahead_s"])
        request.context["timestamp"] = at.strftime(SIGV4_TIMESTAMP)
        del request.headers["X-Amz-Date"]
        request.headers["X-Amz-Date"] = request.context["timestamp"]
        return super().canonical_request(request)


def _time(stamp: str) -> datetime:
    return datetime.strptime(stamp, SIGV4_TIMESTAMP).replace(tzinfo=UTC)


AUTH_TYPE_MAPS[CORRECTED] = CorrectedAuth  # botocore finds a signer by its name only
