"""Rules of the house that a reader could break without noticing: who may know what."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AWS_EDGE = ROOT / "replicator" / "aws"


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imported(module: Path) -> Iterator[str]:
    """Yield the top-level package of each import in a module, wherever in it that stands."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield (node.module or "").partition(".")[0]


def _id(module: Path) -> str:
    return str(module.relative_to(ROOT))


@pytest.mark.parametrize("module", _modules("conflict"), ids=_id)
def test_conflict_is_pure(module: Path) -> None:
    """The decisions need the standard library only, and none of it that does I/O or tells time."""
    impure = {"asyncio", "io", "logging", "os", "random", "socket", "subprocess", "threading"}
    allowed = (sys.stdlib_module_names | {"conflict"}) - impure - {"pathlib", "time", "datetime"}

    assert set(_imported(module)) <= allowed


@pytest.mark.parametrize("module", _modules("replicator"), ids=_id)
def test_one_package_talks_to_aws(module: Path) -> None:
    """No module but the AWS edge imports a library that does, and none imports the tests."""
    if module.parent != AWS_EDGE:
        assert not set(_imported(module)) & {"boto3", "botocore"}
    assert not set(_imported(module)) & {"tests", "support", "simulation", "moto"}


@pytest.mark.parametrize("module", [*_modules("conflict"), *_modules("replicator")], ids=_id)
def test_every_module_says_what_it_is(module: Path) -> None:
    """A module begins with the idea behind it."""
    assert ast.get_docstring(ast.parse(module.read_text()))
