"""Reading the configuration: `replicator.toml`, with `REPLICATOR_…` of the environment above it.

The name of a variable is `REPLICATOR_` and the path of a key, its steps joined by `__`, in any
case. A region or table is written with `_` for each character that is no letter or digit:

    REPLICATOR_CONTROL_TABLE=replicator-state
    REPLICATOR_HTTP__PORT=9090
    REPLICATOR_REGIONS__US_EAST_1__ENDPOINT_URL=https://dynamodb.internal
    REPLICATOR_TABLES__ORDERS__REGIONS=["us-east-1", "eu-west-1"]       (lists, sections: JSON)

What a key takes decides how its variable is read: a text is taken as it is, so that a token may
begin with a brace.

A variable changes an entry that the file names and cannot name a new one, so nothing is guessed:
a name that fits no entry, or more than one, is refused. A section as a whole may be given without
a file entry: `REPLICATOR_REGIONS={"us-east-1": {}, "eu-west-1": {}}`.

Whatever is wrong becomes one line that names the file or variable, the key and the remedy; several
errors are several lines of one ConfigurationError. A line never runs on: names are quoted. What is
wrong is quoted too, but never what is a secret by its type, nor a URL's user and password.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from replicator.endpoints import without_user
from replicator.errors import ConfigurationError, suggestion
from replicator.settings import (
    ClientSettings,
    ConflictSettings,
    HeartbeatSettings,
    HttpSettings,
    MendingSettings,
    ReaderSettings,
    RegionSettings,
    Settings,
    TableSettings,
    TelemetrySettings,
    WriterSettings,
)
from replicator.soundness import Findings

ENVIRONMENT_PREFIX = "REPLICATOR_"
NO_SETTINGS = frozenset({"REPLICATOR_CONFIG", "REPLICATOR_SOURCE", "REPLICATOR_LOG_LEVEL"})
"""Variables that are no settings, but tell a function where its settings are (lambda_handler)."""
STEP = "__"
BYTE_ORDER_MARK = "\ufeff"
SHOWN_CHARACTERS_MAX = 60
A_LIST, A_SECTION = "should be a list", "should be a section with keys"
AS_JSON = {A_LIST: ", which is JSON", A_SECTION: '; write it like {"key": "value"}, which is JSON'}
"""What is added where a variable of the environment should be one."""

KeyPath: TypeAlias = tuple[str, ...]

NAMED_SECTIONS: Mapping[str, type[BaseModel]] = {"regions": RegionSettings, "tables": TableSettings}
SECTIONS: Mapping[str, type[BaseModel]] = {
    "client": ClientSettings,
    "http": HttpSettings,
    "reader": ReaderSettings,
    "writer": WriterSettings,
    "mending": MendingSettings,
    "heartbeat": HeartbeatSettings,
    "conflicts": ConflictSettings,
    "telemetry": TelemetrySettings,
}


def load(path: Path, environment: Mapping[str, str]) -> Settings:
    """The settings of the file at `path` with the environment above it.

    Raises: ConfigurationError, one line per error.
    """
    return settings_of(_read(path), environment, stated_by=str(path))


def settings_of(
    document: Mapping[str, Any], environment: Mapping[str, str], *, stated_by: str
) -> Settings:
    """The settings of a file that was read. Raises: ConfigurationError, one line per error."""
    overrides, variables = _overrides(environment, document)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *_: object, **__: object
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                InitSettingsSource(settings_cls, overrides),
                InitSettingsSource(settings_cls, dict(document)),
            )

    try:
        loaded = Loaded.model_validate({})
        # Not of the class above, for that holds on to the environment, wherever it is sent.
        return Settings.model_construct(loaded.model_fields_set, **dict(loaded))
    except ValidationError as error:
        lines = [_line(stated_by, variables, *found) for found in _found(error)]
        raise ConfigurationError("\n".join(dict.fromkeys(lines))) from None


def parsed(text: str) -> dict[str, Any]:
    """A file's text, with or without the mark that some editors put before UTF-8.

    Raises: ValueError, RecursionError.
    """
    return tomllib.loads(text.removeprefix(BYTE_ORDER_MARK))


def _read(path: Path) -> dict[str, Any]:
    try:
        return parsed(path.read_bytes().decode())
    except FileNotFoundError:
        remedy = "write one with `replicator init`, or name another with --config"
        raise ConfigurationError(f"{path}: not found; {remedy}") from None
    except tomllib.TOMLDecodeError as error:
        text = " ".join(str(error).split())
        raise ConfigurationError(f"{path}: is not TOML: {text}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not TOML: not in UTF-8; save it as UTF-8") from None
    except ValueError:  # of int(), which the parser lets through
        raise ConfigurationError(f"{path}: is not TOML: a number has too many digits") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: is not TOML: nested too deeply") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def _overrides(
    environment: Mapping[str, str], document: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """What the environment states, and which variable stated it."""
    tree: dict[str, Any] = {}
    variables: dict[KeyPath, str] = {}
    for variable in sorted(environment):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        path = _path_of(variable, document)
        if path is None:
            continue
        if path in variables:
            raise ConfigurationError(f"{variable}: states the same as {variables[path]}; unset one")
        variables[path] = variable
        section = tree
        for step in path[:-1]:
            section = section.setdefault(step, {})
            if not isinstance(section, dict):
                raise ConfigurationError(f"{variable}: lies within what another variable states")
        section[path[-1]] = _value(variable, path, environment[variable])
    return tree, variables


def _path_of(variable: str, document: Mapping[str, Any]) -> KeyPath | None:
    """The key that a variable means; None for one that is not meant for this program.

    Kubernetes sets REPLICATOR_PORT and the like for a service called replicator, so what has no
    `__` and is not close to a key is somebody else's.
    """
    if variable.upper() in NO_SETTINGS:
        return None
    rest = variable[len(ENVIRONMENT_PREFIX) :].casefold()
    first, nested, inner = rest.partition(STEP)
    if first not in Settings.model_fields:
        remedy = suggestion(first, Settings.model_fields)
        if nested or remedy.startswith("did you mean"):
            raise ConfigurationError(f"{variable}: names no key; {remedy}")
        return None
    if not nested:
        return (first,)
    if first not in NAMED_SECTIONS:
        return (first, inner)
    name, inner = _named(variable, inner, _names(document, first))
    if not inner:
        return (first, name)
    key, nested, within = inner.partition(STEP)
    if key != "names" or not nested:
        return (first, name, inner)
    region, beyond = _named(variable, within, _names(document, "regions"))
    return (first, name, key, region, beyond) if beyond else (first, name, key, region)


def _names(document: Mapping[str, Any], section: str) -> list[str]:
    entries = document.get(section)
    return list(entries) if isinstance(entries, dict) else []


def _named(variable: str, rest: str, names: Sequence[str]) -> tuple[str, str]:
    """The one entry that `rest` begins with, and what comes after it."""
    fitting = []
    for name in names:
        folded = re.sub(r"[^a-z0-9]", "_", name.casefold())
        if rest == folded or rest.startswith((folded + STEP, name.casefold() + STEP)):
            fitting.append((name, rest[len(folded) + len(STEP) :]))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        both = " and ".join(f'"{name}"' for name, _ in fitting)
        raise ConfigurationError(f"{variable}: fits {both}; set it in the file instead")
    remedy = f"add it to the file; {suggestion(rest.partition(STEP)[0], names)}"
    raise ConfigurationError(f"{variable}: names no entry of the file; {remedy}")


def _value(variable: str, path: KeyPath, text: str) -> object:
    if not text.lstrip().startswith(("[", "{")) or _takes_text(path):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{variable}: is not JSON: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{variable}: is not JSON: nested too deeply") from None


def _takes_text(path: KeyPath) -> bool:
    """Whether a key is a text or a choice, and neither list, number, switch nor section."""
    model, inner = _within(path)
    if not inner:
        return False
    if len(inner) > 1:  # a table's name in a region
        return True
    field = model.model_fields.get(inner[0])
    return field is not None and all(
        issubclass(kind, str | SecretStr | NoneType) for kind in _kinds(field.annotation)
    )


def _is_secret(path: KeyPath) -> bool:
    """Whether a key is a secret, lies in one, or is a section with one."""
    if not path:
        return True
    model, inner = _within(path)
    fields = [model.model_fields.get(inner[0])] if inner else model.model_fields.values()
    return any(field is not None and SecretStr in _kinds(field.annotation) for field in fields)


def _within(path: KeyPath) -> tuple[type[BaseModel], KeyPath]:
    """The section that a key belongs to, and the key's path from there."""
    first, *inner = path
    if first in NAMED_SECTIONS and inner:
        return NAMED_SECTIONS[first], tuple(inner[1:])
    if first in SECTIONS:
        return SECTIONS[first], tuple(inner)
    return Settings, path


def _kinds(annotation: Any) -> Iterator[type]:
    """The classes that a value of this annotation may have."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for alternative in get_args(annotation):
            yield from _kinds(alternative)
    else:
        yield origin or annotation


def _found(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """Each of pydantic's complaints, as the path of a key and a text."""
    for details in error.errors(include_url=False):
        raised = details.get("ctx", {}).get("error")
        if isinstance(raised, Findings):
            yield from raised.found
            continue
        path = tuple(str(step) for step in details["loc"] if step != "[key]")
        yield path, _text(path, details)


def _text(path: KeyPath, details: ErrorDetails) -> str:
    match details["type"]:
        case "extra_forbidden":
            return f"unknown key; {suggestion(path[-1], _keys_beside(path))}"
        case "missing":
            return f"is missing; add [{path[-1]}.NAME], or start from `replicator init`"
        case "value_error":
            return str(details["ctx"]["error"])
        case "model_type" | "model_attributes_type" | "dict_type" | "mapping_type":
            text, remedy = A_SECTION, ""
        case "list_type" | "tuple_type" | "set_type" | "frozen_set_type":
            text, remedy = A_LIST, '; write it like ["a", "b"]'
        case _:
            text = details["msg"].removeprefix("Input ").partition(", unable")[0]
            remedy = ""
    quoted = "" if _is_secret(path) else f", not {_shown(details['input'])}"
    return f"{text}{quoted}{remedy}"


def _keys_beside(path: KeyPath) -> list[str]:
    """The keys that are allowed where the last step of `path` stands."""
    if len(path) == 1:
        return list(Settings.model_fields)
    section = NAMED_SECTIONS.get(path[0]) or SECTIONS[path[0]]
    return list(section.model_fields)


def _shown(value: object) -> str:
    try:
        text = without_user(repr(value))
    except (
        RecursionError,
        ValueError,
    ):  # of a number, which has more digits than are turned to text
        return "what is too large to be shown"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def _line(file: str, variables: Mapping[KeyPath, str], path: KeyPath, text: str) -> str:
    """One line: who states it, which key, what is wrong and what to do."""
    variable = next(
        (variables[path[:end]] for end in range(len(path), 0, -1) if path[:end] in variables), None
    )
    stated_by = variable or file
    if variable is not None:
        text += next((form for kind, form in AS_JSON.items() if text.startswith(kind)), "")
    key = ".".join(
        step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else json.dumps(step) for step in path
    )
    return f"{stated_by}: {key}: {' '.join(text.split())}" if key else f"{stated_by}: {text}"
