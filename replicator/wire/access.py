"""Where an endpoint is and what its calls are signed with: what the lean plane takes over.

Regions, partitions, FIPS, profiles, roles and their renewal are botocore's business. It works them
out once, and this is the outcome. This module must not know botocore.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

_FIT = re.compile(r"[\x21-\x7e]*")
"""What keys and tokens are made of: all else breaks a header, or a signature without a word."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a call is signed with. They show in no text of this value."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)

    @property
    def wrong(self) -> str | None:
        """Which of them cannot be one, without a sign of it; None where all may be."""
        for name, variable, text in (
            ("access key", "AWS_ACCESS_KEY_ID", self.access_key),
            ("secret key", "AWS_SECRET_ACCESS_KEY", self.secret_key),
            ("session token", "AWS_SESSION_TOKEN", self.token or ""),
        ):
            if _FIT.fullmatch(text) is None:
                odd = "holds a line break, a space or another character that none has"
                return f"the {name} ({variable}, or what else gives it) {odd}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One region's endpoints. `load_keys` may block and raises errors of replicator.errors.

    `region` is the one that signatures name; `ca_bundle` a file of certificates; `proxied`: calls
    would have to go through a proxy.
    """

    region: str
    tables_url: str
    streams_url: str
    ca_bundle: str
    proxied: bool
    load_keys: Callable[[], Keys]
