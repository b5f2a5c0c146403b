"""The pruning criteria, one file each."""

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.criteria.grasp import GraSP
from prunelit.pruning.criteria.mag import Mag
from prunelit.pruning.criteria.rand import Rand
from prunelit.pruning.criteria.snip import SNIP
from prunelit.pruning.criteria.synflow import SynFlow

__all__ = ["SNIP", "Criterion", "GraSP", "Mag", "Rand", "SynFlow"]
