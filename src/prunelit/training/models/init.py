"""The initialization of networks, and the base class whose ``reset_parameters`` repeats it.

``kaiming_normal`` is He et al. 2015 (https://arxiv.org/abs/1502.01852): standard deviation
``sqrt(2 / fan_in)``; the Xavier schemes are Glorot and Bengio 2010
(https://proceedings.mlr.press/v9/glorot10a.html): variance ``2 / (fan_in + fan_out)``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from typing_extensions import Doc

from prunelit.declared import Option, checked

SCHEMES: dict[str, Callable[[Tensor], Tensor]] = {
    "kaiming_normal": nn.init.kaiming_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
}


Init = Annotated[
    Literal["default", "kaiming_normal", "xavier_uniform", "xavier_normal"],
    Doc("The initialization of the weights. `default`: the network's own scheme."),
]


def initialize(network: nn.Module, init: Init) -> None:
    """Draw the parameters of ``network`` in place.

    ``default`` calls PyTorch's ``reset_parameters`` of every layer. The schemes draw the weights of
    convolutions and linear layers, set their biases to 0, and set normalisation layers to weight 1, bias 0
    and fresh running statistics; other parameters are not changed.

    Raises:
        BadRequest: on ``init``, if no scheme has this name.
    """
    Option("init", Init, "default").check(init)
    for module in network.modules():
        if init == "default":
            # The network itself is left out: its own method may be what called this function.
            reset = getattr(module, "reset_parameters", None)
            if module is not network and callable(reset):
                reset()
        elif isinstance(module, (_ConvNd, nn.Linear)):
            SCHEMES[init](module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm)):
            module.reset_parameters()


class Network(nn.Sequential):
    """Named layers in a row, drawn by one initialisation scheme.

    Args:
        layers: name to layer, in the order of the forward pass. One layer may have two names.
        init: ``default`` or one of `SCHEMES`.

    Raises:
        BadRequest: on ``init``, if no scheme has this name.
    """

    default_init: Init = "default"
    """What ``init="default"`` means for this kind of network."""

    @checked
    def __init__(self, layers: Mapping[str, nn.Module], init: Init = "default") -> None:
        super().__init__(OrderedDict(layers))
        self.init: Init = init
        if self._scheme != "default":
            # PyTorch's layers were drawn by its own scheme when they were made.
            self.reset_parameters()

    @property
    def _scheme(self) -> Init:
        return self.default_init if self.init == "default" else self.init

    def reset_parameters(self) -> None:
        """Draw every parameter again, with the network's scheme, from PyTorch's random state."""
        initialize(self, self._scheme)
