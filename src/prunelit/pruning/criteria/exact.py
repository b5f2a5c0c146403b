"""Exact: the change of the loss without each weight in turn, score(w_j) = |L(w) - L(w; w_j = 0)|.

Mozer and Smolensky, Skeletonization: a technique for trimming the fat from a network via relevance
assessment, Advances in Neural Information Processing Systems 1, 1988,
https://proceedings.neurips.cc/paper/1988/hash/07e1cd7dca89a1678042477183b7ac3f-Abstract.html,
define the relevance of a unit in this way; here it is computed for a weight, which SNIP and Taylor
approximate to first order and Hessian to second. L is the mean loss over all given samples.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

from torch import nn
from typing_extensions import Doc

from prunelit.declared import Says, checked
from prunelit.pruning.ablation import Ablation, traced
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores, count_all
from prunelit.pruning.objective import Objective, num_samples
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.partial import Partial, fingerprint
from prunelit.request import BadRequest


class Exact(Criterion):
    """The loss without each weight, in float64; one pass per weight, only through the operations after its
    layer.

    In a terminal, a progress bar shows the number of finished weights.
    """

    needs = "batches"

    @checked
    def __init__(
        self,
        cache: Annotated[
            str | Path | None,
            Says("a folder, or null"),
            Doc(
                "A folder for results. Runs with the same network and images, such as those of a sweep "
                "of sparsities, read them, and an interrupted computation resumes. null: nothing is saved."
            ),
        ] = None,
    ) -> None:
        if cache is not None and Path(cache).is_file():
            raise BadRequest("cache", cache, "a folder, or null", "this is a file")
        self.cache = None if cache is None else Path(cache)

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``|L(w) - L(w; w_j = 0)|`` of each weight ``w_j``."""
        assert objective is not None
        device = next(iter(parameters.values())).device
        samples = objective.count(objective.batches, device)
        trace = traced(network) if objective.head else None
        file = None
        if self.cache is not None:
            _check_folder(self.cache)
            file = self.cache / f"exact-{fingerprint(network, parameters, objective, int(samples))}.pt"
        partial = Partial(parameters, file)
        left = objective.batches[partial.num_batches :]
        with partial.kept(), _bar(count_all(parameters) * len(left)) as advance:
            for batch in left:
                ablation = Ablation(network, trace, objective, batch)
                for name in parameters:
                    for indices, changes in ablation.changes(name, partial.missing(name)):
                        partial.put(name, indices, changes)
                        advance(len(indices))
                partial.finish_batch(num_samples(batch) / samples)
        totals = {name: partial.total[name].to(device) for name in parameters}
        return {
            name: objective.sum_over_ranks(totals[name]).abs().view(p.shape) for name, p in parameters.items()
        }


def _check_folder(folder: Path) -> None:
    """Raise BadRequest if no file can be written to ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadRequest("cache", folder, "a folder that can be written", str(error.strerror)) from error


@contextmanager
def _bar(count: int) -> Iterator[Callable[[int], object]]:
    """Draw a progress bar in a terminal, on one process."""
    if not sys.stderr.isatty() or os.environ.get("LOCAL_RANK", "0") != "0":
        yield lambda done: None
        return
    from tqdm import tqdm

    with tqdm(total=count, desc="Exact", unit="weight", unit_scale=True, leave=False) as bar:
        yield bar.update
