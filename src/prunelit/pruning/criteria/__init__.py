"""The pruning criteria, one file each."""

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.criteria.exact import Exact
from prunelit.pruning.criteria.fisher import Fisher
from prunelit.pruning.criteria.grasp import GraSP
from prunelit.pruning.criteria.hessian import Hessian
from prunelit.pruning.criteria.karnin import Karnin
from prunelit.pruning.criteria.l1_filter import L1Filter
from prunelit.pruning.criteria.lamp import LAMP
from prunelit.pruning.criteria.mag import Mag
from prunelit.pruning.criteria.rand import Rand
from prunelit.pruning.criteria.snip import SNIP
from prunelit.pruning.criteria.std import Std
from prunelit.pruning.criteria.synflow import SynFlow
from prunelit.pruning.criteria.taylor import Taylor
from prunelit.pruning.criteria.thinet import ThiNet

__all__ = [
    "LAMP",
    "SNIP",
    "Criterion",
    "Exact",
    "Fisher",
    "GraSP",
    "Hessian",
    "Karnin",
    "L1Filter",
    "Mag",
    "Rand",
    "Std",
    "SynFlow",
    "Taylor",
    "ThiNet",
]
