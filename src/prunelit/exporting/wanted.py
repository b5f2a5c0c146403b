"""The requested format of an export, and the packages that it needs; does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from prunelit.request import BadRequest

FORMATS = ("torch", "onnx", "safetensors")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Wanted:
    """A format, with eight-bit integers or not, for any number of images (``batch=None``) or a fixed one.

    Raises:
        BadRequest: they do not go together, or a package is missing.
    """

    format: str = "torch"
    int8: bool = False
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise BadRequest("--format", self.format, f"one of {', '.join(FORMATS)}")
        if self.int8 and self.format != "onnx":
            raise BadRequest("--int8", True, "left out, or given with --format onnx")
        if self.batch is not None and self.format == "safetensors":
            raise BadRequest(
                "--batch", self.batch, "left out: a network in safetensors takes any number of images"
            )
        missing = [name for name in PACKAGES if self.format == "onnx" and not _is_installed(name)]
        if missing:
            why = f"{', '.join(missing)} cannot be imported"
            raise BadRequest(
                "--format", "onnx", "left out, or installed by: pip install 'prunelit[onnx]'", why
            )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # sys.modules marks it as one that cannot be imported
        return False
