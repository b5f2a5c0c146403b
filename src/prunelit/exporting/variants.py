"""The forms of a run's network that an export compares: dense and cut, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from prunelit.exporting import onnx_programs
from prunelit.exporting.folder import STRUCTURE, describe_files
from prunelit.exporting.onnx_programs import OnnxProgram
from prunelit.exporting.probe_images import ProbeImages
from prunelit.exporting.programs import Differs, Program, in_pytorch, largest_change, loaded_program
from prunelit.exporting.recorded_run import builder_of
from prunelit.exporting.wanted import Wanted
from prunelit.notice import warn
from prunelit.training.export.program import program_of

if TYPE_CHECKING:
    from prunelit.training.export.recorded_network import NetworkDescription

LARGEST_DROP = 5.0
"""Percentage points of accuracy that eight bits may cost; an export that costs more is refused."""


@dataclass(frozen=True)
class Variant:
    """One form of the network.

    Attributes:
        name: ``dense`` or ``compact``, and what it is beyond PyTorch's own.
        runtime: ``PyTorch`` or ``ONNX Runtime``.
        network: the network with the same parameters and multiply-accumulates.
        size: bytes on disk.
        at: returns the program for a number of threads.
    """

    name: str
    runtime: str
    network: nn.Module
    size: int
    at: Callable[[int], Program]


@dataclass(frozen=True)
class Made:
    """What an export writes: the contents of each file, and the forms that were compared.

    Attributes:
        files: by name; ``""`` for a program, whose name depends on the destination.
        variants: dense first.
        change: the largest change of a logit against the run's network, as a share of the largest logit.
    """

    files: dict[str, bytes]
    variants: list[Variant]
    change: float = field(default=0.0)


def make_variants(
    network: nn.Module,
    small: nn.Module,
    description: NetworkDescription,
    images: ProbeImages,
    wanted: Wanted,
) -> Made:
    """Return the files to write for a run's network, after a comparison with that network.

    Args:
        network: the network of the run, with its zeros.
        small: the same network, cut.
        description: their inputs and classes.
        images: the images for the comparison.
        wanted: the format.

    Raises:
        ValueError: a library does not take the network, or what was made computes something else; one line.
    """
    normalise = description.normalise.module()
    dense = in_pytorch(network, normalise)
    compact = in_pytorch(small, normalise)
    change = largest_change(compact, dense, images.test, wanted.batch)
    makers = {"torch": _torch, "onnx": _onnx, "safetensors": _safetensors}
    variants = [Variant("dense", "PyTorch", network, _bytes_of(network), lambda threads: dense)]
    files, size, more, programs = makers[wanted.format](network, small, description, images, wanted)
    variants += [Variant("compact", "PyTorch", small, size, lambda threads: compact), *more]
    for program in programs:
        change = max(change, largest_change(program, dense, images.test, wanted.batch))
    return Made(files, variants, change)


Parts = tuple[dict[str, bytes], int, list[Variant], list[Program]]
"""The files, the bytes of the cut network's tensors, further forms, and programs that must agree."""


def _torch(network: Any, small: Any, description: Any, images: Any, wanted: Wanted) -> Parts:
    content = program_of(small, description.normalise, description.input_shape, wanted.batch)
    return {"": content}, len(content), [], [loaded_program(content)]


def _safetensors(network: Any, small: Any, description: Any, images: Any, wanted: Wanted) -> Parts:
    noted = {
        key: getattr(description, key) for key in ("num_classes", "input_shape", "mean", "std", "class_names")
    }
    noted["input_shape"] = list(noted["input_shape"])
    files = describe_files(small, builder_of(description), noted)
    return files, sum(len(files[name]) for name in files if name != STRUCTURE), [], []


def _onnx(
    network: nn.Module, small: nn.Module, description: Any, images: ProbeImages, wanted: Wanted
) -> Parts:
    def exported(net: nn.Module) -> bytes:
        whole = nn.Sequential(description.normalise.module(), net).eval()
        return onnx_programs.onnx_of(whole, description.input_shape, wanted.batch)

    def variant(name: str, net: nn.Module, content: bytes) -> Variant:
        return Variant(name, "ONNX Runtime", net, len(content), lambda threads: OnnxProgram(content, threads))

    content = exported(small)
    variants = [variant("compact ONNX", small, content)]
    checked: list[Program] = [OnnxProgram(content, 1)]
    try:
        variants.insert(0, variant("dense ONNX", network, exported(network)))
    except ValueError as error:
        warn(f"the dense network is not compared in ONNX Runtime: {error}")
    if wanted.int8:
        content = _eight_bits(content, images, wanted)
        variants.append(variant("compact int8 ONNX", small, content))
    return {"": content}, _bytes_of(small), variants, checked


def _bytes_of(network: nn.Module) -> int:
    """Return the bytes of a network's parameters and buffers; the files of a run that was cut lack some."""
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def _eight_bits(content: bytes, images: ProbeImages, wanted: Wanted) -> bytes:
    """Return the quantised program, if it classifies the test images nearly as well.

    Raises:
        Differs: it loses more than 5 percentage points of accuracy.
    """
    assert images.training is not None
    small = onnx_programs.quantised(content, images.training, wanted.batch)
    if wanted.batch is None:
        before, after = (images.accuracy(OnnxProgram(each, 1)) for each in (content, small))
        if before is not None and after is not None and before - after > LARGEST_DROP:
            raise Differs(
                f"eight bits cost {before - after:.1f} percentage points of accuracy on {images.source}, "
                f"more than {LARGEST_DROP:g}"
            )
    return small


def threads_to_measure() -> list[int]:
    """Return the numbers of threads for measuring latency: one, and the number that PyTorch uses."""
    return sorted({1, torch.get_num_threads()})
