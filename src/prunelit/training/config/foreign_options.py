"""Declarations of the keys of torch's optimizers and schedules and of Lightning's Trainer.

Each dataclass declares type, range and meaning of the keys of one class; keys that are not declared here
but are arguments of the class are checked by the class itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from typing_extensions import Doc

from prunelit.declared import Says

Rate = Annotated[float, Ge(0), Doc("The initial learning rate.")]
Decay = Annotated[float, Ge(0), Doc("The weight decay.")]
Betas = Annotated[
    tuple[Annotated[float, Ge(0), Lt(1)], ...],
    Len(2, 2),
    Says("two numbers in [0, 1), such as [0.9, 0.999]"),
    Doc("The decay rates of the running means of the gradient and of its square."),
]
Fused = Annotated[
    bool | Literal["auto"],
    Doc("Use the fused implementation. `auto`: unless gradients are clipped with mixed precision."),
]
Momentum = Annotated[float, Ge(0), Doc("The momentum factor.")]
Nesterov = Annotated[bool, Doc("Use Nesterov momentum.")]


@dataclass(frozen=True)
class Adam:
    """Keys of `torch.optim.Adam`."""

    lr: Rate = 0.001
    weight_decay: Decay = 0.0
    betas: Betas = (0.9, 0.999)
    fused: Fused = "auto"
    eps: Annotated[float, Ge(0)] = 1e-8
    amsgrad: bool = False
    maximize: bool = False


@dataclass(frozen=True)
class AdamW(Adam):
    """Keys of `torch.optim.AdamW`: the keys of Adam, with another default."""

    weight_decay: Decay = 0.01


@dataclass(frozen=True)
class SGD:
    """Keys of `torch.optim.SGD`."""

    lr: Rate = 0.01
    weight_decay: Decay = 0.0
    momentum: Momentum = 0.0
    nesterov: Nesterov = False
    dampening: float = 0.0
    maximize: bool = False
    fused: Fused | None = None


@dataclass(frozen=True)
class RMSprop:
    """Keys of `torch.optim.RMSprop`."""

    lr: Rate = 0.001
    weight_decay: Decay = 0.0
    momentum: Momentum = 0.0
    alpha: Annotated[float, Ge(0), Doc("The decay rate of the running mean of the squared gradient.")] = 0.99
    eps: Annotated[float, Ge(0)] = 1e-8
    centered: bool = False
    maximize: bool = False


Gamma = Annotated[float, Gt(0), Doc("The factor of the learning rate at each milestone.")]


@dataclass(frozen=True)
class MultiStepLR:
    """Keys of `torch.optim.lr_scheduler.MultiStepLR`."""

    milestones: Annotated[
        tuple[Annotated[int, Ge(0)] | Annotated[float, Gt(0), Lt(1)], ...],
        Says("a list of integers >= 0, or of fractions in (0, 1)"),
        Doc(
            "The epochs after which the learning rate is multiplied by `gamma`, as numbers or as "
            "fractions of all epochs."
        ),
    ] = (60, 120)
    gamma: Gamma = 0.1


@dataclass(frozen=True)
class CosineAnnealingLR:
    """Keys of `torch.optim.lr_scheduler.CosineAnnealingLR`."""

    T_max: Annotated[
        int, Ge(0), Doc("The number of epochs over which the learning rate decreases to `eta_min`.")
    ] = 10
    eta_min: Annotated[float, Ge(0), Doc("The final learning rate.")] = 0.0


@dataclass(frozen=True)
class ExponentialLR:
    """Keys of `torch.optim.lr_scheduler.ExponentialLR`."""

    gamma: Annotated[float, Gt(0), Doc("The factor of the learning rate after every epoch.")] = 0.95


@dataclass(frozen=True)
class Trainer:
    """Keys of `lightning.pytorch.Trainer`."""

    accelerator: Annotated[
        Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"], Doc("The kind of device.")
    ] = "auto"
    devices: Annotated[
        Annotated[int, Ge(1)] | Literal[-1, "auto"] | tuple[Annotated[int, Ge(0)], ...],
        Says("an integer >= 1, -1 or auto for all, or a list of device numbers"),
        Doc(
            "The number of devices. Each device has its own process and its own batches of "
            "`batch_size` images."
        ),
    ] = 1
    strategy: Annotated[
        Any,
        Says("auto, ddp, ddp_find_unused_parameters_true, fully_shard, or a _target_"),
        Doc(
            "How several devices share the work. `ddp`: every device has the whole network. "
            "`fully_shard`: the parameters are split over the devices."
        ),
    ] = "auto"
    precision: Annotated[
        Literal[
            "32-true",
            "bf16-mixed",
            "16-mixed",
            "64-true",
            "bf16-true",
            "16-true",
            "transformer-engine",
            "transformer-engine-float16",
            "32",
            "16",
            "64",
            "bf16",
            32,
            16,
            64,
        ],
        Says("32-true, bf16-mixed, 16-mixed, 64-true, bf16-true or 16-true"),
        Doc("The number format of weights and computation."),
    ] = "32-true"
    threads: Annotated[
        Annotated[int, Ge(1), Le(1024)] | None,
        Doc(
            "The number of CPU threads in each process of the run. null: `OMP_NUM_THREADS` if it is "
            "set; otherwise one for a small network, and the process's share of the cores for a large "
            "one."
        ),
    ] = None
    compile: Annotated[
        bool,
        Doc(
            "Train and test the network as compiled by `torch.compile`. Scores are computed without it. "
            "Changed masks need no new compilation."
        ),
    ] = False
    channels_last: Annotated[
        bool,
        Doc(
            "Keep weights of convolutions, images and signals with the channels last in memory, which is "
            "faster on many devices."
        ),
    ] = False
    gradient_clip_val: Annotated[
        Annotated[float, Ge(0)] | None, Doc("The maximum norm of the gradients of the kept weights.")
    ] = None
    accumulate_grad_batches: Annotated[int, Ge(1), Doc("The number of batches per optimizer step.")] = 1
    deterministic: Annotated[
        bool | Literal["warn"] | None, Doc("Use deterministic algorithms on a GPU too, which is slower.")
    ] = False
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    limit_train_batches: Annotated[int, Ge(1)] | Annotated[float, Gt(0), Le(1)] | None = None
    limit_val_batches: Annotated[int, Ge(0)] | Annotated[float, Gt(0), Le(1)] | None = None
    limit_test_batches: Annotated[int, Ge(1)] | Annotated[float, Gt(0), Le(1)] | None = None
    check_val_every_n_epoch: Annotated[int, Ge(1)] | None = 1
    val_check_interval: Annotated[int, Ge(1)] | Annotated[float, Gt(0), Le(1)] | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    inference_mode: bool = True
    sync_batchnorm: bool = False
    num_nodes: Annotated[int, Ge(1)] = 1


SET_BY_PRUNELIT = {
    "max_epochs": "epochs=",
    "min_epochs": "epochs=",
    "max_steps": "epochs=",
    "min_steps": "epochs=",
    "max_time": "epochs=",
    "logger": "logger=",
    "default_root_dir": "output_dir= and name=",
    "callbacks": "prunelit.Pruning in a Trainer of your own",
    "plugins": "prunelit.Pruning in a Trainer of your own",
    "fast_dev_run": "epochs=1 trainer.limit_train_batches=1",
    "overfit_batches": "trainer.limit_train_batches=",
    "barebones": "logger=none",
    "enable_checkpointing": "sweep.keep_checkpoints=false",
    "enable_progress_bar": "a terminal for a bar, a file for none",
    "enable_model_summary": "python -m prunelit.report, whose tables list the layers",
    "num_sanity_val_steps": "nothing: there are none",
    "log_every_n_steps": "nothing: there is one row for each epoch",
    "use_distributed_sampler": "nothing: each process takes its own images",
    "reload_dataloaders_every_n_epochs": "nothing: images are drawn again in each epoch",
}
"""Arguments of the Trainer that prunelit sets itself or cannot record, and what to type instead."""


@dataclass(frozen=True)
class WandbLogger:
    """Keys of `lightning.pytorch.loggers.WandbLogger`."""

    project: Annotated[str | None, Doc("The project. null: the name of the study.")] = None
    offline: Annotated[bool, Doc("Only write to the run's folder, for `wandb sync`.")] = False


@dataclass(frozen=True)
class MLFlowLogger:
    """Keys of `lightning.pytorch.loggers.MLFlowLogger`."""

    tracking_uri: Annotated[str | None, Doc("The address of the server. null: files in `save_dir`.")] = None
    save_dir: Annotated[
        str | None, Says("a folder, or null"), Doc("The folder for the files without a server.")
    ] = None


DECLARED: dict[str, Any] = {
    "torch.optim.Adam": Adam,
    "torch.optim.AdamW": AdamW,
    "torch.optim.SGD": SGD,
    "torch.optim.RMSprop": RMSprop,
    "torch.optim.lr_scheduler.MultiStepLR": MultiStepLR,
    "torch.optim.lr_scheduler.CosineAnnealingLR": CosineAnnealingLR,
    "torch.optim.lr_scheduler.ExponentialLR": ExponentialLR,
    "lightning.pytorch.Trainer": Trainer,
    "lightning.pytorch.loggers.WandbLogger": WandbLogger,
    "lightning.pytorch.loggers.MLFlowLogger": MLFlowLogger,
}
"""Class -> the dataclass that declares its keys."""
