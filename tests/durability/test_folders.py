"""A folder that vanishes in mid-run ends the run with one line; a complete run writes nothing."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from forked_runs import KINDS, SMALL, damage_in_the_second_epoch, findings, finish, kill_at, run_folder

RUN = (*SMALL, *KINDS["start"])


def lines_said(folder: Path) -> list[str]:
    """What was said but for warnings of libraries."""
    lines = (folder / "said.txt").read_text().splitlines()
    return [line for line in lines if line and "site-packages" not in line]


@pytest.mark.parametrize("damage", ["removed", "a file in its place", "a folder in place of the metrics"])
def test_a_folder_that_goes_in_mid_run_is_one_line(damage: str, tmp_path: Path) -> None:
    patch = partial(damage_in_the_second_epoch, damage, tmp_path)
    assert finish(tmp_path, *RUN, patch=patch) == 1
    (line,) = lines_said(tmp_path)
    assert line.startswith(f"output_dir={tmp_path}")


def test_a_run_whose_folder_was_removed_starts_again(tmp_path: Path, undisturbed) -> None:
    finish(tmp_path, *RUN, patch=partial(damage_in_the_second_epoch, "removed", tmp_path))
    assert finish(tmp_path, *RUN) == 0
    assert findings(tmp_path) == undisturbed(*KINDS["start"])


def test_a_run_that_goes_on_says_from_which_epoch(tmp_path: Path) -> None:
    finish(tmp_path, *RUN, patch=partial(kill_at, "prunelit.training.module.Classifier.training_step", 60))
    assert finish(tmp_path, *RUN) == 0
    (line,) = [line for line in lines_said(tmp_path) if line.startswith("resumed:")]
    assert line == f"resumed: {run_folder(tmp_path)} in epoch 3 of 3"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own below ``outputs``."""
    place = tmp_path / "outputs"
    place.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here: that takes root on Linux")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_complete_run_on_a_read_only_disk_is_complete_already(disk: Path) -> None:
    """By the real command line: Hydra opens the log and writes the config before the run begins."""
    small = ("pruner=rand", "epochs=0", "logger=none")
    command = [sys.executable, "-m", "prunelit.train"]
    assert finish(disk.parent, *small) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    again = subprocess.run([*command, *small], cwd=disk.parent, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("complete already: outputs/default/")
    other = subprocess.run([*command, *small, "rerun=true"], cwd=disk.parent, capture_output=True, text=True)
    assert other.returncode == 2
    (line,) = other.stderr.splitlines()
    assert line.startswith("output_dir=")
    assert "Read-only" in line
