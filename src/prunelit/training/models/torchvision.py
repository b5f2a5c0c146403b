"""Any classifier of torchvision, by name, with or without trained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.error import URLError

import torch
from torch import nn
from typing_extensions import Doc

from prunelit.declared import Says, checked
from prunelit.request import BadRequest, nearest
from prunelit.training.models.checks import Shape
from prunelit.training.models.init import Init, initialize

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


@checked
def from_torchvision(
    num_classes: int,
    input_shape: Shape,
    init: Init = "default",
    architecture: Annotated[str, Doc("The name of the network in torchvision.")] = "resnet50",
    weights: Annotated[
        str | None,
        Says("the name of pretrained weights, such as DEFAULT, or null"),
        Doc("Pretrained weights, by their name in torchvision: `DEFAULT`, `IMAGENET1K_V1` and so on."),
    ] = None,
) -> nn.Module:
    """The torchvision network ``architecture`` itself, with torchvision's parameter names.

    Without weights, the network is drawn by torchvision's own scheme (``init="default"``) or by another. With
    weights, the last layer is drawn again if the weights have another number of classes. If the input does
    not have three channels, the first convolution is replaced by one that has the input's; with weights, each
    of its kernels is then the mean of the three trained ones times ``3 / channels``: a gray image then gives
    the same result as its copy in three channels. GoogLeNet and Inception come without their second
    classifiers.

    Args:
        num_classes: outputs of the last layer.
        input_shape: channels, height and width of one input. Vision transformers are built for that size.
        init: `prunelit.training.models.init`; only ``default`` goes with weights.
        architecture: a name that ``torchvision.models.list_models`` knows as a classifier.
        weights: a name such as ``DEFAULT`` or ``IMAGENET1K_V2``, which torchvision downloads if it must.

    Raises:
        BadRequest: on ``model.name``, ``model.weights`` or ``model.init`` if there is no such thing, and on
            ``data.size`` if the network cannot take inputs of that size.
        OSError: if the weights cannot be downloaded.
    """
    from torchvision import models

    names = models.list_models(module=models)
    if architecture not in names:
        raise BadRequest("model.name", architecture, nearest(str(architecture), names))
    chosen = _find_weights(architecture, weights)
    if init != "default" and chosen is not None:
        raise BadRequest("init", init, "default", why="model.weights determines the weights")
    network = _build(architecture, chosen, num_classes, input_shape)
    _fit_classes(network, num_classes)
    _fit_channels(network, input_shape[0], trained=chosen is not None)
    if init != "default":
        initialize(network, init)
    _try_size(network, input_shape, architecture, chosen)
    return network


def _find_weights(architecture: str, name: str | None) -> WeightsEnum | None:
    """The weights of that name: ``IMAGENET1K_V2``, or ``ResNet50_Weights.IMAGENET1K_V2`` in full."""
    from torchvision.models import get_model_weights

    if name is None:
        return None
    known = get_model_weights(architecture)
    member = str(name).removeprefix(f"{known.__name__}.")
    if member not in known.__members__:
        allowed = f"null, or {nearest(member, known.__members__)}"
        raise BadRequest("weights", name, allowed, why=f"{architecture} has no such weights")
    return known[member]


def _build(architecture: str, weights: WeightsEnum | None, num_classes: int, input_shape: Shape) -> nn.Module:
    """The network with torchvision's own input channels."""
    from torchvision.models import get_model

    options: dict[str, Any] = {}
    if architecture in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": weights is None}
    if weights is None:
        options["num_classes"] = num_classes
        # Trained weights fix the size of these; untrained networks are built for the input.
        if architecture.startswith("vit_"):
            options["image_size"] = input_shape[1]
        elif architecture.startswith("maxvit"):
            options["input_size"] = input_shape[1:]
    try:
        return get_model(architecture, weights=weights, **options)
    except (AssertionError, ValueError) as error:
        raise _wrong_size(input_shape, architecture, weights) from error
    except URLError as error:
        folder = f"{torch.hub.get_dir()}/checkpoints"
        url = getattr(weights, "url", "")
        raise OSError(f"{weights} could not be downloaded: put {url} into {folder} ({error})") from error


def _fit_classes(network: nn.Module, num_classes: int) -> None:
    """Put a new last layer where it has another number of outputs than ``num_classes``."""
    kinds = (nn.Linear, nn.Conv2d)
    name, last = [item for item in network.named_modules() if isinstance(item[1], kinds)][-1]
    if last.weight.shape[0] == num_classes:
        return
    if isinstance(last, nn.Linear):
        network.set_submodule(name, nn.Linear(last.in_features, num_classes, last.bias is not None))
    else:  # SqueezeNet's classifier is a 1x1 convolution.
        network.set_submodule(name, _convolution_like(last, out_channels=num_classes))


def _fit_channels(network: nn.Module, channels: int, trained: bool) -> None:
    """Put a first convolution of ``channels`` inputs where it has three."""
    name, first = next(item for item in network.named_modules() if isinstance(item[1], nn.Conv2d))
    if first.in_channels == channels:
        return
    fresh = _convolution_like(first, in_channels=channels)
    with torch.no_grad():
        if trained:
            fresh.weight.copy_(first.weight.mean(1, keepdim=True) * (first.in_channels / channels))
        else:
            fresh.weight.normal_().mul_(first.weight.std())
        if fresh.bias is not None and first.bias is not None:
            fresh.bias.copy_(first.bias)
    network.set_submodule(name, fresh)
    if hasattr(network, "transform_input"):
        # GoogLeNet and Inception would shift three channels that are not there.
        setattr(network, "transform_input", False)  # noqa: B010


def _convolution_like(layer: nn.Conv2d, **changes: int) -> nn.Conv2d:
    """A new convolution with the options of ``layer``, but for ``changes``."""
    options: dict[str, Any] = {
        key: getattr(layer, key)
        for key in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    }
    return nn.Conv2d(**{**options, **changes}, bias=layer.bias is not None)


def _try_size(network: nn.Module, input_shape: Shape, architecture: str, weights: WeightsEnum | None) -> None:
    """Pass shapes without numbers through the network, to learn whether it takes inputs of that size."""
    named = [*network.named_parameters(), *network.named_buffers()]
    shapes = {name: tensor.to("meta") for name, tensor in named}
    network.eval()
    try:
        with torch.no_grad():
            torch.func.functional_call(network, shapes, torch.empty(2, *input_shape, device="meta"))
    except (AssertionError, RuntimeError) as error:
        raise _wrong_size(input_shape, architecture, weights) from error
    finally:
        network.train()


def _wrong_size(input_shape: Shape, architecture: str, weights: WeightsEnum | None) -> BadRequest:
    """The error that names an input size with which the network works."""
    from torchvision.models import get_model_weights

    known = weights or next(iter(get_model_weights(architecture)))
    size = f"{input_shape[1]}x{input_shape[2]}"
    allowed = f"a size that {architecture} can process, such as {max(known.meta['min_size'])}"
    return BadRequest("data.size", size, allowed)
