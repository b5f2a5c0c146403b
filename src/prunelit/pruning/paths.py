"""Effective masks: the kept parameters that still lie on a path from an input to an output.

A weight has no effect if nothing reaches its input unit, or nothing leaves its output unit. To find the
useful ones the network runs once on ones, each operation replaced by what it does to reachability
(`prunelit.pruning.reachability`, which states what counts as a path). The gradient of the summed outputs by
an element of a mask is then non-zero exactly if the element lies on a path from an input to an output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call
from prunelit.pruning.compiled import original_parts
from prunelit.pruning.flops import undisturbed
from prunelit.pruning.nested import tensors_in
from prunelit.pruning.reachability import Reachability, binary, is_path


def effective_masks(
    network: nn.Module, masks: Mapping[str, Tensor], example: Tensor | tuple[Any, ...] | Call
) -> dict[str, Tensor]:
    """Keep of ``masks`` only what lies on some path from an input to an output.

    One forward and one backward pass in eval mode (heads that are only used in training are not on a path);
    the network is left as it was, gradients included.

    Args:
        network: any module; parameters that ``masks`` leaves out are dense.
        masks: bool tensors by full parameter name, True is kept, each of its parameter's shape.
        example: a batch of one input on the network's device, a tuple of the forward pass's positional
            arguments, or a call with keyword arguments. Only shapes count.

    Returns:
        Bool tensors by the names, of the shapes and on the devices of ``masks``.

    Raises:
        ValueError: a mask that fits no parameter, or a network that can't be followed; one line.
    """
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            raise ValueError(f"a mask named {name} of shape {tuple(mask.shape)} fits no parameter")
    if not masks:
        return {}
    with undisturbed(network), original_parts(network), torch.inference_mode(False), torch.enable_grad():
        marks = _marks(parameters, masks)
        try:
            reached = _reached(network, marks, example)
            gradients = torch.autograd.grad(
                reached, [marks[name] for name in masks], allow_unused=True, materialize_grads=True
            )
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0]}".rstrip(": ")
            raise ValueError(f"no paths can be followed in {type(network).__name__}: {reason}") from error
    found = dict(zip(masks, gradients, strict=True))
    for name, gradient in found.items():
        if not gradient.isfinite().all():
            raise ValueError(f"no paths can be followed through {name}: an operation there is not finite")
    return {name: mask & (found[name] != 0).to(mask.device) for name, mask in masks.items()}


def effective_density(
    network: nn.Module, masks: Mapping[str, Tensor], example: Tensor | tuple[Any, ...] | Call
) -> float:
    """Return the True elements of `effective_masks` as a share of all elements of ``masks``.

    It is at most the density. Without any mask it is 1.
    """
    effective = effective_masks(network, masks, example)
    if not effective:
        return 1.0
    num_effective = sum(int(mask.sum()) for mask in effective.values())
    return num_effective / sum(mask.numel() for mask in effective.values())


def _marks(parameters: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a replacement of each parameter; a shared one is listed once, under its mask's name if any."""
    seen = {id(parameters[name]) for name in masks}
    marks = {name: _mark(parameters[name], mask) for name, mask in masks.items()}
    for name, parameter in parameters.items():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            marks[name] = _mark(parameter, None)
    return marks


def _mark(parameter: Tensor, mask: Tensor | None) -> Tensor:
    """The replacement of a parameter: its 0/1 mask, a leaf to differentiate by; ones if it is dense."""
    if mask is None:
        return torch.ones_like(parameter, dtype=torch.float32, requires_grad=False)
    return mask.to(parameter.device, torch.float32, copy=True).requires_grad_()


def _reached(
    network: nn.Module, marks: dict[str, Tensor], example: Tensor | tuple[Any, ...] | Call
) -> Tensor:
    """Return how many outputs are reached, with a graph back to ``marks``."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise TypeError("it holds a scripted module, whose operations are hidden")

    def ones(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        # Not a leaf: networks may change their input in place.
        return torch.ones_like(tensor, dtype=torch.float32, requires_grad=True).clone()

    call = Call.of(example).map(ones)
    device = next(iter(marks.values())).device.type
    # cuDNN's transforms leave rounding errors of whole numbers; its plain counterpart leaves none.
    with torch.autocast(device, enabled=False), torch.backends.cudnn.flags(enabled=False), Reachability():
        outputs = torch.func.functional_call(network, marks, call.inputs, dict(call.keywords))
    leaves = [leaf for leaf in tensors_in(outputs) if is_path(leaf)]
    if not leaves:
        raise TypeError("no output has a gradient with respect to a floating-point input")
    return torch.stack([binary(leaf).sum() for leaf in leaves]).sum()
