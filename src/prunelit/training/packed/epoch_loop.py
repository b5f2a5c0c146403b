"""The training loop of a run that trains together with the other runs of its group."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer import call

from prunelit.interruption import Interruption
from prunelit.training.checkpoints.last_checkpoint import LastCheckpoint
from prunelit.training.epoch_loop import count, fetch
from prunelit.training.measuring.measurements import Measurements
from prunelit.training.packed.stretch import Images, Stretch
from prunelit.training.packed.who_stacks import bits_of, why_alone
from prunelit.turns import Member


class PackedEpochLoop(_TrainingEpochLoop):
    """Lets the group of ``member`` train on the batches of an epoch; everything else is Lightning's.

    The group trains on the batches up to the end of the epoch in one call of :meth:`advance`, or on fewer if
    a checkpoint may be due. A run that cannot be stacked with others trains on each batch as Lightning does.
    """

    def __init__(self, trainer: pl.Trainer, member: Member) -> None:
        present = trainer.fit_loop.epoch_loop
        super().__init__(trainer, min_steps=present.min_steps, max_steps=present.max_steps)
        self._member, self._is_alone, self._said = member, False, ""

    def on_run_start(self, data_fetcher: Any) -> None:
        """Decide at each epoch again whether the run trains with others."""
        super().on_run_start(data_fetcher)
        self._is_alone = False

    def advance(self, data_fetcher: Any) -> None:
        """Train on the following batches."""
        self._pass_on_signal()
        if not self._is_alone and (why := why_alone(self.trainer)):
            self._go_alone(why)
        if self._is_alone:
            super().advance(data_fetcher)
            return
        if self.restarting and self._should_check_val_fx(data_fetcher):
            super().advance(data_fetcher)  # resumes an evaluation
            return
        self.val_loop.restarting = False
        number = self.batch_idx + 1
        batch = fetch(self, data_fetcher)
        self.batch_progress.increment_ready()
        self.trainer._logger_connector.on_batch_start(batch)
        call._call_callback_hooks(self.trainer, "on_train_batch_start", batch, number)
        self.batch_progress.increment_started()
        stretch = self._trained_by_the_group(data_fetcher, batch, number)
        last = self._count(stretch)
        output = self._trained_alone(stretch, last) if stretch.alone else {}
        self._end_of_batch(stretch.batch, last, output)

    def _trained_by_the_group(self, data_fetcher: Any, batch: Images, number: int) -> Stretch:
        trainer: Any = self.trainer
        loader = trainer.fit_loop._combined_loader.flattened[0]
        stretch = Stretch(
            trainer.lightning_module,
            trainer.optimizers[0],
            bits_of(trainer),
            batch,
            number,
            loader.sampler.batch_sizes(loader.batch_size)[number : trainer.num_training_batches],
            lambda: fetch(self, data_fetcher),
        )
        clocks = [c.epochs.clock for c in trainer.callbacks if isinstance(c, Measurements)]
        for clock in clocks:
            clock.pause()
        self._member.wait_for(stretch)
        for clock in clocks:
            clock.unpause()
            clock.add(stretch.seconds)
        return stretch

    def _count(self, stretch: Stretch) -> int:
        """Count the batches of ``stretch``, the last one up to its start; return its number in the epoch."""
        batches = stretch.done + bool(stretch.alone)
        count(self, batches - 1, stretch.done)
        return stretch.first + batches - 1

    def _trained_alone(self, stretch: Stretch, number: int) -> Any:
        self._go_alone(stretch.alone)
        kwargs = self._build_kwargs(OrderedDict(), stretch.batch, number)
        return self.automatic_optimization.run(self.trainer.optimizers[0], number, kwargs)

    def _end_of_batch(self, batch: Images, number: int, output: Any) -> None:
        self.batch_progress.increment_processed()
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        self._pass_on_signal()
        call._call_callback_hooks(self.trainer, "on_train_batch_end", output, batch, number)
        self.trainer._logger_connector.on_batch_end()
        self.batch_progress.increment_completed()
        self.trainer._logger_connector.update_train_step_metrics()

    def _go_alone(self, why: str) -> None:
        self._is_alone = True
        if why != self._said:
            self._said = why
            print(f"not packed: {self.trainer.default_root_dir}: {why}", flush=True)

    def _pass_on_signal(self) -> None:
        """Let the run save and end if the group has received a signal."""
        group: Interruption = self._member.shared
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LastCheckpoint):
                callback.interruption.asked = group.asked
