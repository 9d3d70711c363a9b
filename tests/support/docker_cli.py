"""As much of docker's command line as runbooks use: `docker OPERATION …`.

Nothing is built. An image is what a service would find in it (runbook_images.py), below $IMAGES.
"""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
from pathlib import Path

from support.runbook_images import RELEASE, Image, Images

PLATFORM = "linux/arm64"
"""What the task's definition asks for."""

OWNER = "--chown=10001:10001"
"""Whom the image runs as: infra/Dockerfile."""


def main(arguments: list[str]) -> int:
    """Do what was asked for."""
    images = Images(Path(os.environ["IMAGES"]))
    parser = argparse.ArgumentParser(allow_abbrev=False)
    operations = parser.add_subparsers(dest="operation", required=True)
    build = operations.add_parser("build")
    for option in ("--platform", "--tag"):
        build.add_argument(option, required=True)
    build.add_argument("--quiet", action="store_true", required=True)
    build.add_argument("--file", default="")
    build.add_argument("context", type=Path)
    login = operations.add_parser("login")
    login.add_argument("--username", choices=["AWS"], required=True)
    login.add_argument("--password-stdin", action="store_true", required=True)
    login.add_argument("registry")
    push = operations.add_parser("push")
    push.add_argument("--quiet", action="store_true", required=True)
    push.add_argument("tag")
    inspect = operations.add_parser("inspect")
    inspect.add_argument("--format", choices=["{{range .RepoDigests}}{{println .}}{{end}}"])
    inspect.add_argument("tag")
    parsed = parser.parse_args(arguments)
    match parsed.operation:
        case "build":
            assert parsed.platform == PLATFORM
            made = _built(images, parsed.file, parsed.context)
            images.tag(parsed.tag, made)
            sys.stdout.write(f"{made.digest}\n")
        case "login":
            assert sys.stdin.read() == "password\n"
        case "push":
            images.push(parsed.tag)
            sys.stdout.write(f"{parsed.tag}\n")
        case "inspect":
            names = images.pushed(images.tagged(parsed.tag))
            sys.stdout.write("".join(f"{name}\n" for name in names))
    return 0


def _built(images: Images, file: str, context: Path) -> Image:
    """The version that is checked out, or an image with a configuration put in."""
    if file:
        assert file == "infra/Dockerfile"
        return Image(release=(context / RELEASE).read_text(encoding="utf-8"))
    said = (context / "Dockerfile").read_text(encoding="utf-8")
    lines = re.fullmatch(r"FROM (\S+)\nCOPY (\S+ )?(\S+) /etc/replicator/\n", said)
    assert lines is not None, said
    base, option, name = lines.groups("")
    configuration = context / name
    readable = bool(configuration.stat().st_mode & stat.S_IROTH) or option.strip() == OWNER
    assert readable, f"{name}: the service may not read what its owner alone may"
    text = configuration.read_text(encoding="utf-8")
    return Image(release=images.tagged(base).release, configuration=text)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
