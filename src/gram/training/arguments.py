"""How to optimise, and what that means to ``transformers.Trainer``. Knows no objective and no data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import TrainingArguments

from gram.asking import Precision
from gram.errors import ConfigError
from gram.training.config import TrainConfig, check_run_length
from gram.training.stream import steps_for


@dataclass(frozen=True)
class FitSettings:
    """How to optimise; the fields are those of ``TrainConfig`` with the same names, ``auto`` decided.

    Example:
        >>> FitSettings(steps=100, batch_size=8).learning_rate
        0.0001
    """

    steps: int
    batch_size: int = 32
    token_budget: int | None = None
    learning_rate: float = 1e-4
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    seed: int = 0
    dtype: Precision = "fp32"
    gradient_checkpointing: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
    log_steps: int = 20
    eval_steps: int | None = None
    save_steps: int | None = None
    report_to: tuple[str, ...] = ("none",)

    def __post_init__(self) -> None:
        check_run_length(self.steps, self.batch_size)
        if self.dtype not in get_args(Precision):
            raise ConfigError(f"dtype must be one of {', '.join(get_args(Precision))}, got '{self.dtype}'")


def settings_of(config: TrainConfig, samples: int, device: str) -> FitSettings:
    """What ``config`` means for so many samples."""
    shared = {item.name for item in fields(FitSettings)} & {item.name for item in fields(TrainConfig)}
    values = {name: getattr(config, name) for name in shared - {"device", "report_to"}}
    steps = steps_for(samples, config.batch_size, epochs=config.epochs, max_steps=config.max_steps)
    return FitSettings(steps=steps, device=device, report_to=tuple(config.report_to), **values)  # type: ignore[arg-type]


def training_arguments(
    settings: FitSettings, folder: Path, *, saves: bool, evaluates: bool, lowers: bool
) -> TrainingArguments:
    """The trainer's own arguments for these settings.

    Args:
        lowers: whether accelerate is to lower the products, if they are bf16.

    Raises:
        ConfigError: a batch that cannot be divided among the processes, or saving between evaluations.
    """
    keep_best = evaluates and saves
    eval_every, save_every = _intervals(settings, keeps_best=keep_best)
    # Reentrant checkpointing, once transformers' default, finds no gradient under LoRA.
    checkpointing: dict[str, Any] = (
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
        if settings.gradient_checkpointing
        else {}
    )
    arguments = TrainingArguments(
        **checkpointing,
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=share_of(settings),  # cut by tokens in ``fit``
        train_sampling_strategy="sequential",  # the stream is in training order already
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        # Below 1: a share of the steps, rounded up. The first has rate 0: in a run of one it would be all.
        warmup_steps=settings.warmup if settings.steps > 1 else 0,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        adam_beta2=settings.adam_beta2,
        seed=settings.seed,
        bf16=lowers and settings.dtype == "bf16",
        use_cpu=settings.device == "cpu",
        average_tokens_across_devices=True,
        ddp_find_unused_parameters=False,
        logging_steps=settings.log_steps,
        logging_first_step=True,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=eval_every,
        save_strategy="steps" if saves else "no",
        save_steps=save_every,
        save_total_limit=2,
        load_best_model_at_end=keep_best,
        metric_for_best_model="eval_loss" if keep_best else None,
        greater_is_better=False if keep_best else None,
        report_to=list(settings.report_to),
        use_cache=True,  # this is written into the model's configuration; our forward passes never cache
        remove_unused_columns=False,
        label_names=[],
        disable_tqdm=True,
        dataloader_pin_memory=settings.device == "cuda",
    )
    # One process, one device: on several GPUs the trainer would otherwise multiply the batch by their number.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def check_settings(settings: FitSettings, *, evaluates: bool) -> None:
    """Check what does not need a model, so that a mistake does not wait for one to be loaded.

    Raises:
        ConfigError: as ``training_arguments``; or an experiment tracker that is not known or not installed.
    """
    share_of(settings)
    _intervals(settings, keeps_best=evaluates)
    _check_trackers(settings.report_to)


def _check_trackers(names: Sequence[str]) -> None:
    """Make each experiment tracker once, as the trainer will after loading: is it known, and installed?"""
    from transformers.integrations import get_reporting_integration_callbacks

    if list(names) in (["none"], ["all"]):
        return
    try:
        for tracker in get_reporting_integration_callbacks(list(names)):
            tracker()
    except Exception as error:  # whatever a tracker raises where it is missing or set up wrongly
        raise ConfigError(f"report_to {', '.join(names)}: {error}") from error


def _intervals(settings: FitSettings, *, keeps_best: bool) -> tuple[int, int]:
    """Steps from one evaluation to the next, and from one checkpoint to the next."""
    eval_every = settings.eval_steps or max(1, settings.steps // 10)
    save_every = settings.save_steps or eval_every
    if keeps_best and save_every % eval_every:
        raise ConfigError(f"save_steps {save_every} must be a multiple of eval_steps {eval_every}")
    return eval_every, save_every


def share_of(settings: FitSettings) -> int:
    """Examples of one step that one process reads.

    Raises:
        ConfigError: they cannot be dealt evenly.
    """
    world = processes()
    if settings.batch_size % world:
        raise ConfigError(f"batch_size {settings.batch_size} cannot be dealt to {world} processes")
    return settings.batch_size // world


def processes() -> int:
    """How many processes train together, as torchrun says."""
    return int(os.environ.get("WORLD_SIZE", "1"))
