"""One line for an application's boto3 client, after which its writes carry their versions.

    stamping.enable(boto3.client("dynamodb"), region="us-east-1")

PutItem, UpdateItem, the puts of BatchWriteItem and the puts and updates of TransactWriteItems get
a marker of kind `a`. Its time is that of this process in microseconds, where a stream record has
whole seconds; so of two writes in one second the later one wins, and the replicator need not stamp
the item itself. Nothing else of a call changes, and no argument of the caller's is changed in
place. botocore builds the parameters once per call, before its retries: a retry keeps its stamp.

  later      a stamp is later than every one that this process gave or saw in an answer (the hybrid
             logical clock rule), as far as those are no further ahead than the bound on the future
  unique     the sequence is drawn at random for each stamp: two processes of a region, forked or
             restored from one snapshot, do not give the same version in the same microsecond
  left alone deletes and PartiQL; transactions with a ClientRequestToken of the caller's own, which
             must say the same each time; updates that name the marker themselves

What is left alone is stamped by the replicator, by the time of its stream record.

This module is for applications: it needs no configuration, opens nothing, imports no AWS library.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from threading import Lock
from typing import Any, Protocol, TypeAlias

from conflict.version import ORIGIN_PATTERN, Kind, Version, parse
from replicator.clock import SystemClock
from replicator.errors import ConfigurationError

DEFAULT_MARKER = "_replicator"
FUTURE_BOUND_US = 60_000_000
"""What lies further ahead of the clock is not followed: one forged marker must not drag along every
later write. The replicators' own bound (`future_bound_s`) is the same."""

SEQUENCE_BITS = 63
EXPRESSION_BYTES_MAX = 4096
"""Source: Quotas, "Expression parameters": an expression string has at most 4 KB."""

_ENABLED = "_replicator_stamping"
_STAMPED = "replicator_stamped"
_TOKEN = re.compile(r"[#:]?\w+")
_UPDATED_ONLY = frozenset({"UPDATED_NEW", "UPDATED_OLD"})

Params: TypeAlias = dict[str, Any]


class _Events(Protocol):
    def register_last(self, event_name: str, handler: Callable[..., None]) -> None: ...

    def register_first(self, event_name: str, handler: Callable[..., None]) -> None: ...


class WallClock(Protocol):
    """What tells the time: replicator.clock.SystemClock, or a test's."""

    def now_us(self) -> int: ...


class StampClock:
    """A hybrid logical clock: never behind the wall clock, and above all that it gave or saw."""

    def __init__(self, wall: WallClock, *, future_bound_us: int = FUTURE_BOUND_US) -> None:
        self._wall, self._bound_us = wall, future_bound_us
        self._latest_us = 0
        self._lock = Lock()

    def next_us(self) -> int:
        """A time in microseconds, above every earlier one."""
        with self._lock:
            self._latest_us = max(self._wall.now_us(), self._latest_us + 1)
            return self._latest_us

    def saw(self, time_us: int) -> None:
        """Rise above a time that was seen, if it is credible."""
        with self._lock:
            if self._latest_us < time_us <= self._wall.now_us() + self._bound_us:
                self._latest_us = time_us


@cache
def process_clock() -> StampClock:
    """The one clock of this process: what one client wrote or saw, the others follow."""
    return StampClock(SystemClock())


def enable(
    client: Any,
    *,
    region: str,
    marker: str = DEFAULT_MARKER,
    tables: Collection[str] | None = None,
    clock: StampClock | None = None,
) -> None:
    """Let the writes of a boto3 DynamoDB client, resource or Table carry their versions.

    `region` is the region's name in replicator.toml, where it differs from AWS's; `marker` the
    tables' marker; `tables` the tables that are meant, by name, all if left out.

    Raises: ConfigurationError for a name that no region can have, for what is no DynamoDB client,
    and where stamping is enabled on it already.
    """
    if re.fullmatch(ORIGIN_PATTERN, region, re.ASCII) is None:
        raise ConfigurationError(f"stamping: {region!r} is no region's name; name it as configured")
    inner = getattr(client.meta, "client", client)
    if inner.meta.service_model.service_name != "dynamodb":
        raise ConfigurationError("stamping: this is no DynamoDB client; enable it on one that is")
    if getattr(inner, _ENABLED, False):
        raise ConfigurationError("stamping: is enabled on this client already; enable it once")
    stamping = _Stamping(
        region=region,
        marker=marker,
        tables=None if tables is None else frozenset(tables),
        clock=clock or process_clock(),
    )
    events: _Events = inner.meta.events
    # After boto3 has turned a resource's values into wire form, and before it turns them back.
    events.register_last("before-parameter-build.dynamodb", stamping.before_call)
    events.register_first("after-call.dynamodb", stamping.after_call)
    setattr(inner, _ENABLED, True)


class _Stamping:
    """What is hooked into one client."""

    def __init__(
        self, *, region: str, marker: str, tables: frozenset[str] | None, clock: StampClock
    ) -> None:
        self._region, self._marker, self._tables, self._clock = region, marker, tables, clock
        self._stampers: Mapping[str, Callable[[Params], bool]] = {
            "PutItem": self._put,
            "UpdateItem": self._update,
            "BatchWriteItem": self._batch,
            "TransactWriteItems": self._transaction,
        }

    def before_call(self, params: Params, model: Any, context: Params, **_: object) -> None:
        """Botocore's `before-parameter-build`: once per call, however often it is sent."""
        stamper = self._stampers.get(model.name)
        if stamper is not None and stamper(params):
            context[_STAMPED] = params.get("ReturnValues")

    def after_call(self, parsed: Params, context: Params, **_: object) -> None:
        """Botocore's `after-call`: learn what was seen, hide what the caller did not ask for."""
        for item in _items_in(parsed):
            value = item.get(self._marker)
            version = parse(value["S"]) if isinstance(value, dict) and "S" in value else None
            if version is not None:
                self._clock.saw(version.time_us)
        attributes = parsed.get("Attributes")
        if attributes and context.get(_STAMPED) in _UPDATED_ONLY:
            attributes.pop(self._marker, None)
            if not attributes:
                del parsed["Attributes"]

    # --- one operation each: whether it was stamped ---------------------------------------------

    def _put(self, params: Params) -> bool:
        return self._is_meant(params) and self._stamp_item(params, self._next())

    def _update(self, params: Params) -> bool:
        if not self._is_meant(params):
            return False
        if "AttributeUpdates" in params or "Expected" in params:
            change = {"Action": "PUT", "Value": self._next()}
            params["AttributeUpdates"] = {
                **params.get("AttributeUpdates", {}),
                self._marker: change,
            }
            return True
        return self._stamp_expression(params, self._next())

    def _batch(self, params: Params) -> bool:
        stamp = self._next()
        requests = params.get("RequestItems")
        if not isinstance(requests, dict):
            return False
        params["RequestItems"] = {
            table: [self._batched(request, stamp) for request in listed]
            if self._is_table(table)
            else listed
            for table, listed in requests.items()
        }
        return True

    def _batched(self, request: Params, stamp: Params) -> Params:
        if "PutRequest" not in request:
            return request
        put = dict(request["PutRequest"])
        self._stamp_item(put, stamp)
        return {**request, "PutRequest": put}

    def _transaction(self, params: Params) -> bool:
        if "ClientRequestToken" in params:
            return False
        stamp = self._next()
        listed = params.get("TransactItems") or ()
        params["TransactItems"] = [self._transacted(entry, stamp) for entry in listed]
        return True

    def _transacted(self, entry: Params, stamp: Params) -> Params:
        for kind, stamp_it in (("Put", self._stamp_item), ("Update", self._stamp_expression)):
            if kind in entry and self._is_meant(entry[kind]):
                stamped = dict(entry[kind])
                stamp_it(stamped, stamp)
                return {**entry, kind: stamped}
        return entry

    # --- putting the stamp in -------------------------------------------------------------------

    def _next(self) -> Params:
        sequence = secrets.randbits(SEQUENCE_BITS)
        version = Version(self._clock.next_us(), self._region, sequence, Kind.APPLICATION)
        return {"S": version.text}

    def _is_meant(self, params: Params) -> bool:
        return self._is_table(params.get("TableName", ""))

    def _is_table(self, name: str) -> bool:
        """A table may be named by its ARN. Source: API_PutItem, TableName."""
        return self._tables is None or name.rpartition("table/")[2] in self._tables

    def _stamp_item(self, put: Params, stamp: Params) -> bool:
        if not isinstance(put.get("Item"), dict):
            return False  # botocore says what is wrong with it
        put["Item"] = {**put["Item"], self._marker: stamp}
        return True

    def _stamp_expression(self, update: Params, stamp: Params) -> bool:
        names: Mapping[str, str] = update.get("ExpressionAttributeNames") or {}
        values: Mapping[str, object] = update.get("ExpressionAttributeValues") or {}
        expression: str = update.get("UpdateExpression") or ""
        if self._marker in _attributes_of(expression, names):
            return False
        standing = next((name for name, of in names.items() if of == self._marker), None)
        name = standing or _free("#replicator", names)
        value = _free(":replicator", values)
        merged = with_set(expression, f"{name} = {value}")
        if len(merged.encode()) > EXPRESSION_BYTES_MAX:
            return False
        update["UpdateExpression"] = merged
        update["ExpressionAttributeNames"] = {**names, name: self._marker}
        update["ExpressionAttributeValues"] = {**values, value: stamp}
        return True


def with_set(expression: str, assignment: str) -> str:
    """An UpdateExpression with one assignment more, in its SET clause if it has one.

    Values are placeholders and SET is a reserved word, so that a bare SET is always the clause.
    Source: Developer Guide, "Reserved words", "Update expressions".
    """
    for at, token in _top_level(expression):
        if token.upper() == "SET":
            end = at + len(token)
            return f"{expression[:end]} {assignment},{expression[end:]}"
    return f"{expression} SET {assignment}".lstrip()


def _attributes_of(expression: str, names: Mapping[str, str]) -> set[str]:
    """The top-level attributes that an expression names, and its keywords."""
    return {names.get(token, token) for _, token in _top_level(expression)}


def _top_level(expression: str) -> Iterator[tuple[int, str]]:
    """Words and placeholders with their places, but for those within a document path."""
    for match in _TOKEN.finditer(expression):
        if not expression[: match.start()].rstrip().endswith("."):
            yield match.start(), match.group()


def _free(placeholder: str, taken: Collection[str]) -> str:
    """A placeholder that the caller does not use."""
    found, number = placeholder, 0
    while found in taken:
        found, number = f"{placeholder}{number}", number + 1
    return found


def _items_in(parsed: Params) -> Iterable[Mapping[str, Any]]:
    """The items of any answer of the table API, also of one that says why nothing was written."""
    yield from (parsed[name] for name in ("Item", "Attributes") if parsed.get(name))
    yield from parsed.get("Items") or ()
    responses = parsed.get("Responses") or ()
    if isinstance(responses, dict):
        for items in responses.values():
            yield from items
    else:
        yield from (answer["Item"] for answer in responses if answer.get("Item"))
    reasons = parsed.get("CancellationReasons") or ()
    yield from (reason["Item"] for reason in reasons if reason.get("Item"))
