"""Where a model is, for commands: here, as one or several; behind ``gram serve``; or on another server.

A source says how its model is loaded, and what it depends on. Knows names, files and options; opens no
weights before the model is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gram.asking import LoadOptions, Precision, refuse_calling
from gram.claims import Reads
from gram.scoring.remote.address import is_remote, refuse_elsewhere
from gram.serving.source import ServedSource, is_address
from gram.workers import WHOLE, Share

if TYPE_CHECKING:
    from typing import TypeAlias

    from gram.scoring.ensemble import Rule
    from gram.scoring.remote.source import RemoteSource
    from gram.types import RewardModel

    Source: TypeAlias = "LocalSource | ServedSource | RemoteSource"


def source_of(model: str, options: LoadOptions, given: Sequence[str]) -> ServedSource | RemoteSource | None:
    """The source of a model that is on a server; None for one that is here.

    Args:
        given: options of the command that were given, by name.

    Raises:
        ConfigError: some of them are not for such a model.
    """
    if is_address(model):
        return ServedSource(model, [name for name in given if name != "workers"])
    if is_remote(model):
        from gram.scoring.remote.source import RemoteSource

        return RemoteSource(model, options, given)
    return None


@dataclass(frozen=True)
class LocalSource:
    """Models of ``gram.load``, asked together.

    Attributes:
        models: their names; several are an ensemble.
        options: of ``gram.load``.
        rule, penalty: of ``gram.ensemble``.
        centre_on: rows for ``gram.scoring.rows.centre``.

    Raises:
        ConfigError: options of remote judges, or a model on a server.
    """

    models: Sequence[str]
    options: LoadOptions
    rule: Rule
    penalty: float
    centre_on: str | None

    def __post_init__(self) -> None:
        refuse_calling(self.options)
        for name in self.models:  # before one of them is fetched
            refuse_elsewhere(name)

    @property
    def both_orders(self) -> bool:
        """Each pair is asked both ways."""
        return self.options.both_orders

    @property
    def precision(self) -> Precision:
        """What ``dtype`` means for the model, here."""
        from gram.scoring.loading import precision_with

        return precision_with(self.models[0], self.options)

    @property
    def reads(self) -> Reads:
        """All local files that loading and asking the model reads."""
        from gram.modeling.adapter_folder import base_of
        from gram.modeling.shipped import model_folder

        options = self.options
        models = [str(name) for name in (*self.models, options.reference) if name is not None]
        first = options.revision  # of the first alone
        bases = [base_of(name, options.base, None if k else first) for k, name in enumerate(models)]
        files = [*(model_folder(name) or name for name in models), *bases, options.template]
        return Reads(files, [self.centre_on])

    def load(self, share: Share = WHOLE) -> RewardModel:
        """The model, or the ensemble, as ``asked_model`` gives it."""
        from gram.scoring.asked import asked_model

        return asked_model(self.models, self.options, self.rule, self.penalty, self.centre_on, share)

    def check(self) -> Callable[[object], None] | None:
        """Refuses rows with prompts that a model cannot be shown; None where there is nothing to refuse."""
        from gram.modeling.showing import showing

        return showing(self.models, self.options)

    def fingerprint(self) -> dict[str, Any]:
        """All that the scores depend on: a run can be continued only if none of it has changed.

        Raises:
            CheckpointError: a file of the model cannot be read.
            DataError: the rows of ``centre_on`` cannot.
        """
        from gram.data import read_scorables
        from gram.modeling.fingerprint import fingerprint_of

        centres = read_scorables(self.centre_on).sources if self.centre_on else ()
        return fingerprint_of(self.models, self.options) | {
            "ensemble": self.rule,
            "ensemble_penalty": self.penalty,
            "centre_on": [source.sha256 for source in centres],
        }
