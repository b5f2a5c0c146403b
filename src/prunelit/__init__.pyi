# The public names of the library, each once. Type checkers read this file, and __init__.py loads from it.

from prunelit.budget import Budget as Budget
from prunelit.exporting.folder import load as load
from prunelit.exporting.folder import save as save
from prunelit.pruning.call import Call as Call
from prunelit.pruning.compact import compact as compact
from prunelit.pruning.coupling.coupled_units import coupled_units as coupled_units
from prunelit.pruning.coupling.explain import explain as explain
from prunelit.pruning.criteria import *  # noqa: F403
from prunelit.pruning.growth import Growth as Growth
from prunelit.pruning.objective import Objective as Objective
from prunelit.pruning.parameters import Selection as Selection
from prunelit.pruning.plan import Plan as Plan
from prunelit.pruning.rounds import prune as prune
from prunelit.request import BadRequest as BadRequest
from prunelit.request import PruningWarning as PruningWarning
from prunelit.training.callback import Pruning as Pruning
from prunelit.training.fit.distillation import Distillation as Distillation
from prunelit.training.fit.options import PruningOptions as PruningOptions
from prunelit.training.fit.retraining import Retraining as Retraining
from prunelit.training.fit.timing import Timing as Timing
from prunelit.training.hold_masks import HoldMasks as HoldMasks
from prunelit.training.scoring.training_batches import Sample as Sample
