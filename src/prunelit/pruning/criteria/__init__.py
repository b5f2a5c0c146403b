"""The pruning criteria, one file each. A criterion is public because it is imported here."""

from typing import TYPE_CHECKING

from prunelit.pruning.criteria.bn_scale import BNScale as BNScale
from prunelit.pruning.criteria.criterion import Criterion as Criterion
from prunelit.pruning.criteria.exact import Exact as Exact
from prunelit.pruning.criteria.fisher import Fisher as Fisher
from prunelit.pruning.criteria.fpgm import FPGM as FPGM
from prunelit.pruning.criteria.grasp import GraSP as GraSP
from prunelit.pruning.criteria.hessian import Hessian as Hessian
from prunelit.pruning.criteria.karnin import Karnin as Karnin
from prunelit.pruning.criteria.l1_filter import L1Filter as L1Filter
from prunelit.pruning.criteria.l2_filter import L2Filter as L2Filter
from prunelit.pruning.criteria.lamp import LAMP as LAMP
from prunelit.pruning.criteria.mag import Mag as Mag
from prunelit.pruning.criteria.rand import Rand as Rand
from prunelit.pruning.criteria.snip import SNIP as SNIP
from prunelit.pruning.criteria.std import Std as Std
from prunelit.pruning.criteria.synflow import SynFlow as SynFlow
from prunelit.pruning.criteria.taylor import Taylor as Taylor
from prunelit.pruning.criteria.thinet import ThiNet as ThiNet

if not TYPE_CHECKING:  # type checkers take the imports
    __all__ = sorted(name for name, value in list(globals().items()) if isinstance(value, type))
