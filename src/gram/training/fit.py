"""One training run in memory: ``transformers.Trainer`` fed with sums and counts.

The loss of an optimizer step is the sum over its global batch divided by the count over its global batch,
whatever the token budget, which cuts it into forward passes, and the number of processes. Knows objectives
and samples; knows nothing of files of data, templates or manifests.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments

from gram.engine.base import Batch
from gram.engine.memory import training_budget_for
from gram.engine.pool import ACTIVATIONS
from gram.errors import ConfigError
from gram.files import naming
from gram.objectives.objective import Objective, Sample
from gram.training.arguments import FitSettings, processes, training_arguments
from gram.training.callbacks import CompleteLog, Guard, Observer, ProgressBar, check_finite, mean_loss
from gram.training.checkpoints import to_go_on_from
from gram.training.dropout import without_dropout
from gram.training.sharding import Division, asked_for, gathered, in_step, outline
from gram.training.stream import Stream
from gram.training.wrapped import through


@dataclass(frozen=True)
class FitResult:
    """The result of a run.

    Attributes:
        steps: number of optimizer steps.
        train_loss: mean loss over all steps, those before a resume included.
        history: the log, as transformers keeps it.
        evaluation: metrics of the final weights on the evaluation samples; empty without any.
        model: the trained model: the one that was given, unless it was divided among processes; then a whole
            one on the CPU, in the first process only.
    """

    steps: int
    train_loss: float
    history: list[dict[str, Any]]
    evaluation: dict[str, float]
    model: PreTrainedModel


def fit(
    model: PreTrainedModel,
    objective: Objective[Any],
    samples: Sequence[Sample],
    settings: FitSettings,
    *,
    eval_samples: Sequence[Sample] = (),
    checkpoints: Path | None = None,
    title: str | None = "train",
    observe: Callable[[int], None] | None = None,
) -> FitResult:
    """Train ``model`` in place, or divided among processes (``sharding``); nothing is dropped out.

    Args:
        samples: from ``objective.encode``.
        eval_samples: to evaluate on; with ``checkpoints``, of the weights that are saved those with the
            lowest loss on them are kept.
        checkpoints: folder to save to and resume from; None: nothing is saved.
        title: shown in the progress bar; None: nothing is shown.
        observe: called after every optimizer step with its number, the model in evaluation mode. It
            should only read the model: weights that it changes stay changed for the rest of the training.

    Raises:
        ConfigError: no samples, a batch that cannot be dealt to the processes, or a checkpoint of a model
            that was divided among processes where this one is not, or the other way round.
        TrainingError: the loss is not finite, or diverges.
    """
    if not samples:
        raise ConfigError("there is nothing to train on")
    if 0 < len(eval_samples) < (world := processes()):
        raise ConfigError(f"{len(eval_samples)} evaluation samples are too few for {world} processes")
    with contextlib.ExitStack() as stack:
        stack.callback(ACTIVATIONS.release)
        if division := asked_for():
            stack.enter_context(division.around())
        trainer = _trainer(model, objective, samples, settings, eval_samples, checkpoints, division)
        stack.enter_context(without_dropout(model))  # not before: an outline of the model keeps its own
        trainer.remove_callback(PrinterCallback)
        if title is not None:
            bar = ProgressBar(title)
            stack.callback(bar.close)
            trainer.add_callback(bar)
        for callback in (CompleteLog(), Guard(), *([Observer(model, observe)] if observe else [])):
            trainer.add_callback(callback)
        by = division.name if division else None
        trainer.train(resume_from_checkpoint=to_go_on_from(checkpoints, by, processes()))
        history = list(trainer.state.log_history)
        evaluation = trainer.evaluate() if eval_samples else {}
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # bf16 was for the training only
    if division is not None and trainer.outline is not None:
        keep = trainer.is_world_process_zero()
        model = gathered(model, trainer.outline, division, keep=keep)  # type: ignore[assignment]
    model.eval()
    return FitResult(trainer.state.global_step, mean_loss(history), history, evaluation, model)


def _trainer(
    model: PreTrainedModel,
    objective: Objective[Any],
    samples: Sequence[Sample],
    settings: FitSettings,
    eval_samples: Sequence[Sample],
    checkpoints: Path | None,
    division: Division | None,
) -> _SumTrainer:
    folder = checkpoints or Path(tempfile.gettempdir())  # the trainer wants one, and writes nothing there
    arguments = training_arguments(
        *(settings, folder),
        saves=checkpoints is not None,
        evaluates=bool(eval_samples),
        lowers=division is None or division.autocasts,
    )
    order = {"steps": settings.steps, "batch_size": settings.batch_size, "seed": settings.seed}
    return _SumTrainer(
        *(model, arguments),
        objective=objective,
        stream=Stream(samples, **order, processes=processes()),
        budget=settings.token_budget or _budget_for(model, objective, settings),
        pass_length=len(samples),
        eval_samples=eval_samples,
        division=division,
        low=settings.dtype == "bf16",
    )


def _budget_for(model: nn.Module, objective: Objective[Any], settings: FitSettings) -> int:
    """Most tokens of a forward pass, by the memory that is free now."""
    return training_budget_for(
        model,
        settings.dtype,
        checkpointing=settings.gradient_checkpointing,
        all_logits=objective.engine == "plain",
        processes=int(os.environ.get("LOCAL_WORLD_SIZE", str(processes()))),
        parts=processes() if asked_for() else 1,
    )


class _SumTrainer(Trainer):
    """``Trainer`` that normalises by the objective's own count over the global batch.

    The trainer sees one batch per step and process: a list of micro-batches, cut by the budget. Their
    gradients are summed, and shared between processes with the last of them; those of a model that is divided
    among processes with each, so that no process holds all.

    Attributes:
        outline: of a model that is divided among processes, what it becomes again; None of others.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        *,
        objective: Objective[Any],
        stream: Stream,
        budget: int,
        pass_length: int,
        eval_samples: Sequence[Sample],
        division: Division | None,
        low: bool,
    ) -> None:
        self.division = division
        super().__init__(
            model,
            args,
            data_collator=lambda samples: list(objective.micro_batches(samples, budget)),  # type: ignore[arg-type]
            train_dataset=stream,
            eval_dataset=eval_samples or None,  # type: ignore[arg-type]
        )
        self.model_accepts_loss_kwargs = True  # the loss arrives normalised over all accumulated batches
        self._objective = objective
        self._budget = budget
        self._eval_samples = sorted(eval_samples, key=lambda sample: sample.length)
        self._low = low
        self._epochs_per_step = args.train_batch_size * args.world_size / pass_length
        self.outline = outline(model) if self.division else None
        if self.division:
            self.division.divide(model, self.accelerator)

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.division:
            self.division.take_up(self)

    def _get_num_items_in_batch(self, batch_samples: list[list[Batch]], device: torch.device) -> Tensor:
        counts = [self._objective.count(batch) for batches in batch_samples for batch in batches]
        count = torch.stack(counts).sum().to(device)
        if self.args.world_size > 1:
            count = cast(Tensor, self.accelerator.gather(count)).sum()
        return count

    def training_step(  # type: ignore[override]
        self, model: nn.Module, inputs: list[Batch], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        losses, passes = [], list(self._passes(inputs))
        for number, (batch, counts) in enumerate(passes, 1):
            self.accelerator.sync_gradients = last = number == len(passes)  # DeepSpeed's step follows
            units = num_items_in_batch if counts else math.inf  # divided by infinity it adds nothing
            with contextlib.nullcontext() if last or self.division else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, batch, units))  # type: ignore[arg-type]
        return torch.stack(losses).sum()

    def _passes(self, batches: list[Batch]) -> Iterator[tuple[Batch, bool]]:
        """The micro-batches of this process, and whether each counts."""
        if self.division:
            return in_step(batches, self.accelerator)
        return ((batch, True) for batch in batches)

    def floating_point_ops(self, inputs: list[Batch]) -> int:  # type: ignore[override]
        return sum(super(_SumTrainer, self).floating_point_ops(batch) for batch in inputs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        assert num_items_in_batch is not None and not return_outputs
        loss = through(model, lambda inner: self._sums(inner, inputs)["loss"])
        loss = loss / num_items_in_batch
        check_finite("loss", loss.item(), self.state.global_step + 1)
        return loss * self.args.world_size  # gradients are averaged over processes; we want their sum

    def _sums(self, inner: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The objective's sums; lowered in here, as DeepSpeed leaves what surrounds its own forward pass."""
        lowers = self.division is None or self.division.autocasts
        torchs = torch.autocast(self.args.device.type, torch.bfloat16, enabled=self._low)
        with self.accelerator.autocast() if lowers else torchs:
            sums = self._objective.loss_sum(inner, batch)
        return {"loss": sums.loss, **sums.metrics}

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Exact means over the evaluation samples, whatever the batch size and process count."""
        model = cast(nn.Module, self.model)
        training = model.training
        model.eval()
        totals: dict[str, Tensor] = {}
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch, counts in self._passes(self._eval_batches()):
                batch = {name: value.to(self.args.device) for name, value in batch.items()}
                sums = through(self.deepspeed or model, lambda inner, batch=batch: self._sums(inner, batch))
                parts = {"count": self._objective.count(batch), **sums} if counts else {}
                for name, value in parts.items():
                    totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value
        if self.division:
            self.division.let_go(model)
        model.train(training)
        names = sorted(totals)
        vector = torch.stack([totals[name].float() for name in names])
        vector = cast(Tensor, self.accelerator.reduce(vector, "sum"))  # over the processes
        sum_by_name = dict(zip(names, vector.tolist(), strict=True))
        count = sum_by_name.pop("count")
        metrics = {f"{metric_key_prefix}_{name}": value / count for name, value in sum_by_name.items()}
        self.log(dict(metrics))  # the trainer adds entries of its own to what it logs
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _eval_batches(self) -> list[Batch]:
        own_samples = self._eval_samples[self.args.process_index :: self.args.world_size]
        return list(self._objective.micro_batches(own_samples, self._budget))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Only weights that are saved can be kept: the trainer lets a step in between hide all later ones."""
        return self.control.should_save and super()._determine_best_metric(metrics, trial)

    def save_model(self, *given: Any, **more: Any) -> None:
        if not self.is_deepspeed_enabled:  # its engine saves weights too, where others save the optimizer
            super().save_model(*given, **more)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(str(self.args.output_dir))
        with naming(folder):
            if self.outline is not None:  # else the trainer looks for it too early to call it the best
                (folder / f"checkpoint-{self.state.global_step}").mkdir(parents=True, exist_ok=True)
            super()._save_checkpoint(model, trial)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # To the trainer the stream is one long epoch; log the number of passes over the data instead.
        self.state.epoch = self.state.global_step * self._epochs_per_step
        super().log(logs, start_time)
