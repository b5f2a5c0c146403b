"""The inputs of a run (images, weights, masks of another run), and whether they have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from prunelit.image_files import Kind, entries_below, printable
from prunelit.study import bounded
from prunelit.study.integrity import MANIFEST, DamagedRun

KEY = "inputs"
"""The key of ``files.json`` that describes the inputs."""
MOST_BYTES = 256 * 2**20
"""Folders up to this size are compared by contents, larger ones by names and sizes."""

Description = dict[str, Any]


class ChangedInputs(DamagedRun):
    """The inputs of a complete run have changed; the message is one line."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(folder, why)
        self.args = (
            f"changed: {folder} is a run on other inputs: {why} "
            "(rerun=true repeats it with these, and moves this folder to .previous/)",
        )


class Contents:
    """The images in a folder, or one file of any kind, as found once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def files(self) -> list[tuple[str, int, int]]:
        """Relative path, size and modification time (ns) of each file, sorted; empty if there is none."""
        try:
            if self.path.is_dir():
                found = [entry for entry, kind in entries_below(self.path) if kind is Kind.IMAGE]
                return sorted((os.path.relpath(entry.path, self.path), *_stat(entry)) for entry in found)
            return [("", *_stat(self.path))] if self.path.is_file() else []
        except OSError:
            return []  # treated as missing

    @cached_property
    def names(self) -> str:
        """SHA-256 of paths and sizes."""
        return _digest(os.fsencode(f"{name}\0{size}\n") for name, size, _ in self.files)

    @cached_property
    def times(self) -> str:
        """SHA-256 of paths and modification times."""
        return _digest(os.fsencode(f"{name}\0{time}\n") for name, _, time in self.files)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(size for _, size, _ in self.files)

    @cached_property
    def sha256(self) -> str | None:
        """SHA-256 of the contents of all files in their order, None for large folders."""
        if self.bytes > MOST_BYTES and self.path.is_dir():
            return None
        try:
            return _digest(_blocks(self.path / name if name else self.path for name, _, _ in self.files))
        except OSError:
            return None

    @property
    def classes(self) -> dict[str, list[int]]:
        """Number of images and bytes in each folder directly below."""
        found: dict[str, list[int]] = {}
        for name, size, _ in self.files:
            if os.sep in name:
                counts = found.setdefault(printable(name.partition(os.sep)[0]), [0, 0])
                counts[0], counts[1] = counts[0] + 1, counts[1] + size
        return found

    def describe(self) -> Description:
        """Return the description for ``files.json``."""
        return {
            "files": len(self.files),
            "bytes": self.bytes,
            "classes": self.classes,
            "names": self.names,
            "times": self.times,
            "sha256": self.sha256,
        }

    def difference(self, before: Description) -> str:
        """Return what differs from an earlier description; empty if nothing does, or if the files do not
        exist."""
        if not self.files:
            return ""
        if self.names == before["names"]:
            same = self.times == before["times"] or not before["sha256"] or not self.sha256
            return "" if same or self.sha256 == before["sha256"] else "has other contents"
        if self.path.is_file():
            return f"has {self.bytes:,} bytes, not {before['bytes']:,}"
        return self._difference_of_classes(before["classes"]) or (
            f"has {len(self.files):,} images, not {before['files']:,}"
            if len(self.files) != before["files"]
            else "has images of other names or sizes"
        )

    def _difference_of_classes(self, before: Mapping[str, list[int]]) -> str:
        now = self.classes
        for names, what in ((set(now) - set(before), "new"), (set(before) - set(now), "no longer there")):
            if names:
                return f"class {min(names)} is {what}"
        for name in sorted(now):
            if now[name][0] != before[name][0]:
                return f"class {name} has {now[name][0]:,} images, not {before[name][0]:,}"
        changed = [name for name in sorted(now) if now[name] != before[name]]
        return f"class {changed[0]} has images of other sizes" if changed else ""


class Inputs:
    """Compares runs with their inputs; an instance reads each file and folder once."""

    def __init__(self) -> None:
        self._seen: dict[Path, Contents] = {}

    def contents(self, path: Path) -> Contents:
        """Return the present contents of a path."""
        return self._seen.setdefault(path, Contents(path))

    def check(self, folder: Path) -> None:
        """Compare the inputs of the complete run in ``folder`` with the present files.

        Runs of versions that recorded no inputs are not checked, nor are inputs that no longer exist.

        Raises:
            ChangedInputs: the inputs differ; names the first difference.
        """
        try:
            inputs = bounded.read_object(folder / MANIFEST).get(KEY, {})
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise DamagedRun(folder, f"{MANIFEST} cannot be used: {error}") from error
        try:
            differences = [self._difference(key, entry) for key, entry in inputs.items()]
        except (AttributeError, KeyError, TypeError, ValueError, IndexError):
            raise DamagedRun(folder, f"{MANIFEST} does not describe what the run read") from None
        for why in filter(None, differences):
            raise ChangedInputs(folder, why)

    def _difference(self, key: str, entry: Mapping[str, Any]) -> str:
        for name, before in entry["parts"].items():
            place = _place(entry["root"])
            if why := self.contents(place / name).difference(before):
                part = "" if name == "." else f"{printable(name)} "
                return f"{key}={printable(entry['given'])}: {part}{why}"
        return ""


def read_by(cfg: DictConfig, data: Any) -> dict[str, Any]:
    """Describe the images and weights that the run of ``cfg`` reads, as far as they exist.

    Args:
        cfg: the config of the run.
        data: its data module; without a method ``inputs``, or without files, there is no description.
    """
    masks = weights_of(cfg.pruner.densities_from or None)
    given = {"checkpoint": weights_of(cfg.checkpoint), "pruner.densities_from": masks}
    if hasattr(data, "inputs") and (paths := data.inputs()):
        given["data.root"] = str(cfg.data.root), Path(str(cfg.data.root)), paths
    return describe({key: entry for key, entry in given.items() if entry})


def describe(given: Mapping[str, tuple[str, Path, Iterable[Path]]]) -> dict[str, Any]:
    """Return the description of a run's inputs for ``files.json``.

    Args:
        given: for each config key its value, the folder that it means, and what is read below that folder.
    """
    found = {}
    for key, (value, root, paths) in given.items():
        parts = {
            os.path.relpath(path, _place(root)): contents.describe()
            for path in paths
            if (contents := Contents(Path(path))).files
        }
        if parts:
            found[key] = {"given": value, "root": str(root), "parts": parts}
    return found


def weights_of(path: str | None, name: str = "masks.safetensors") -> tuple[str, Path, list[Path]] | None:
    """Return a file of weights or masks, and the masks in the same folder, in the form that :func:`describe`
    expects."""
    if path is None:
        return None
    file = Path(path) / name if Path(path).is_dir() else Path(path)
    beside = [file.with_name(name)] if file.suffix == ".safetensors" and file.name != name else []
    return path, file.parent, [file, *beside]


def _place(root: str | Path) -> Path:
    return Path(root).expanduser().absolute()


def _stat(entry: os.DirEntry[str] | Path) -> tuple[int, int]:
    found = entry.stat()
    return found.st_size, found.st_mtime_ns


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _blocks(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                yield block
