"""What stands for docker and its registries where runbooks are run: images, as files.

An image holds a release and, where it was put in, a configuration. It is known by its digest in the
repository that it was pushed to, and what a service runs with is what its image holds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

ACCOUNT = "123456789012"
RELEASE = "release"
"""The file that stands for the version that is checked out."""


class NotPulled(Exception):
    """ECS refuses, in words like its own."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What a service of this image runs, and with what configuration."""

    release: str
    configuration: str | None = None

    @property
    def digest(self) -> str:
        """The same for the same content."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def repository(region: str) -> str:
    """Each region has its own, so that none needs another to start a service."""
    return f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com/replicator"


@dataclass(frozen=True)
class Images:
    """All images, below a directory: by tag those of the operator's machine, by digest the others.

    The methods are docker's.
    """

    directory: Path

    def tag(self, tag: str, image: Image) -> None:
        """Have it on the operator's machine by this name."""
        self._write(self._local(tag), image)

    def tagged(self, tag: str) -> Image:
        """What was built under this name."""
        return self._read(self._local(tag))

    def push(self, tag: str) -> str:
        """Bring it to the repository that the tag names; what it is called there."""
        image = self.tagged(tag)
        name = tag.rpartition("/")[2].partition(":")[0]
        pushed = f"{tag.rpartition('/')[0]}/{name}@{image.digest}"
        self._write(self._remote(pushed), image)
        return pushed

    def pushed(self, image: Image) -> list[str]:
        """Every name that it has in a repository."""
        found = self.directory.glob(f"remote/*{image.digest}.json")
        return sorted(path.stem.replace("\\", "/") for path in found)

    def pull(self, reference: str, region: str) -> Image:
        """What a task in a region gets.

        Raises: NotPulled where the region's repository has no such image.
        """
        path = self._remote(reference)
        if not reference.startswith(f"{repository(region)}@") or not path.exists():
            raise NotPulled(f"CannotPullContainerError: {reference} in {region}: not found")
        return self._read(path)

    def _local(self, tag: str) -> Path:
        return self.directory / "local" / f"{_file_name(tag)}.json"

    def _remote(self, reference: str) -> Path:
        return self.directory / "remote" / f"{_file_name(reference)}.json"

    def _write(self, path: Path, image: Image) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(image)), encoding="utf-8")

    def _read(self, path: Path) -> Image:
        return Image(**json.loads(path.read_text(encoding="utf-8")))


def _file_name(reference: str) -> str:
    return reference.replace("/", "\\")
