"""The function's package: `make package`, or `python infra/package.py [--config FILE] [--arch …]`.

One zip per architecture of AWS Lambda: the product, the libraries that the function imports, and
their compiled bytecode, since /var/task is read-only and would be compiled anew at each cold start.
Libraries come as wheels for that platform, those of infra/lambda.lock by version and hash; nothing
is built.

The same sources, lock and Python give the same bytes: files are sorted and carry one date and one
mode, bytecode is checked against no clock, and what pip notes of the machine is left out. Bytecode
is compiled by the Python of the function's runtime, which is looked for on this machine; without it
the package is sound, and each cold start takes a second or so longer.

    --python  the version of the function's runtime, that of the templates if left out
    --config  the replicator.toml to be put in; without it the environment states everything
    --lock    write infra/lambda.lock anew: what the function needs of requirements.lock
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "infra" / "lambda.lock"
WHOLE_LOCK = ROOT / "requirements.lock"
SOURCES = ("conflict", "replicator")
PLATFORMS = {"arm64": "manylinux2014_aarch64", "x86_64": "manylinux2014_x86_64"}

CONSOLE = frozenset({"starlette", "uvicorn", "rich", "opentelemetry-sdk"})
"""What only the process needs, for its page, its commands and the metrics that it pushes."""

SERVICES = frozenset({"dynamodb", "dynamodbstreams", "sts", "sso", "sso-oidc", "signin"})
"""Of botocore's service descriptions, 25 MB of all of AWS, those that are called: DynamoDB's, and
what credentials may come from."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip can state."""

_LEFT_OUT = re.compile(
    r"(^|/)(RECORD|INSTALLER|REQUESTED|direct_url\.json)$|^bin/|\.pyi$|(^|/)(tests?|docs)/.*\.(?!py)"
)
_ENTRY = re.compile(
    r"^([a-z0-9.-]+)==([0-9A-Za-z.]+)[^\n]*(?:\n    --hash=\S+[^\n]*)*", re.MULTILINE
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the packages and print what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--arch", choices=PLATFORMS, action="append", help="both if left out")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--config", type=Path, help="the replicator.toml to be put in")
    parser.add_argument("--python", default=templates_python(), help="such as 3.12")
    parser.add_argument("--lock", action="store_true", help="write infra/lambda.lock anew")
    parsed = parser.parse_args(arguments)
    if parsed.config is not None and not parsed.config.is_file():
        parser.error(f"{parsed.config}: not found; name the replicator.toml to be put in")
    if re.fullmatch(r"3\.[0-9]+", parsed.python) is None:
        parser.error(f"--python {parsed.python}: is no version of Python; give one such as 3.12")
    if parsed.lock:
        lock(parsed.python)
    for arch in parsed.arch or PLATFORMS:
        made = build(arch, parsed.out, python=parsed.python, config=parsed.config)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        sys.stdout.write(f"{made}  {made.stat().st_size / 1e6:.1f} MB  sha256 {digest}\n")
    runtime = f"runtime python{parsed.python}, handler replicator.lambda_handler.handler"
    without = "" if compiler(parsed.python) else f"; no bytecode: python{parsed.python} is not here"
    sys.stdout.write(f"{runtime}{without}\n")
    return 0


def needed() -> list[str]:
    """The product's dependencies without those of the console, as pyproject.toml states them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {
        line: re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in project["dependencies"]
    }
    return [line for line, name in names.items() if name not in CONSOLE]


def templates_python() -> str:
    """The version of Python that the templates deploy the package under."""
    text = (ROOT / "infra" / "definition.py").read_text()
    match = re.search(r'^RUNTIME = "python(?P<version>3\.[0-9]+)"$', text, re.MULTILINE)
    assert match is not None
    return match["version"]


@cache
def compiler(python: str) -> str | None:
    """An interpreter of this version, None where there is none that runs."""
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{python}")
    if found is None:
        return None
    command = [found, "-IS", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    said = subprocess.run(  # noqa: S603 - a command of our own
        command, capture_output=True, text=True, check=False
    )
    return found if said.stdout.strip() == python else None


def build(arch: str, out: Path, *, python: str, config: Path | None = None) -> Path:
    """One package; returns where it is. Raises: SystemExit with one line."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        _install(PLATFORMS[arch], tree, python, *_by_hash())
        for source in SOURCES:
            shutil.copytree(ROOT / source, tree / source, ignore=_no_bytecode)
        if config is not None:
            shutil.copyfile(config, tree / "replicator.toml")
        _prune(tree)
        _compile(tree, python)
        return _zip(tree, out / f"replicator-lambda-{arch}.zip")


def lock(python: str) -> None:
    """Write what of the whole lock an installation of the function's libraries takes, with the
    hashes of all platforms."""
    whole = entries(WHOLE_LOCK)
    taken: set[str] = set()
    for platform in PLATFORMS.values():
        with tempfile.TemporaryDirectory() as directory:
            tree, versions = Path(directory, "tree"), Path(directory, "versions")
            versions.write_text("".join(f"{n}=={version}\n" for n, (version, _) in whole.items()))
            _install(platform, tree, python, "--constraint", str(versions), *needed())
            taken |= set(_names(tree))
    if not taken <= set(whole):
        raise SystemExit(f"package: not in {WHOLE_LOCK.name}: {sorted(taken - set(whole))}")
    lines = [text for name, (_, text) in sorted(whole.items()) if name in taken]
    LOCK.write_text("# Written by `python infra/package.py --lock`.\n" + "\n".join(lines) + "\n")


def entries(locked: Path) -> dict[str, tuple[str, str]]:
    """The version of each package in a lock, and its whole entry."""
    text = locked.read_text(encoding="utf-8")
    return {found[1]: (found[2], found[0]) for found in _ENTRY.finditer(text)}


def _by_hash() -> list[str]:
    """Raises: SystemExit where the lock lacks what the function needs."""
    names = {re.split(r"[^a-z0-9._-]", line.lower())[0] for line in needed()}
    missing = names - set(entries(LOCK))
    if missing:
        raise SystemExit(f"package: not in {LOCK.name}: {sorted(missing)}; use --lock")
    return ["--require-hashes", "--no-deps", "--requirement", str(LOCK)]


def _install(platform: str, tree: Path, python: str, *what: str) -> None:
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--target", str(tree), "--platform", platform, "--only-binary=:all:"),
        *("--implementation", "cp", "--python-version", python, "--no-compile", "--upgrade"),
        *what,
    ]
    done = subprocess.run(  # noqa: S603 - a command of our own
        command, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"package: pip could not install for {platform}: {done.stderr.strip()}")


def _names(tree: Path) -> Iterator[str]:
    for metadata in sorted(tree.glob("*.dist-info/METADATA")):
        head = metadata.read_text(encoding="utf-8").partition("\n\n")[0]
        (name,) = re.findall(r"^Name: (.+)$", head, re.MULTILINE)
        yield re.sub(r"[-_.]+", "-", name).lower()


def _no_bytecode(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.endswith(".pyc")}


def _prune(tree: Path) -> None:
    data = tree / "botocore" / "data"
    for entry in data.iterdir():
        if entry.is_dir() and entry.name not in SERVICES:
            shutil.rmtree(entry)
    for path in sorted(tree.rglob("*")):
        if path.is_file() and _LEFT_OUT.search(path.relative_to(tree).as_posix()):
            path.unlink()


def _compile(tree: Path, python: str) -> None:
    """In the name of the place where the package is unpacked, so that no path of ours is in it."""
    found = compiler(python)
    if found is None:
        return
    places = ("-s", str(tree), "-p", "/var/task")
    mode = ("--invalidation-mode", "unchecked-hash")
    command = [found, "-IS", "-m", "compileall", "-qq", "-j1", *places, *mode, str(tree)]
    # What does not compile is no module of ours: some libraries carry examples for other versions.
    subprocess.run(command, check=False)  # noqa: S603 - a command of our own


def _zip(tree: Path, path: Path) -> Path:
    files = sorted(found for found in tree.rglob("*") if found.is_file())
    with zipfile.ZipFile(path, "w") as package:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(tree).as_posix(), EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            package.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
