"""A full disk ends a run with a line, a damaged checkpoint is not used, and the same bits come out."""

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from forked_runs import KINDS, SMALL, findings, finish, kill_at, run_folder

KIBIBYTES = 2048


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two mebibytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={KIBIBYTES}k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here: that takes root on Linux")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def said(folder: Path) -> list[str]:
    """What was said but for warnings of libraries."""
    lines = (folder / "said.txt").read_text().splitlines()
    return [line for line in lines if "site-packages" not in line]


# Room for nothing; for the first small files; for one checkpoint; for two; for all but TensorBoard's.
@pytest.mark.parametrize(
    ("free", "logger"),
    [
        *((0, "none"), (80, "none"), (40, "tensorboard")),
        *(pytest.param(free, "none", marks=pytest.mark.slow) for free in (16, 160)),
    ],
)
def test_a_full_disk(free: int, logger: str, small_disk: Path, tmp_path: Path, undisturbed) -> None:
    run = (*SMALL, *KINDS["start"], f"logger={logger}")
    (tmp_path / "outputs").symlink_to(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((KIBIBYTES - free) * 1024))
    assert finish(tmp_path, *run) == 1
    (line,) = said(tmp_path)
    assert line.startswith("output_dir=")
    assert "no space left" in line
    assert not list(small_disk.rglob("*.partial"))
    ballast.unlink()
    assert finish(tmp_path, *run) == 0
    assert findings(tmp_path) == undisturbed(*KINDS["start"])


DAMAGES = {
    "cut": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "holed": lambda whole: whole[:8192] + bytes(4096) + whole[12288:],
}


@pytest.mark.parametrize(
    ("damage", "files"),
    [
        *(("cut", ("last",)), ("holed", ("last",)), ("cut", ("last", "best"))),
        pytest.param("empty", ("last",), marks=pytest.mark.slow),
    ],
)
def test_a_damaged_checkpoint(damage: str, files: tuple[str, ...], tmp_path: Path, undisturbed) -> None:
    """The best one is gone on from instead, or the run begins anew."""
    run = (*SMALL, *KINDS["rounds"])
    kill = partial(kill_at, "prunelit.training.module.Classifier.training_step", 60)
    finish(tmp_path, *run, patch=kill)
    for name in files:
        path = run_folder(tmp_path) / "checkpoints" / f"{name}.ckpt"
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert finish(tmp_path, *run) == 0
    warnings = [line for line in said(tmp_path) if line.startswith("warning:")]
    assert len(warnings) == len(files)
    assert all("damaged" in line for line in warnings)
    assert findings(tmp_path) == undisturbed(*KINDS["rounds"])
