"""A network in a folder: its tensors in ``model.safetensors``, its structure in ``structure.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunelit.durable import is_full, write_atomically
from prunelit.exporting.builders import LOADER, Builder, describe_builder, make
from prunelit.exporting.rebuilding import Unfit, check_same, rebuild
from prunelit.exporting.structure import NotDescribable, Structure, describe, named_tensors
from prunelit.pruning.masks import attach, attached
from prunelit.request import BadRequest
from prunelit.study import bounded

STRUCTURE, WEIGHTS, MASKS = "structure.json", "model.safetensors", "masks.safetensors"
FORMAT = "prunelit structure 1"
NOTED = "_prunelit_build"
"""The attribute of a loaded network that holds its builder."""
ALLOWED = "a folder that prunelit.save or python -m prunelit.export --format safetensors wrote"


def save(
    network: nn.Module,
    folder: str | Path,
    build: Any = None,
    images: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network, cut or whole, so that :func:`load` can rebuild it; return the folder.

    ``model.safetensors`` holds the parameters and buffers under the network's own names, ``structure.json``
    what makes the network and how its widths differ from that, and ``masks.safetensors`` the masks that
    pruning noted on it, if any. No file holds code. Before anything is written, the network is made again
    from what would be written, and compared.

    Args:
        network: any module. It stays as it is.
        folder: made if it does not exist.
        build: what makes the original network: its class, a function annotated to return one, a
            ``functools.partial`` of either with the arguments, or a mapping with ``_target_``. Not needed for
            networks that :func:`load` returned, and for those cut from them.
        images: further plain values to save, such as ``input_shape``, ``mean`` and ``std``.

    Raises:
        BadRequest: on ``build``, if it makes another network or cannot be written; on ``folder``, if that
            cannot be written.
    """
    network = getattr(network, "_orig_mod", network)  # of torch.compile
    files = describe_files(network, build, images)
    return write_files(files, Path(folder))


def describe_files(
    network: nn.Module, build: Any = None, images: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """Return the contents of the files of :func:`save`, by name, after a check that they can be loaded."""
    from safetensors.torch import load as read
    from safetensors.torch import save as written

    builder = _builder(network, build)
    try:
        structure = describe(network, make(builder))
        weights = written({name: _plain(tensor) for name, tensor in _values(network, structure)})
        check_same(rebuild(builder, structure, read(weights)), network)
    except (NotDescribable, Unfit) as error:
        allowed = "what makes the network before it was cut"
        raise BadRequest("build", builder["_target_"], allowed, str(error)) from error
    files = {WEIGHTS: weights}
    if masks := attached(network):
        files[MASKS] = written({name: _plain(mask) for name, mask in masks.items()})
    described = {
        "format": FORMAT,
        "build": builder,
        "images": images,
        **asdict(structure),
        "files": {name: _digest(content) for name, content in files.items()},
    }
    return {**files, STRUCTURE: (json.dumps(described, indent=1, allow_nan=False) + "\n").encode()}


def write_files(files: Mapping[str, bytes], folder: Path, key: str = "folder") -> Path:
    """Write the files of a network, ``structure.json`` last, which names the others by their SHA-256."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == STRUCTURE):
            write_atomically(folder / name, files[name])
        if MASKS not in files:
            (folder / MASKS).unlink(missing_ok=True)
    except OSError as error:
        size = sum(map(len, files.values()))
        allowed = f"a folder on a disk with {size:,} bytes free" if is_full(error) else ""
        why = error.strerror or ""
        raise BadRequest(key, folder, allowed or "a folder that can be written", why) from error
    return folder


def load(
    folder: str | Path, num_classes: int | None = None, input_shape: Sequence[int] | None = None
) -> nn.Module:
    """Return the network that :func:`save` wrote, on the CPU and in evaluation mode.

    It is an ordinary module: it can be trained, pruned, cut and saved again. The class or function that
    ``structure.json`` names is imported and, if it is a subclass of ``torch.nn.Module`` or a function
    annotated to return one, called; load folders from people you trust only.

    Args:
        folder: what :func:`save` or ``python -m prunelit.export --format safetensors`` wrote.
        num_classes: outputs that the network must have; None: any. A run's config gives it.
        input_shape: channels, height and width that it must have been written for; None: any.

    Raises:
        BadRequest: on ``folder``; it holds no such network, or a file is damaged. On ``build``; the class
            cannot be imported or cannot be made.
    """
    folder = Path(folder)
    described = read_structure(folder)
    tensors = _read_tensors(folder, WEIGHTS, described)
    try:
        structure = Structure(**{each.name: described[each.name] for each in fields(Structure)})
        network = rebuild(described["build"], structure, tensors)
    except BadRequest:
        raise
    except Exception as error:  # the structure may be anything, and so may its classes
        reason = " ".join(str(error).split())[:200]
        why = reason if isinstance(error, Unfit) else f"{type(error).__name__}: {reason}"
        raise BadRequest("folder", folder, ALLOWED, f"{STRUCTURE}: {why}") from error
    _check_images(folder, described, num_classes, input_shape)
    if MASKS in described["files"]:
        masks = _read_tensors(folder, MASKS, described)
        known = {name: tensor.shape for name, tensor, _ in named_tensors(network)}
        attach(network, {n: mask.bool() for n, mask in masks.items() if known.get(n) == mask.shape})
    vars(network)[NOTED] = described["build"]
    return network


def read_structure(folder: Path) -> dict[str, Any]:
    """Return the content of ``structure.json``, read with limits.

    Raises:
        BadRequest: on ``folder``; there is none, or it is none of this version.
    """
    try:
        described = bounded.read_object(folder / STRUCTURE)
        bounded.check_nodes(described)
    except FileNotFoundError:
        raise BadRequest("folder", folder, ALLOWED, f"it has no {STRUCTURE}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadRequest("folder", folder, ALLOWED, f"{STRUCTURE}: {reason}") from error
    if described.get("format") != FORMAT:
        why = f"{STRUCTURE} is of another program or version"
        raise BadRequest("folder", folder, ALLOWED, why)
    kinds = {"build": dict, "modules": dict, "tensors": dict, "absent": list, "files": dict}
    if wrong := [key for key, kind in kinds.items() if not isinstance(described.get(key), kind)]:
        raise BadRequest("folder", folder, ALLOWED, f"{STRUCTURE} has no {wrong[0]}")
    return described


def _builder(network: nn.Module, build: Any) -> dict[str, Any]:
    """Return the builder of the network: the given one, or the one that is noted on the network."""
    if build is None:
        noted: dict[str, Any] | None = vars(network).get(NOTED)
        if noted is None:
            allowed = "the class or function that makes the network before it was cut, with its arguments"
            raise BadRequest("build", None, allowed)
        return noted
    if isinstance(build, Mapping) and build.get("_target_") == LOADER:
        loaded: Builder = read_structure(Path(str(build.get("folder"))))["build"]
        return describe_builder(loaded)
    return describe_builder(build)


def _values(network: nn.Module, structure: Structure) -> list[tuple[str, Tensor]]:
    """Return each tensor once."""
    return [
        (name, tensor)
        for name, tensor, _ in named_tensors(network)
        if name in structure.tensors and "same_as" not in structure.tensors[name]
    ]


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone().contiguous()


def _digest(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _read_tensors(folder: Path, name: str, described: Mapping[str, Any]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load as read

    try:
        content = bounded.read_bytes(folder / name)
        if _digest(content) != described["files"].get(name):
            raise BadRequest("folder", folder, ALLOWED, f"{name} is not the one that was written")
        return dict(read(content))
    except FileNotFoundError:
        raise BadRequest("folder", folder, ALLOWED, f"it has no {name}") from None
    except (OSError, bounded.NotPlain, SafetensorError) as error:
        raise BadRequest("folder", folder, ALLOWED, f"{name}: {error}") from error


def _check_images(
    folder: Path, described: Mapping[str, Any], num_classes: int | None, input_shape: Sequence[int] | None
) -> None:
    """Raise BadRequest if a run's data has other classes or sizes than the saved network."""
    noted = described.get("images")
    noted = noted if isinstance(noted, dict) else {}
    asked = {"num_classes": num_classes, "input_shape": None if input_shape is None else list(input_shape)}
    for key, value in asked.items():
        if value is not None and noted.get(key) not in (None, value):
            raise BadRequest("folder", folder, f"a network with {key}={value}", f"{key} is {noted[key]}")
