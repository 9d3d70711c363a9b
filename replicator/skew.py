"""Which refusals a clock that is off explains: one rule for both data planes.

A call is signed with the time of this machine, and refused where the service's differs by more than
five minutes. The answer says by its code that the signature is at fault, and by its Date what time
the service has. Where the two times agree, the clock explains nothing, and the refusal stands.

Source: IAM User Guide, "Elements of an AWS API request signature"; API references, "Common errors".

This module must not know how a call is made or made again.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

OFF_S_MIN = 2
"""A smaller difference to the service's Date, which has whole seconds, explains no refusal."""

_CODES = frozenset(
    {
        "RequestTimeTooSkewed",
        "RequestExpired",
        "RequestInTheFuture",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
    }
)
"""What a clock that is off is told. A signature by a wrong key is told the last two as well."""


def service_time_s(code: str, date: str, signed_s: float) -> float | None:
    """The service's time, in seconds since 1970, where it explains why a call was refused.

    `code` is that of the refusal, `date` the answer's Date header, `signed_s` the time that the
    call was signed with. None where the clock is not what was wrong, or nobody says how far.
    """
    if code not in _CODES:
        return None
    try:
        stated_s = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return stated_s if abs(stated_s - signed_s) >= OFF_S_MIN else None
