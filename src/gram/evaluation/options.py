"""What ``gram eval`` measures on: the options of a run, and the ``Selection`` that they mean.

Knows no model and no command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gram.bounds import Count, Seed
from gram.config_file import READABLE_AS_MAPPING
from gram.errors import ConfigError

if TYPE_CHECKING:
    from gram.evaluation.session import Selection


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Which benchmarks and files are measured on, how much of them, and where the report goes."""

    bench: list[str] = field(default_factory=list)
    """What to measure on: NAME, NAME=FILE (or NAME=FILE,FILE), or preference data; several at once."""
    data: list[str] = field(default_factory=list)
    """Preference data: files, dataset folders or Hub names. The same as --bench FILE."""
    output: Path
    """Folder for the records and the report."""
    split: str | None = None
    """Use only this split of preference data."""
    columns: str | None = field(default=None, metadata=READABLE_AS_MAPPING)
    """Names of columns of preference data: prompt=question,chosen=good; ignore=COLUMN leaves one out."""
    max_per_source: Count | None = None
    """Take at most this many items of each (a seeded sample; of RM-Bench and Ties whole units)."""
    seed: Seed = 0
    """Seed of that sample."""
    perturb: list[str] = field(default_factory=list)
    """Ask again with the worse answers dressed up: whitespace, markdown, filler. Each costs a whole run."""
    shard: str = "1/1"
    """i/n: ask only the i-th of n parts; the run that finds all n in OUTPUT merges them and reports."""
    calibrate: str | None = None
    """Fit a temperature on this preference file, and store it in the model's gram.json for gram.load."""
    on_error: Literal["raise", "skip"] = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT/NAME.rejects.jsonl and go on."""

    def selection(self, checks: Callable[[], Callable[[object], None] | None]) -> Selection:
        """What is measured on.

        Args:
            checks: gives what refuses rows that the model cannot be shown; called when the options are right.

        Raises:
            ConfigError: nothing to measure on, or options that exclude each other.
        """
        from gram.evaluation.session import Selection
        from gram.evaluation.shards import Shard

        if self.calibrate and (self.bench or self.data or Shard.parse(self.shard).of > 1):
            raise ConfigError("--calibrate takes one file, and neither --bench, --data nor --shard")
        specs = [self.calibrate] if self.calibrate else [*self.bench, *self.data]
        if not specs:
            raise ConfigError("give --bench (or --data) something to measure on, or --calibrate a file")
        return Selection(
            specs,
            self.split,
            self.max_per_source,
            self.seed,
            self.perturb,
            self.on_error,
            check=checks(),
            columns=self.columns,
        )
