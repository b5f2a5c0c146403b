"""Check that the files of a complete run are those that it wrote, by size and on request by SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from prunelit.durable import write_atomically
from prunelit.study import bounded

MANIFEST = "files.json"
"""Size and SHA-256 of each file of a complete run, by its path in the run's folder."""
CHECKPOINTS = "checkpoints"


class DamagedRun(RuntimeError):
    """A file of a complete run is not what the run wrote; the one-line message says what to do."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"damaged: {folder}: {why} (rerun=true repeats the run and moves this folder to .previous/)"
        )
        self.folder, self.why = folder, why

    def __reduce__(self) -> tuple[type[DamagedRun], tuple[Path, str]]:
        """Pickle by the two arguments."""
        return type(self), (self.folder, self.why)


def describe(files: Iterable[Path], folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of each of ``files``, by its path below ``folder``."""
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(files)
    }


def describe_bytes(content: bytes) -> dict[str, Any]:
    """Return size and SHA-256 of the future contents of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_manifest(
    folder: Path, files: Mapping[str, Mapping[str, Any]], inputs: Mapping[str, Any] | None = None
) -> None:
    """Write ``files.json``: the files of a run, and its inputs."""
    content = {"files": files} | ({"inputs": inputs} if inputs else {})
    write_atomically(folder / MANIFEST, json.dumps(content, indent=1) + "\n")


def damaged_files(folder: Path, digests: bool = False, only: Collection[str] = ()) -> list[str]:
    """Return one phrase for each file that is not what the run in ``folder`` wrote; empty if all are.

    Runs of versions that wrote no ``files.json`` are not checked. A folder of checkpoints may have been
    removed as a whole.

    Args:
        folder: the folder of a complete run.
        digests: also read the files and compare their SHA-256.
        only: paths of the files to check; empty: all files that the run wrote.
    """
    try:
        files = bounded.read_object(folder / MANIFEST).get("files")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        return [f"{MANIFEST} cannot be used: {error}"]
    if not isinstance(files, dict):
        return [f"{MANIFEST} lists no files"]
    has_checkpoints = (folder / CHECKPOINTS).exists()
    found = []
    for name, expected in files.items():
        if only and name not in only:
            continue
        if not has_checkpoints and name.startswith(f"{CHECKPOINTS}/"):
            continue
        why = _difference(folder / name, expected, digests)
        if why:
            found.append(f"{name} {why}")
    return found


def _difference(path: Path, expected: Any, digests: bool) -> str:
    """Return how a file differs from what the run wrote; empty if it does not."""
    if not isinstance(expected, dict):
        return f"is not described in {MANIFEST}"
    try:
        size = path.stat().st_size
        if not path.is_file():
            return "is not a file"
        if size != expected.get("bytes"):
            return f"has {size:,} bytes, not the {expected.get('bytes'):,} that the run wrote"
        if digests and sha256(path) != expected.get("sha256"):
            return "has other contents than the run wrote (its SHA-256 differs)"
    except FileNotFoundError:
        return "is missing"
    except (OSError, TypeError, ValueError) as error:
        return f"cannot be read ({error})"
    return ""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
