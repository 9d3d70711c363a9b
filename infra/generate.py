"""Make the templates of a configuration: `python -m infra.generate --config FILE --out DIR`.

For each region a CloudFormation template and a Terraform module of the same content:

    DIR/us-east-1/template.json      aws cloudformation deploy --template-file …
    DIR/us-east-1/main.tf.json       module "replicator" { source = "…/us-east-1" }
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.cloudformation import template
from infra.definition import MODES, TOKEN, Options, Stack, stack_of
from infra.limits import check_limits
from infra.names import check_keys, check_names
from infra.permissions import check_roles
from infra.terraform import module
from replicator.configuration import load
from replicator.errors import ConfigurationError
from replicator.settings import SECRET_CHARACTERS_MIN, Settings, TableSettings

WRONG = 2
KINDS = ("S", "N", "B")
REGIONS, ROLE_ARN = "REPLICATOR_REGIONS__", "__ROLE_ARN"
AHEAD = (
    "mend this now, for after an unplanned failover, when all members of a table write it, no "
    "stacks could be generated"
)
STAND_IN = "x" * SECRET_CHARACTERS_MIN


def files(settings: Settings, options: Options) -> dict[Path, str]:
    """Every file, by its place below the directory.

    Raises: ConfigurationError where a region's stack cannot be said, or AWS would not take it.
    """
    check_names(settings, options.create)
    check_roles(settings)
    made: dict[Path, str] = {}
    for region in settings.regions:
        stack = stack_of(settings, region, options)
        check_keys(region, _keys(stack))
        text = _text(template(stack))
        check_limits(settings, stack, text)
        made[Path(region, "template.json")] = text
        made[Path(region, "main.tf.json")] = _text(module(stack))
    return made


def foreseen(settings: Settings, options: Options) -> str | None:
    """What would be refused after an unplanned failover, which has every member of a one-way table
    write it where the streams can merge; a planned one asks for less. What is not replicated
    whole is never handed over."""
    tables = {name: _opened(table) for name, table in settings.tables.items()}
    try:
        files(settings.model_copy(update={"tables": tables}), options)
    except ConfigurationError as error:
        return str(error)
    return None


def _opened(table: TableSettings) -> TableSettings:
    if not table.view.is_whole:
        return table
    return table.model_copy(update={"source": None, "targets": None, "regions": table.members})


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def _keys(stack: Stack) -> Iterator[tuple[str, str]]:
    """What is made or asked for, by its key, each with what it is."""
    yield from ((parameter.name, "a parameter") for parameter in stack.parameters)
    yield from ((made.key, f"a {made.kind.replace('_', ' ')}") for made in stack.resources)
    yield from ((alarm.key, f"the alarm {alarm.name}") for alarm in stack.alarms)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m infra.generate", allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mode", choices=MODES, default="lambda")
    parser.add_argument("--no-kms", action="store_true", help="keys owned by AWS")
    parser.add_argument(
        "--create", action="append", default=[], metavar="TABLE=KEY:S,KEY:N",
        help="make this table too, with its stream; may be repeated",
    )  # fmt: skip
    parsed = parser.parse_args(arguments)
    try:
        settings, token_apart = _settings(parsed.config, parsed.mode)
        create = dict(_created(text, settings) for text in parsed.create)
        options = Options(
            mode=parsed.mode, kms=not parsed.no_kms, token_apart=token_apart, create=create
        )
        for path, text in files(settings, options).items():
            place = parsed.out / path
            _write(place, text)
            sys.stdout.write(f"{place}\n")
        refused = foreseen(settings, options)
    except ConfigurationError as error:
        sys.stderr.write(f"infra.generate: {error}\n")
        return WRONG
    if refused is not None:
        sys.stderr.write(f"infra.generate: warning: {AHEAD}: {refused}\n")
    return 0


def _settings(config: Path, mode: str) -> tuple[Settings, bool]:
    """The settings of a file, and whether the page needs a token that it does not state.

    Raises: ConfigurationError where it is not sound with a token either, or nobody could give one.
    """
    environment = {name: text for name, text in os.environ.items() if not _is_own(name)}
    settings = load(config, {**environment, TOKEN: STAND_IN})
    try:
        return load(config, environment), False
    except ConfigurationError:  # with a token it is sound, so that this is all that it lacks
        if mode == "service":
            return settings, True
    remedy = "name another file with 127.0.0.1, and put that one in the package"
    raise ConfigurationError(
        f'{config}: http.host: "{settings.http.host}" needs a token, and a function, which serves '
        f"no page, is given none and would not start; {remedy}"
    )


def _is_own(variable: str) -> bool:
    """Whether a variable is of whoever generates: the token, and the roles by which an operator
    enters regions. What is deployed has neither from him."""
    name = variable.upper()
    return name == TOKEN or (name.startswith(REGIONS) and name.endswith(ROLE_ARN))


def _write(place: Path, text: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        line = f"--out: {place}: not written: {error.strerror}; name another directory"
        raise ConfigurationError(line) from None


def _created(text: str, settings: Settings) -> tuple[str, Mapping[str, str]]:
    table, _, keys = text.partition("=")
    pairs = [pair.partition(":") for pair in keys.split(",")]
    schema = {name: kind for name, _, kind in pairs}
    if table not in settings.tables:
        raise ConfigurationError(f'--create: "{table}" is no table of the configuration')
    if (
        len(schema) > len(("HASH", "RANGE"))
        or not all(schema.values())
        or (not {*schema.values()} <= {*KINDS})
    ):
        raise ConfigurationError(f"--create: {text!r} is no key; write it like {table}=id:S,at:N")
    return table, schema


if __name__ == "__main__":
    raise SystemExit(main())
