"""The options of a run outside of groups: the top level of the config, and ``sweep``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from typing_extensions import Doc

from prunelit.budget import FlopsKept, Milliseconds, ParametersKept, Speedup
from prunelit.declared import Says

MOST_SHARERS = 16
"""The maximum number of runs that share a device; each device has this number of locks."""


@dataclass(frozen=True)
class TopLevel:
    """The keys at the top level of ``conf/config.yaml``."""

    seed: Annotated[
        int,
        Ge(0),
        Le(2**32 - 1),
        Doc(
            "The random seed of weights, data order, augmentation, scoring data, random scores and "
            "validation split."
        ),
    ] = 0
    compression: Annotated[
        Annotated[float, Ge(0)] | None, Doc("log10(prunable / kept): 0.5 keeps 31.62 %.")
    ] = None
    sparsity: Annotated[
        Annotated[float, Ge(0), Lt(1)] | None,
        Doc(
            "The share of the prunable parameters to remove, instead of `compression`: 0.9 keeps 10 "
            "%. If all amounts are null, `pruner.compression` applies."
        ),
    ] = None
    flops: FlopsKept = None
    params: ParametersKept = None
    speedup: Speedup = None
    latency: Milliseconds = None
    epochs: Annotated[
        int,
        Ge(0),
        Doc(
            "The number of epochs. With pruning at the start, they follow the pruning. With the other "
            "moments, they are all epochs, extended if the rounds need more. 0: prune and evaluate "
            "without training, unless `pruner.when=epoch` prunes between epochs."
        ),
    ] = 10
    pre_epochs: Annotated[int, Ge(0), Doc("The number of epochs before the first pruning.")] = 0
    batch_size: Annotated[int, Ge(1), Doc("The number of training images per step and process.")] = 64
    label_smoothing: Annotated[
        float,
        Ge(0),
        Lt(1),
        Doc("Label smoothing of the training loss. It does not apply to test losses."),
    ] = 0.0
    distillation: Annotated[
        float,
        Ge(0),
        Le(1),
        Doc(
            "The share of the training loss, after the first pruning, that compares the outputs with those "
            "of the network as it was before. 0: none. The dense network should be trained then: set "
            "`pre_epochs`, `checkpoint`, or a model with weights."
        ),
    ] = 0.0
    distillation_temperature: Annotated[
        float,
        Gt(0),
        Doc("With `distillation`, what the logits of both networks are divided by before the softmax."),
    ] = 4.0
    checkpoint: Annotated[
        str | None,
        Says("a file, or null"),
        Doc(
            "Initial weights: a Lightning `.ckpt` file, a state dict saved with `torch.save`, or a "
            "`.safetensors` file. Masks in this file, or in `masks.safetensors` in the same folder, "
            "are applied."
        ),
    ] = None
    checkpoint_strict: Annotated[
        bool,
        Doc(
            "Refuse a checkpoint whose last layer has another size. false: this layer keeps its "
            "initial weights."
        ),
    ] = True
    name: Annotated[
        str | int,
        Says("a folder name, such as baseline or cifar10/baseline"),
        Doc("The name of the study, which is the folder of its runs."),
    ] = "default"
    output_dir: Annotated[
        str, Says("a folder"), Doc("The folder of all studies, relative to the current folder.")
    ] = "outputs"
    rerun: Annotated[
        bool, Doc("Repeat a complete run. Its old folder is moved to `.previous/` in the same folder.")
    ] = False


@dataclass(frozen=True)
class SweepOptions:
    """How runs are executed: the keys of ``sweep``. They change no result."""

    on_failure: Annotated[
        Literal["continue", "stop", "retry"],
        Doc(
            "What a sweep does after a failed run. `continue`: start the next run. `stop`: start no "
            "more runs. `retry`: try the run again from its last checkpoint."
        ),
    ] = "continue"
    retries: Annotated[int, Ge(0), Doc("The number of times that `retry` tries a failed run again.")] = 1
    timeout_minutes: Annotated[
        Annotated[float, Gt(0)] | None,
        Doc(
            "The time limit of a run. A run that exceeds it saves if possible, ends, and counts as "
            "failed; the same command resumes it. null: no limit."
        ),
    ] = None
    isolate: Annotated[bool, Doc("Execute each run of a sweep in its own process (Linux only).")] = True
    jobs: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "The number of runs at a time on this machine, with `hydra/launcher=joblib` or "
            "`submitit_local`, up to the number that the GPUs allow. null: as many as the GPUs allow, "
            "or one per core without GPUs."
        ),
    ] = None
    runs_per_gpu: Annotated[
        int,
        Ge(1),
        Le(MOST_SHARERS),
        Doc("The number of runs at a time on each GPU, with the same launchers."),
    ] = 1
    wait: Annotated[
        bool, Doc("Wait until the SLURM jobs of a sweep have ended. false: submit them and return.")
    ] = True
    runs_per_job: Annotated[
        int, Ge(1), Doc("The number of runs that a SLURM job executes one after the other.")
    ] = 1
    keep_checkpoints: Annotated[
        bool,
        Doc(
            "Keep `checkpoints/` of a complete run. `weights.safetensors` and `masks.safetensors` are "
            "always kept."
        ),
    ] = True
    mask_format: Annotated[
        Literal["bytes", "bits"],
        Doc(
            "How `masks.safetensors` holds a mask. `bytes`: as a bool tensor of the parameter's shape. "
            "`bits`: in an eighth of the space, as a row of bytes made by `numpy.packbits`; the metadata of "
            "the file has the shapes."
        ),
    ] = "bytes"
    checkpoint_minutes: Annotated[
        Annotated[float, Ge(0)] | None,
        Doc("Save a checkpoint within an epoch if the last one is older than this. null: never."),
    ] = 10
