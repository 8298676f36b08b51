"""Callbacks of a training run: the progress that a person sees, a complete log, and a stop when it diverges.

Progress goes to stderr: a bar on a terminal, a line per log elsewhere. Stdout belongs to the command.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gram.errors import TrainingError


class ProgressBar(TrainerCallback):
    """A progress bar with the newest loss on a terminal; a line per log entry elsewhere."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._metrics: dict[str, str] = {}  # newest value of each, as text

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}"),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self._title, total=state.max_steps, completed=state.global_step, metrics=""
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero:
            return
        names = ("loss", "eval_loss", "eval_accuracy")
        new = {name: f"{value:.4f}" for name, value in (logs or {}).items() if name in names}
        self._metrics.update(new)
        if self._bar is not None:
            self._bar.update(self._task, metrics=_text(self._metrics))
        elif new:
            print(f"{self._title} {state.global_step}/{state.max_steps} {_text(new)}", file=sys.stderr)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar down; safe to call twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _text(metrics: dict[str, str]) -> str:
    return "  ".join(f"{name} {value}" for name, value in metrics.items())


class CompleteLog(TrainerCallback):
    """Logs at every checkpoint and at the end too, so that the log covers all steps, even after a resume."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_save or control.should_training_stop:
            control.should_log = True


class Observer(TrainerCallback):
    """Calls ``observe`` with the number of every finished step, while the model is in evaluation mode."""

    def __init__(self, model: nn.Module, observe: Callable[[int], None]) -> None:
        self._model = model
        self._observe = observe

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        training = self._model.training
        self._model.eval()
        self._observe(state.global_step)
        self._model.train(training)


def mean_loss(history: Sequence[dict[str, Any]]) -> float:
    """Mean training loss over all steps of a log, each entry of which covers the steps since the last.

    Example:
        >>> mean_loss([{"step": 1, "loss": 4.0}, {"step": 4, "loss": 2.0}])  # (4 + 3 * 2) / 4
        2.5
    """
    entries = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    total, last_step = 0.0, 0
    for step, loss in entries:
        total += loss * (step - last_step)
        last_step = step
    return total / last_step


class Guard(TrainerCallback):
    """Stops training that diverges.

    Raises:
        TrainingError: the gradient is not finite. The loss alone would not show that for the last step.
        TrainingError: a logged loss is above ``factor`` times that of the first step, and above ``least``:
            a small loss at the first step, by chance, must not stop a healthy run.
    """

    def __init__(self, factor: float = 4.0, least: float = 10.0) -> None:
        self._factor = factor
        self._least = least

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        loss = logs["loss"]
        first = next(entry["loss"] for entry in state.log_history if "loss" in entry)
        if loss > max(self._least, self._factor * first):
            raise TrainingError(
                f"the loss diverges: {loss:.3g} at step {state.global_step}, {first:.3g} at first; "
                "lower --learning-rate"
            )
        check_finite("gradient's norm", logs.get("grad_norm", 0.0), state.global_step)


def check_finite(quantity: str, value: float, step: int) -> None:
    """Stop at a loss or a gradient that is not a number.

    Raises:
        TrainingError: ``value`` is not finite; the message names the step (from 1) and what usually helps.
    """
    if not math.isfinite(value):
        raise TrainingError(
            f"the {quantity} is {value} at step {step}; lower --learning-rate, or check the data"
        )
