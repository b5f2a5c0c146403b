"""The options of a run that are no part of a group: the top level of the config, and ``sweep``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from prunelit.declared import Says

MOST_SHARERS = 16
"""How many runs may share a device at most: each device has this many locks."""


@dataclass(frozen=True)
class TopLevel:
    """The keys at the top level of ``conf/config.yaml``."""

    seed: Annotated[
        int,
        Ge(0),
        Le(2**32 - 1),
        Doc("Decides weights, data order, augmentation, scoring data, random scores and validation split."),
    ] = 0
    compression: Annotated[
        Annotated[float, Ge(0)] | None, Doc("log10(prunable / kept): 0.5 keeps 31.62 %.")
    ] = None
    sparsity: Annotated[
        Annotated[float, Ge(0), Lt(1)] | None,
        Doc(
            "The removed share, instead of `compression`: 0.9 keeps 10 %. With neither, "
            "`pruner.compression` counts."
        ),
    ] = None
    epochs: Annotated[
        int,
        Ge(0),
        Doc(
            "How many epochs of training follow a pruning at the start, or come in all for the other "
            "moments, which extend them to what their rounds need; 0: prune, evaluate, record."
        ),
    ] = 10
    pre_epochs: Annotated[int, Ge(0), Doc("How many epochs of training come before the first pruning.")] = 0
    batch_size: Annotated[int, Ge(1), Doc("How many training images a step and process takes.")] = 64
    label_smoothing: Annotated[
        float,
        Ge(0),
        Lt(1),
        Doc("Smooths the labels of the training loss; test losses are without."),
    ] = 0.0
    checkpoint: Annotated[
        str | None,
        Says("a file, or null"),
        Doc(
            "Start from these weights: a Lightning `.ckpt`, a state dict saved by `torch.save`, or "
            "`.safetensors`. Masks in it, or in `masks.safetensors` beside it, are kept."
        ),
    ] = None
    checkpoint_strict: Annotated[
        bool, Doc("Refuse a checkpoint whose last layer has another size; false: that layer stays new.")
    ] = True
    name: Annotated[
        str | int,
        Says("a name for a folder, such as baseline or cifar10/baseline"),
        Doc("The study: the folder of its runs."),
    ] = "default"
    output_dir: Annotated[
        str, Says("a folder"), Doc("Where studies lie, relative to the current folder.")
    ] = "outputs"
    rerun: Annotated[bool, Doc("Repeat a complete run; its old folder goes to `.previous/` beside it.")] = (
        False
    )


@dataclass(frozen=True)
class SweepOptions:
    """How runs are done: the keys of ``sweep``. They change no result."""

    on_failure: Annotated[
        Literal["continue", "stop", "retry"],
        Doc(
            "What a sweep does when a run fails: go on with the others; begin no more; try it again, from "
            "its last checkpoint."
        ),
    ] = "continue"
    retries: Annotated[int, Ge(0), Doc("How often `retry` tries a failed run again.")] = 1
    timeout_minutes: Annotated[
        Annotated[float, Gt(0)] | None,
        Doc(
            "How long a run may take. One that takes longer is saved, if it can be, ended and counts as "
            "failed; the same command goes on with it. null: no limit."
        ),
    ] = None
    isolate: Annotated[
        bool, Doc("Each run of a sweep has a process of its own (Linux); imports are paid once.")
    ] = True
    jobs: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "How many runs go side by side on this machine, with `hydra/launcher=joblib` or "
            "`submitit_local`, as far as the GPUs allow; null: as many as the GPUs allow, else one for each "
            "core."
        ),
    ] = None
    runs_per_gpu: Annotated[
        int, Ge(1), Le(MOST_SHARERS), Doc("How many runs share each GPU, with the same launchers.")
    ] = 1
    wait: Annotated[
        bool, Doc("Wait for the SLURM jobs of a sweep to end; false: submit them and return.")
    ] = True
    runs_per_job: Annotated[int, Ge(1), Doc("How many runs a SLURM job does one after the other.")] = 1
    keep_checkpoints: Annotated[
        bool,
        Doc(
            "Keep `checkpoints/` of a complete run; `weights.safetensors` and `masks.safetensors` are "
            "always kept."
        ),
    ] = True
    checkpoint_minutes: Annotated[
        Annotated[float, Ge(0)] | None,
        Doc("Also save within an epoch when the last checkpoint is this old; null: never."),
    ] = 10
