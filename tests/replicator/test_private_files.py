"""Files with keys, items or tokens: their owner's alone, and one line where they are not to be."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replicator.errors import ConfigurationError
from replicator.private_files import check, opened, write


@pytest.fixture(autouse=True)
def _usual_mask() -> Iterator[None]:
    """Let new files be everybody's to read, as on most machines."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    """Tell who may read and write."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Whatever the mask leaves to others."""
    path = tmp_path / "keys"
    write(path, "clear\n", option="--keys")
    assert (path.read_text(), mode_of(path)) == ("clear\n", 0o600)


def test_a_file_of_a_former_run_is_emptied_and_tightened(tmp_path: Path) -> None:
    """It may be from a version that left it open to all."""
    path = tmp_path / "keys"
    path.write_text("what was there before\n")
    path.chmod(0o644)
    with opened(path, option="--keys") as file:
        file.write("new\n")
    assert (path.read_text(), mode_of(path)) == ("new\n", 0o600)


def test_a_file_that_others_have_to_read_keeps_its_mode(tmp_path: Path) -> None:
    """A configuration is written by the operator and read by the service."""
    path = tmp_path / "replicator.toml"
    path.touch(0o640)
    write(path, "new\n", option="--write", tighten=False)
    assert (path.read_text(), mode_of(path)) == ("new\n", 0o640)


def test_a_disk_that_is_full_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`failover --write` may be told to write over the only configuration."""
    path = tmp_path / "replicator.toml"
    path.write_text("old\n")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match=r"^--write: .* No space left on device"):
        write(path, "new\n", option="--write", tighten=False)
    assert path.read_text() == "old\n"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_that_is_write_protected_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That its folder is not is no leave; to root, who runs tests too, nothing is protected."""
    path = tmp_path / "keep"
    path.write_text("kept\n")

    def protected(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", protected)
        with pytest.raises(ConfigurationError, match="Permission denied"):
            write(path, "new\n", option="--export")
    assert path.read_text() == "kept\n"


def test_a_link_goes_on_to_name_the_file(tmp_path: Path) -> None:
    """Configurations are often linked to from where a service looks for them."""
    path, link = tmp_path / "real", tmp_path / "link"
    path.touch()
    link.symlink_to(path)
    write(link, "new\n", option="--write", tighten=False)
    assert (path.read_text(), link.is_symlink()) == ("new\n", True)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EBUSY, errno.EROFS])
def test_a_file_that_cannot_be_replaced_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Its folder is closed to who may write the file, as in /etc, or it is a mount of its own."""
    path = tmp_path / "replicator.toml"
    path.touch(0o660)

    def closed(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkstemp", closed)
    write(path, "new\n", option="--write", tighten=False)
    assert path.read_text() == "new\n"


def test_what_is_no_file_keeps_its_mode(tmp_path: Path) -> None:
    """`--report /dev/null`, as root, must not take it from everybody else."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o622)
    pipe.chmod(0o622)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with opened(pipe, option="--report"):
        assert mode_of(pipe) == 0o622
    os.close(reader)


def test_a_check_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """A file that is there keeps its content and mode, and none comes to be; a pipe is not opened,
    which would wait for its reader."""
    there, new, pipe = (tmp_path / name for name in ("there", "new", "pipe"))
    there.write_text("kept\n")
    os.mkfifo(pipe)
    for path in (there, new, pipe):
        check(path, option="--write")
    assert (there.read_text(), mode_of(there)) == ("kept\n", 0o644)
    assert not new.exists()


@pytest.mark.parametrize(
    "attempt",
    [check, opened, lambda path, option: write(path, "clear\n", option=option)],
    ids=["check", "opened", "write"],
)
@pytest.mark.parametrize(
    ("place", "reason"), [("no/where", "No such file or directory"), (".", "Is a directory")]
)
def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, attempt: Callable[..., object], place: str, reason: str
) -> None:
    """It names the option, the path and the remedy."""
    path = tmp_path / place
    with pytest.raises(ConfigurationError) as raised:
        attempt(path, option="--keys")
    assert str(raised.value) == f"--keys: {path}: not written: {reason}; name another file"


def test_a_disk_that_is_full_is_one_line_whenever_it_shows() -> None:
    """While more is written than a buffer holds; and as the rest goes out at the end."""
    path = Path("/dev/full")
    for text in ("short\n", "long\n" * 100_000):
        with pytest.raises(ConfigurationError) as raised:  # noqa: SIM117 - the end of `with` too
            with opened(path, option="--report") as file:
                file.write(text)
        assert str(raised.value) == (
            "--report: /dev/full: not written: No space left on device; name another file"
        )
