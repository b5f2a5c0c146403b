"""A cache of decoded images in the folder of the data, mapped into memory and safe for concurrent runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock

from prunelit.durable import fsync_folder, write_atomically
from prunelit.image_files import CACHE as FOLDER
from prunelit.training.data.read_options import ReadOptions
from prunelit.training.data.source import Contents, Source, Split

log = logging.getLogger(__name__)

Moments = tuple[list[float], list[float]]
FORMAT = 2
"""Increase it when the format of the files changes; older copies are then created again."""


def load(source: Source) -> Contents:
    """Return the images of a data set, from an up-to-date copy in its root, or decoded and then cached.

    The copy is ``<root>/prunelit-cache/<name>-<size>-<fingerprint>/``: two arrays per split, and
    ``meta.json``. If it cannot be written, the images are decoded for this process only, and a line is
    logged.
    """
    raw = source.raw_files()
    if not raw:
        return source.decode()
    stem = _stem(source.name, source.options)
    final = source.options.folder / FOLDER / f"{stem}-{fingerprint(raw, source.options.folder)}"
    return _read(final) or _build(final, stem, source.decode)


def kept_moments(source: Source, channels: int, compute: Callable[[], Moments]) -> Moments:
    """Return mean and standard deviation of streamed images, from the cache, or computed and then cached."""
    stem = f"{_stem(source.name, source.options)}-moments{channels}"
    folder = source.options.folder / FOLDER
    path = folder / f"{stem}-{fingerprint(source.raw_files(), source.options.folder)}.json"
    try:
        mean, std = json.loads(path.read_text())
        if all(isinstance(number, float) for number in [*mean, *std]) and len(mean) == len(std) == channels:
            return mean, std
    except (OSError, ValueError, TypeError):
        pass  # missing or damaged
    found = compute()
    with suppress(OSError):  # the cache only saves time
        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"{stem}-*.json"):
            old.unlink(missing_ok=True)
        write_atomically(path, json.dumps(found))
    return found


def _stem(name: str, options: ReadOptions) -> str:
    """The name of a copy without its fingerprint: all options that determine the decoded images."""
    parts = [name, "own" if options.size is None else str(options.size)]
    parts += [] if options.bits is None else [f"{options.bits}bits"]
    parts += [] if options.test_share is None else [f"test{options.test_share}"]
    return "-".join(parts)


def fingerprint(files: Iterable[Path], root: Path) -> str:
    """16 hexadecimal digits of the names, sizes and modification times of the files."""
    digest = hashlib.blake2b(str(FORMAT).encode(), digest_size=8)
    for file in files:
        stat = os.stat(file)
        name = os.fsencode(os.path.relpath(file, root))  # it need not be UTF-8
        digest.update(name + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _build(final: Path, stem: str, decode: Callable[[], Contents]) -> Contents:
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(final.parent / f".{stem}.lock")
        lock.acquire()
    except (OSError, NotImplementedError) as fault:
        return _unkept(final, decode(), fault)
    try:
        found = _read(final)  # another process may have created it in the meantime
        if found:
            return found
        log.info("decoding %s once; the copy goes to %s", stem, final)
        contents = decode()
        try:
            _write(final, stem, contents)
        except OSError as fault:
            return _unkept(final, contents, fault)
        return _read(final) or contents
    finally:
        lock.release()


def _unkept(final: Path, contents: Contents, fault: BaseException) -> Contents:
    log.warning("%s cannot be written (%s): every run decodes the images again", final, fault)
    return contents


def _write(final: Path, stem: str, contents: Contents) -> None:
    folder = final.parent
    # under the lock no other process writes it: existing files are stale or left by a killed process
    for old in (*folder.glob(f"{stem}-*"), *folder.glob(f".{stem}.partial-*")):
        if old.name.startswith(".") or old.name[len(stem) + 1 :].isalnum():
            shutil.rmtree(old, ignore_errors=True)
    partial = folder / f".{stem}.partial-{uuid.uuid4().hex}"
    try:
        partial.mkdir()
        for name, split in (("train", contents.train), ("test", contents.test)):
            assert split.images is not None
            _save(partial / f"{name}-images.npy", split.images)
            _save(partial / f"{name}-labels.npy", split.labels)
        meta = {"class_names": contents.class_names, "mean": contents.mean, "std": contents.std}
        with (partial / "meta.json").open("w") as file:
            json.dump(meta, file)
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(partial)
        os.rename(partial, final)
        fsync_folder(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())


def _read(folder: Path) -> Contents | None:
    if not folder.is_dir():
        return None
    try:
        meta = json.loads((folder / "meta.json").read_text())
        splits = [
            # copy-on-write mapping: shared pages, and torch does not warn about a read-only array
            Split(
                np.load(folder / f"{name}-labels.npy"), np.load(folder / f"{name}-images.npy", mmap_mode="c")
            )
            for name in ("train", "test")
        ]
        return Contents(splits[0], splits[1], **meta)
    except (OSError, ValueError, TypeError, EOFError) as fault:
        log.warning("%s is damaged (%s) and is created again", folder, fault)
        return None
