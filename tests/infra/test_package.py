"""The function's package: whole in itself, the same each time, and only what it says."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
ARCH = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""This one, so that the package can be run here; the templates' may be another."""

UNREACHABLE = ("Failed to establish a new connection", "Temporary failure in name resolution")

WHOLE = """
import sys
sys.path[:0] = [sys.argv[1]]
from replicator.lambda_handler import Function
function = Function.of({
    "AWS_REGION": "us-east-1",
    "REPLICATOR_REGIONS": '{"us-east-1": {}, "eu-west-1": {}}',
    "REPLICATOR_TABLES": '{"orders": {"source": "us-east-1", "targets": ["eu-west-1"]}}',
})
try:
    function.handle({}, None)
except Exception as error:
    print(error)
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
print(sum("site-packages" in file for file in files))
"""


@pytest.fixture(scope="module")
def package() -> ModuleType:
    """infra/package.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("package", ROOT / "infra" / "package.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(package: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for this machine's architecture."""
    try:
        made: Path = package.build(ARCH, tmp_path_factory.mktemp("built"), python=PYTHON)
    except SystemExit as error:
        if any(words in str(error) for words in UNREACHABLE):
            pytest.skip("engine unavailable: no package index can be reached")
        raise
    return made


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("package")
def test_the_package_runs_by_itself(built: Path, tmp_path: Path) -> None:
    """Nothing but it and the standard library: regions are opened, an event is judged."""
    with zipfile.ZipFile(built) as opened:
        opened.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-IS", "-c", WHOLE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, from_elsewhere = done.stdout.splitlines()
    assert said.startswith("event: has no list of Records")
    assert from_elsewhere == "0"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("package")
def test_the_package_is_the_same_each_time(
    package: ModuleType, built: Path, tmp_path: Path
) -> None:
    """Made anew in another place, it is the same to the byte; no path of this machine is in it."""
    again: Path = package.build(ARCH, tmp_path, python=PYTHON)
    assert again.read_bytes() == built.read_bytes()
    with zipfile.ZipFile(built) as opened:
        for name in opened.namelist():
            assert not name.endswith(("RECORD", "direct_url.json", "INSTALLER"))
            if name.startswith(("replicator", "conflict")):
                assert str(ROOT).encode() not in opened.read(name)


def test_the_package_is_for_the_python_of_the_templates(package: ModuleType) -> None:
    """Compiled libraries of another version could not be imported there."""
    templates = (ROOT / "infra" / "definition.py").read_text()
    assert f'RUNTIME = "python{package.templates_python()}"' in templates


def test_what_the_function_needs_is_what_the_project_states(package: ModuleType) -> None:
    """All but the console's libraries, and every one of them has its version in the lock."""
    locked = package.LOCK.read_text()
    needed = package.needed()
    assert any(line.startswith("botocore") for line in needed)
    assert not any(line.startswith(tuple(package.CONSOLE)) for line in needed)
    for line in needed:
        name = line.partition(">")[0]
        assert f"\n{name}==" in locked, f"{name} is not locked; run infra/package.py --lock"


def test_the_functions_libraries_are_held_by_hash(package: ModuleType) -> None:
    """They are those of the whole lock, which is what `make audit` looks up, to the letter."""
    whole, of_function = package.entries(package.WHOLE_LOCK), package.entries(package.LOCK)
    assert len(of_function) > 10
    for name, (version, text) in of_function.items():
        assert "--hash=sha256:" in text, name
        assert (version, text) == whole[name]


def test_the_function_imports_nothing_of_the_console(package: ModuleType) -> None:
    """What is left out of the package is not asked for at its start."""
    code = "import sys, replicator.lambda_handler; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    left_out = {name.partition("-")[0] for name in package.CONSOLE}
    assert not left_out & set(done.stdout.split())


def test_the_image_runs_as_nobody_in_particular() -> None:
    """No tag that moves between Python versions, no root, a drain on SIGTERM, a health check."""
    lines = (ROOT / "infra" / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert all(":" in base and "latest" not in base for base in bases)
    assert len(set(bases)) == 1
    assert "USER 10001:10001" in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert any(line.startswith('ENTRYPOINT ["') for line in lines)
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--" not in line]
    assert all((ROOT / name).exists() for names in copied for name in names)
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    assert all(f"!{name}" in let_through for names in copied for name in names)


def test_the_image_holds_what_is_locked() -> None:
    """By hash; the product itself brings nothing along."""
    lines = (ROOT / "infra" / "Dockerfile").read_text().splitlines()
    installs = [line.split() for line in lines if line.startswith("RUN python -m pip install")]
    of_lock, of_product = installs
    assert of_lock[-3:] == ["--require-hashes", "-r", "requirements.lock"]
    assert of_product[-2:] == ["--no-deps", "."]
