"""ONNX programs: exported by PyTorch, quantised and run by ONNX Runtime."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MULTIPLIES = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
"""Operations that are computed with eight bits; all others stay in float32."""


def onnx_of(whole: nn.Module, input_shape: tuple[int, int, int], batch: int | None) -> bytes:
    """Return an ONNX program from images, uint8 of shape (n, \\*input_shape), to logits.

    Args:
        whole: in evaluation mode; takes such images.
        input_shape: channels, height and width.
        batch: the number of images; None: any.

    Raises:
        ValueError: PyTorch's exporter does not take the network; one line.
    """
    images = torch.zeros(batch or 2, *input_shape, dtype=torch.uint8)
    dynamic = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                whole,
                (images,),
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=["images"],
                output_names=["logits"],
                verbose=False,
            )
            content: bytes = program.model_proto.SerializeToString()
    except Exception as error:  # the exporter raises many kinds for code that it cannot follow
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ValueError(f"torch.onnx.export fails: {type(error).__name__}: {reason[:200]}") from error
    return content


def quantised(content: bytes, images: Tensor, batch: int | None) -> bytes:
    """Return an ONNX program whose products take eight-bit integers, by static quantisation.

    Ranges of activations are the smallest and largest values that ``images`` give; weights have a scale for
    each output channel.

    Args:
        content: the program in float32.
        images: for the ranges; uint8.
        batch: the only number of images that the program takes; None: any.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            parts = [part for part in images.split(batch or 32) if batch in (None, len(part))]
            self.parts = iter(parts or [images[torch.arange(batch or 32) % len(images)]])

        def get_next(self) -> dict[str, Any] | None:
            part = next(self.parts, None)
            return None if part is None else {"images": part.numpy()}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, prepared, small = (
            str(Path(folder) / f"{name}.onnx") for name in ("whole", "prepared", "small")
        )
        Path(whole).write_bytes(content)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        options = {"quant_format": QuantFormat.QDQ, "per_channel": True, "op_types_to_quantize": MULTIPLIES}
        quantize_static(prepared, small, Images(), **options)
        return Path(small).read_bytes()


class OnnxProgram:
    """An ONNX program in ONNX Runtime, on the CPU."""

    def __init__(self, content: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of images, uint8."""
        (logits,) = self.session.run(None, {"images": images.numpy()})
        return torch.from_numpy(logits)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings and logs of libraries inside the block."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
