"""Find the averaged copies that a module keeps of its own parts, such as exponential moving averages.

Such a copy follows the part that trains: its weights are not to be chosen among, and pruned weights are to be
0 in it as well. It is recognized by torch's class ``AveragedModel``, or by its name: that of the attribute or
of the class that holds it has one of the words in ``WORDS``, as in ``self.ema = deepcopy(self.network)`` or
timm's ``ModelEmaV2``. Other copies, such as a teacher or the layers of an attention block, are not averages.
"""

from __future__ import annotations

import re
from functools import cache

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

WORDS = frozenset({"ema", "swa", "polyak", "averaged"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FOUND = "_prunelit_average"


def averaged_copies(root: nn.Module) -> list[nn.Module]:
    """Return the parts of ``root`` that hold averages of other parts; the outermost of nested ones.

    A copy by name needs the class and the shapes of another part, and either no gradient or, when it is seen
    first, equal weights. A copy that was found once remains one.
    """
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for path, holder in root.named_modules():
        keeper = path.rpartition(".")[2], type(holder).__name__
        for name, part in holder.named_children():
            if part in inside:
                continue
            if _FOUND not in vars(part) and not isinstance(part, AveragedModel):
                # A class of such a name that holds the network too leaves the attribute to decide.
                apart = part if says_average(name) else holder if any(map(says_average, keeper)) else None
                if apart is None or not _copies_another(part, root, apart):
                    continue
            part.__dict__[_FOUND] = True
            found.append(part)
            inside.update(part.modules())
    return found


@cache
def says_average(name: str) -> bool:
    """Return whether the name of an attribute or of a class says that it is an average."""
    return not WORDS.isdisjoint(word.lower() for word in _WORD.findall(name))


@torch.no_grad()
def _copies_another(part: nn.Module, root: nn.Module, apart_from: nn.Module) -> bool:
    own, apart = list(part.parameters()), set(apart_from.modules())
    is_frozen, shapes = not any(p.requires_grad for p in own), [p.shape for p in own]
    others = [other for other in root.modules() if own and type(other) is type(part) and other not in apart]
    alike = [[*other.parameters()] for other in others if [p.shape for p in other.parameters()] == shapes]
    return any(is_frozen or all(map(torch.equal, own, weights)) for weights in alike)
