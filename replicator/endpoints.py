"""Which addresses data and signed requests may be sent to, and which count as this machine.

This module judges spellings only: it resolves no name and opens no connection.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

NEVER_AN_ENDPOINT = tuple(
    ipaddress.ip_network(network)
    for network in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128")
)
"""Link-local addresses: hosts' metadata, credentials included. Source: EC2, instance metadata."""


AWS_SUFFIXES = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".cloud.adc-e.uk",
    ".csp.hci.ic.gov",
)
"""Domains that only AWS gives names in, one or two for each partition. Source: botocore,
endpoints.json and partitions.json, dnsSuffix and dualStackDnsSuffix."""


_WORDS = re.compile(r"([\s'\"]+)")


def without_user(text: str) -> str:
    """A text as it may be shown: without the user and password of a URL in it, or of what was to be
    one."""
    return "".join(map(_without_user, _WORDS.split(text)))


def _without_user(word: str) -> str:
    user, _, host = word.rpartition("@")
    scheme, slashes, _ = user.partition("//")
    if slashes:
        return f"{scheme}//…@{host}"
    return f"…@{host}" if ":" in user else word


def checked_endpoint(url: str) -> str:
    """`url`, if it is one that requests with data and signatures may be sent to.

    Plain http goes to loopback only; link-local addresses, which serve credentials, never count.
    """
    if "@" in url:
        raise ValueError("takes no user or password; leave them out of the URL")
    parts = _parts(url)
    host = parts.hostname or ""
    address = _address(host)
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f'{url!r} is no endpoint; write it like "https://host:port"')
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("takes scheme, host and port only; leave out the rest of the URL")
    if address is not None and any(address in network for network in NEVER_AN_ENDPOINT):
        raise ValueError(f"{host} is link-local, where hosts keep credentials; name another host")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"plain http is for loopback only; use https for {host}")
    return url


def checked_collector(url: str) -> str:
    """`url`, if metrics can be sent there. They hold names and figures, so http will do."""
    if "@" in url:
        raise ValueError("takes no user or password; set OTEL_EXPORTER_OTLP_HEADERS instead")
    parts = _parts(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        example = "http://127.0.0.1:4318/v1/metrics"
        raise ValueError(f'{url!r} is no collector; write it like "{example}"')
    return url


def host_of(url: str) -> str:
    """The host of an endpoint, in lower case."""
    return (_parts(url).hostname or "").rstrip(".")


def needs_no_leave(url: str) -> bool:
    """Whether data may go to an endpoint without the configuration naming its host: this machine
    and AWS. A private name, a proxy or another vendor's engine has to be meant."""
    host = host_of(url)
    return is_loopback(host) or host.endswith(AWS_SUFFIXES)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine and nothing else."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is no endpoint: {error}") from None
    return parts


def _address(host: str) -> Address | None:
    """The address that `host` spells, in any of the spellings that a resolver accepts."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeEncodeError):
            return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
