"""Logging: one line per event, a constant name with fields, as text or as JSON.

    logger.warning("shard.retry", extra={"region": region, "table": table, "shard": shard})

gives `2026-11-23T17:02:41.503Z WARNING shard.retry region=eu-west-1 table=orders shard=…`. Fields
never hold an item's data or key. Libraries are kept at WARNING, whatever level is asked for: some
print bodies and keys at DEBUG. Source: botocore issue 2626.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Mapping

LEVELS = ("debug", "info", "warning", "error")
LIBRARIES = (
    "asyncio",
    "boto3",
    "botocore",
    "distributed",
    "opentelemetry",
    "s3transfer",
    "urllib3",
    "uvicorn",
)
TOLD_BY_US = ("botocore.credentials", "opentelemetry.exporter")
"""Credentials that cannot be renewed are told by what needs them, ten minutes before those at hand
end; a collector that cannot be reached by exporting.py, once and in one line."""

OF_HEADERS = "opentelemetry.util.re"
"""Quotes a header of OTEL_EXPORTER_OTLP_HEADERS that is none, and with it the secret in it."""

PAGE = "uvicorn.error"
"""Has a line for each malformed request, of which whoever can connect may send any number."""

_OWN_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def configure(*, level: str, as_json: bool) -> None:
    """Send the events of this process to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.WARNING, logging.getLogger().level))
    for name in TOLD_BY_US:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger(OF_HEADERS).addFilter(_without_quotation)
    logging.getLogger(PAGE).setLevel(logging.ERROR)


def _without_quotation(record: logging.LogRecord) -> bool:
    record.msg, record.args = "otlp.header_malformed; see OTEL_EXPORTER_OTLP_HEADERS", ()
    return True


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """What was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES}


class TextLines(logging.Formatter):
    """`time LEVEL event field=value …`; the way to an exception follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        words = [_time(record), record.levelname, _one_line(_event(record))]
        words += [f"{name}={_text(value)}" for name, value in fields_of(record).items()]
        line = " ".join(words)
        trace = _trace(record)
        return f"{line}\n{trace}" if trace else line


class JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {**fields_of(record), "time": _time(record)}
        line |= {"level": record.levelname, "event": _event(record)}
        trace = _trace(record)
        if trace:
            line["traceback"] = trace
        return json.dumps(line, default=str)


def where(error: BaseException) -> str:
    """An error nobody has foreseen: its type and the way to it, without its words, for they may
    quote an item."""
    lines = [line.rstrip() for line in traceback.format_tb(error.__traceback__)]
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return "\n".join(["Traceback (most recent call last):", *lines, kind])


def _event(record: logging.LogRecord) -> str:
    """What happened. asyncio's own words of a task that failed unseen quote the error's."""
    return "task.failed" if record.name == "asyncio" and record.exc_info else record.getMessage()


def _trace(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return "" if error is None else where(error)


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _text(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not any(character in text for character in ' "=')
    return text if plain and text else json.dumps(text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
