"""Read a file of weights: detect its format, check that it is complete, and find its state dict."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prunelit.durable import is_whole
from prunelit.request import BadRequest

KINDS = "a .ckpt of prunelit or Lightning, a state dict saved with torch.save, or a .safetensors file"
WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema"),
)
"""Keys under which programs save a state dict; averages of weights last."""
SIGNS = (
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS, not the file",
        "fetched by git lfs pull",
    ),
    (b"\x1f\x8b", "it is compressed by gzip", "unpacked (gunzip)"),
    (b"BZh", "it is compressed by bzip2", "unpacked (bunzip2)"),
    (b"\xfd7zXZ", "it is compressed by xz", "unpacked (unxz)"),
    (b"<", "it is a web page, not the file", "downloaded again"),
)
"""The first bytes of other files, what the file is, and what it must be."""

Content = dict[str, Any]


def read_file(path: Path, key: str = "checkpoint") -> Content:
    """Return the contents of a ``.safetensors`` file or a file of ``torch.save``; no code in it is executed.

    Raises:
        BadRequest: on ``key``, if the file does not exist, is damaged or is something else.
    """
    _check_kind(path, key)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise BadRequest(key, path, KINDS, f"it cannot be read ({error})") from error
    if zipfile.is_zipfile(path) and not is_whole(path):
        raise BadRequest(key, path, "copied or downloaded again", "it is damaged: a checksum does not match")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, AttributeError) as error:
        raise _unreadable(path, key, error) from error
    if not isinstance(content, dict):
        raise BadRequest(key, path, KINDS, f"it contains a {type(content).__name__}")
    return content


def _check_kind(path: Path, key: str) -> None:
    if path.is_dir():
        raise BadRequest(key, path, "a file in it, such as its weights.safetensors", "it is a folder")
    if not path.is_file():
        raise BadRequest(key, path, KINDS, "no such file")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise BadRequest(key, path, KINDS, "it is empty")
    for sign, what, remedy in SIGNS:
        if head.lstrip().startswith(sign):
            raise BadRequest(key, path, remedy, what)


def _unreadable(path: Path, key: str, error: Exception) -> BadRequest:
    """Return the line for a file that torch does not load as plain weights."""
    object_of = re.search(r"(?:GLOBAL|global) `?([\w.]+)", str(error))
    if object_of and object_of[1] not in ("was", "is"):
        why = f"it contains an object of {object_of[1]}, and code in a file is never executed"
        return BadRequest(key, path, "saved as a state dict, by torch.save(network.state_dict(), file)", why)
    reason = str(error).strip().split("\n")[0].split(". ")[0]
    return BadRequest(key, path, KINDS, f"it cannot be read ({reason})")


def state_dict_of(content: Content, path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the state dict in the contents of a file, and its key; empty if it is the whole file.

    Raises:
        BadRequest: on ``checkpoint``, if there is none.
    """
    if _is_state_dict(content):
        return dict(content), ""
    for name in WRAPPERS:
        inner: Any = content.get(name)
        if _is_state_dict(inner):
            return dict(inner), name
        if isinstance(inner, Mapping):
            for second in WRAPPERS:
                if _is_state_dict(inner.get(second)):
                    return dict(inner[second]), f"{name}.{second}"
    held = ", ".join(map(str, list(content)[:8])) or "nothing"
    raise BadRequest("checkpoint", path, KINDS, f"it contains no state dict but {held}")


def _is_state_dict(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return bool(value) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
