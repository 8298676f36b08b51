"""What a person sees while training, what the log holds, and the guard of a run that has gone wrong.

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
    """A progress bar with the newest loss; lines in a log file instead of a bar."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._said: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[said]}"),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self._title, total=state.max_steps, completed=state.global_step, said=""
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
        shown = ("loss", "eval_loss", "eval_accuracy")
        new = {name: f"{value:.4f}" for name, value in (logs or {}).items() if name in shown}
        self._said.update(new)
        if self._bar is not None:
            self._bar.update(self._task, said=_listed(self._said))
        elif new:
            print(f"{self._title} {state.global_step}/{state.max_steps} {_listed(new)}", file=sys.stderr)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar down; safe to call twice."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _listed(said: dict[str, str]) -> str:
    return "  ".join(f"{name} {value}" for name, value in said.items())


class CompleteLog(TrainerCallback):
    """Logs at every checkpoint and at the end too: no step is missing in the log, even after a resume."""

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
    """Mean training loss over all steps of a log, each entry of which covers the steps since the last."""
    logged = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    total, before = 0.0, 0
    for step, loss in logged:
        total += loss * (step - before)
        before = step
    return total / before


class Guard(TrainerCallback):
    """Stops training that diverges.

    Raises:
        TrainingError: the gradient is not finite: the last step's would go into the weights unseen.
        TrainingError: a logged loss is above ``factor`` times that of the first step, and above ``least``,
            which keeps a lucky first step from condemning a healthy run.
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


def check_finite(what: str, value: float, step: int) -> None:
    """Stop at a loss or a gradient that is not a number.

    Raises:
        TrainingError: naming the step (from 1) and what usually helps.
    """
    if not math.isfinite(value):
        raise TrainingError(f"the {what} is {value} at step {step}; lower --learning-rate, or check the data")
