"""The order in which infra/README.md has the stacks deployed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from replicator.configuration import load

INFRA = Path(__file__).parents[2] / "infra"
README = INFRA / "README.md"
REGIONS = load(INFRA / "example" / "replicator.toml", {}).regions

AWS = """#!/bin/sh
# Stands once the stacks of all regions have been started, as a service does.
region=$(printf '%s' "$*" | sed 's/.*--region \\([^ ]*\\).*/\\1/')
touch "started-$region"
for _ in $(seq 100); do
  [ "$(ls started-* | wc -l)" -eq REGIONS ] && { touch "stands-$region"; exit 0; }
  sleep 0.05
done
"""
"""In the place of the program, in the directory where it is called."""


def test_the_stacks_of_all_regions_are_started_at_once(tmp_path: Path) -> None:
    """A service does not start before the other regions' control tables are there: the first of
    several stacks that are deployed one after the other is taken back. The page's commands."""
    readme = README.read_text(encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(.*?)```", readme.partition("**Order.**")[2], re.DOTALL)
    aws = tmp_path / "aws"
    aws.write_text(AWS.replace("REGIONS", str(len(REGIONS))))
    aws.chmod(0o700)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["/bin/bash", "-c", commands], cwd=tmp_path, env=path, timeout=60, check=True)
    assert {place.name for place in tmp_path.glob("stands-*")} == {f"stands-{r}" for r in REGIONS}
