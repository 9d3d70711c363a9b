"""What a function is told by its environment: the configuration, and whose streams it is handed.

    REPLICATOR_CONFIG      the file in the package, replicator.toml if left out
    REPLICATOR_SOURCE      the function's region as configured; by AWS_REGION if left out
    REPLICATOR_…           every setting, as for `run`

This module must not know events.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from replicator.configuration import load, settings_of
from replicator.errors import ConfigurationError, suggestion
from replicator.settings import Settings

DEFAULT_FILE = "replicator.toml"


def settings_from(environment: Mapping[str, str]) -> Settings:
    """From the file; where none is named or there, from the environment alone.

    Raises: ConfigurationError.
    """
    named = environment.get("REPLICATOR_CONFIG")
    path = Path(environment.get("LAMBDA_TASK_ROOT", ""), named or DEFAULT_FILE)
    if named or path.exists():
        return load(path, environment)
    if "REPLICATOR_TABLES" not in environment:
        remedy = f"set REPLICATOR_CONFIG, or put {DEFAULT_FILE} into the package"
        raise ConfigurationError(f"{path}: not found; {remedy}")
    return settings_of({}, environment, stated_by="environment")


def source_from(settings: Settings, environment: Mapping[str, str]) -> str:
    """The region whose streams this function is handed. Raises: ConfigurationError."""
    named = environment.get("REPLICATOR_SOURCE")
    if named is not None:
        if named not in settings.sources:
            remedy = suggestion(named, settings.sources)
            raise ConfigurationError(f"REPLICATOR_SOURCE: {named!r} reads no stream; {remedy}")
        return named
    here = environment.get("AWS_REGION", "")
    fitting = [name for name in settings.sources if settings.regions[name].aws_region == here]
    if len(fitting) != 1:
        found = "no region" if not fitting else "several regions"
        remedy = f"set it to one of {', '.join(sorted(settings.sources))}"
        raise ConfigurationError(
            f"REPLICATOR_SOURCE: is not set, and AWS_REGION {here!r} fits {found}; {remedy}"
        )
    return fitting[0]
