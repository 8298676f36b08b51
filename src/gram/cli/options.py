"""Options that several commands share: which model, how it is asked, and how its input is read."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from gram.asking import ModelFlags
from gram.bounds import Within
from gram.claims import Reads, claimed_files, claimed_folder
from gram.config_file import READABLE_AS_MAPPING
from gram.journal import partial_of
from gram.paths import path_beside
from gram.workers import WHOLE, Share, Workers, workers_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from gram.data import ExampleSet
    from gram.scoring.source import Source
    from gram.types import RewardModel, Usage

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ModelFlags):
    """Several models, several processes: the options of ``gram.ensemble`` as flags, beside the model."""

    model: str
    """Model folder, gram-135m (comes with the package), smollm2-135m (is fetched), Hub name, the
    http://HOST:PORT of gram serve, or openai:MODEL@http://HOST/v1 (docs/remote.md)."""
    ensemble_with: list[str] = field(default_factory=list)
    """More models of the same kind, asked together with the model as one."""
    ensemble: Literal["mean", "minimum", "uncertainty_weighted"] = "mean"
    """How the models agree: on the mean, on the worst case, or on the mean less their disagreement."""
    ensemble_penalty: Annotated[float, Within(0, 1_000_000)] = 0.5
    """uncertainty_weighted: how much the variance between the models costs."""
    centre_on: str | None = None
    """Ensembles of scalar models: rows whose answers put the models' zeros in one place."""
    workers: Annotated[int, Within(1, 256)] = 1
    """Processes that share the work, each with a model and its part of the cores (cuda: a GPU each)."""

    @cached_property
    def source(self) -> Source:
        """Where the model is: what it reads and depends on, and how it is loaded."""
        from gram.scoring.source import LocalSource, source_of

        plain = ModelOptions(model=self.model)
        given = [item.name for item in fields(plain) if getattr(self, item.name) != getattr(plain, item.name)]
        models = [self.model, *self.ensemble_with]
        ensemble = (self.ensemble, self.ensemble_penalty, self.centre_on)
        return source_of(self.model, self.options, given) or LocalSource(models, self.options, *ensemble)

    def load_model(self, share: Share = WHOLE) -> RewardModel:
        """The model, or the ensemble."""
        return self.source.load(share)

    def at_work(
        self, parts: int, load: Callable[[Share], RewardModel] | None = None
    ) -> AbstractContextManager[Workers[RewardModel]]:
        """Workers with what ``load`` or ``load_model`` gives; no more than there are ``parts`` of work."""
        return workers_with(load or self.load_model, min(self.workers, max(1, parts)))


@dataclass(frozen=True, kw_only=True)
class InputOptions(ModelOptions):
    """Which rows to ask about."""

    input: str
    """Rows to ask about: a file, a dataset folder or a Hub name."""
    split: str | None = None
    """Use only this split."""
    columns: str | None = field(default=None, metadata=READABLE_AS_MAPPING)
    """Names of columns: prompt=question,chosen=good; ignore=COLUMN leaves one out."""
    on_error: Literal["raise", "skip"] = "raise"
    """A row that cannot be used: stop, or write it to OUTPUT.rejects.jsonl (else rejects.jsonl) and go on."""

    def claimed(self, output: Path | None, journal: Path | None = None) -> AbstractContextManager[None]:
        """Hold ``output`` against other runs, and all that is written against what is read.

        Args:
            journal: where it is not the output itself.
        """
        outputs = [path for path in (output, journal) if path is not None]
        beside = [partial_of(path) for path in outputs[-1:]]
        if self.on_error == "skip":
            beside.append(_rejects(output))
        return claimed_files(outputs[:1] or beside, [*outputs[1:], *beside] if outputs else [], self._reads)

    def claimed_folder(self, output: Path) -> AbstractContextManager[None]:
        """As ``claimed``, where the output is a folder and all in it is written."""
        beside = [_rejects(output)] if self.on_error == "skip" else []
        return claimed_folder(output, reads=self._reads, beside=beside, whole=True)

    @property
    def _reads(self) -> Reads:
        return Reads(self.source.reads.files, [*self.source.reads.data, self.input])

    def read(self, reader: Callable[..., ExampleSet[T]], output: Path | None) -> ExampleSet[T]:
        """What ``reader`` makes of the input; bad rows go beside ``output``."""
        how = {"split": self.split, "columns": self.columns, "on_error": self.on_error}
        return reader(self.input, **how, rejects=_rejects(output), check=self.source.check())

    def fingerprint(self, rows: ExampleSet[Any]) -> dict[str, Any]:
        """All that the answers about ``rows`` depend on: a run goes on only if none of it has changed."""
        return self.source.fingerprint() | {"input": [source.sha256 for source in rows.sources]}


def _rejects(output: Path | None) -> Path:
    return Path("rejects.jsonl") if output is None else path_beside(output, after=".rejects.jsonl")


def counts(usage: Usage, resumed: int) -> dict[str, Any]:
    """What a result says of the asking; how many prompts of ``resumed`` rows were shortened is not known."""
    told = {"truncated_prompts": None if resumed else usage.truncated, "label_mass": usage.label_mass}
    return told | ({"bounded": usage.bounded} if usage.bounded else {})
