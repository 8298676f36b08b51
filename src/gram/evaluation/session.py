"""One run of an evaluation: its items, the files of its records, and how a killed run goes on.

Reads the questions, asks any model about them, and writes the records; computes nothing from them. Knows
models as ``PreferenceModel`` or ``ScalarModel``; knows no command line and no report.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from gram.claims import Reads
from gram.data import ColumnsLike
from gram.errors import DataError
from gram.evaluation import runner, sources
from gram.evaluation.items import Item, preferences_of
from gram.evaluation.records import Record, records_in
from gram.evaluation.shards import RECORDS, WHOLE, Shard, merge_files
from gram.evaluation.sources import Questions, Source
from gram.evaluation.texts import perturbed
from gram.files import make_folder
from gram.journal import Journal, partial_of, remove_journal
from gram.types import Preference, PreferenceModel, RewardModel, ScalarModel
from gram.workers import Workers

FLOOR_ROWS = 5000
"""Training rows per source for the bag of words; more do not help it."""


@dataclass(frozen=True)
class Selection:
    """What to measure on, and how much of it.

    Attributes:
        specs: benchmarks and preference data, as ``sources.parse`` takes them.
        split: use only this split of preference data.
        max_per_source: at most this many items of each source.
        seed: of that sample.
        perturb: changes of the worse answers to ask about as well.
        on_error: what to do with a row that cannot be used: stop, or skip it.
        check: refuses items that the model cannot be shown, see ``gram.data.Options``.
        columns: which columns of preference data stand for which, as all readers take them.
    """

    specs: Sequence[str]
    split: str | None = None
    max_per_source: int | None = None
    seed: int = 0
    perturb: Sequence[str] = ()
    on_error: Literal["raise", "skip"] = "raise"
    check: Callable[[object], None] | None = None
    columns: ColumnsLike | None = None

    @property
    def sources(self) -> list[Source]:
        """What ``specs`` name."""
        return sources.parse(self.specs)

    @property
    def reads(self) -> Reads:
        """The data that the run reads."""
        return Reads(data=[file for source in self.sources for file, _ in source.files])

    def files(self, output: Path, shard: Shard) -> list[str]:
        """The names of the files that a ``Session`` writes into its folder."""
        records = [shard.file(output), output / RECORDS]
        names = [path.name for record in records[: shard.of] for path in (record, partial_of(record))]
        if self.on_error == "skip":
            for source in self.sources:
                rejects = sources.rejects_of(output / f"{source.name}.rejects.jsonl", len(source.files))
                names += [path.name for path in rejects] + [f"{source.name}.train.rejects.jsonl"]
        return names


class Session:
    """The questions of one run and the folder where its records are kept.

    Args:
        selection: what to measure on.
        output: the folder; made if it is missing.
        fingerprint: of the model and how it is asked; a run goes on only with an equal one.
        shard: the part of the run that is asked here.

    Raises:
        DataError: a row or file that cannot be used, with file, line and field.
        ConfigError: an option that makes no sense.
    """

    def __init__(
        self, selection: Selection, output: Path, fingerprint: Mapping[str, Any], shard: Shard = WHOLE
    ) -> None:
        make_folder(output)
        self.selection, self.output, self.shard = selection, output, shard
        self.questions = _questions(selection, output)
        items = [item for part in self.questions for item in part.items]
        self.items: list[Item] = items + perturbed(items, selection.perturb)
        data = [
            [q.source.name, q.source.benchmark.name, *(s.sha256 for s in q.infos)] for q in self.questions
        ]
        self._header = {
            **fingerprint,
            "max_per_source": selection.max_per_source,
            "seed": selection.seed,
            "perturb": list(selection.perturb),
            "data": data,
        }
        self.run = sha256(json.dumps(self._header, sort_keys=True).encode()).hexdigest()[:16]

    def on_file(self) -> tuple[list[Record], list[str]]:
        """What this very run left when it was finished before, so that no model is needed.

        A journal that the finished run had no time to remove goes.

        Returns:
            The records, if those of the whole run are on file, in one file or in those of all its parts. Else
            none; and, if only this part is on file, the names of the files that are missing.

        Raises:
            DataError: this part is on file, and the file of another is of another run, or torn.
        """
        records, missing = self._finished(WHOLE), list[str]()
        if records is None and self.shard.of > 1 and self._finished(self.shard) is not None:
            records, missing = merge_files(self.output, self.shard.of, self.items)
        if records or missing:
            for path in {self.output / RECORDS, self.shard.file(self.output)}:
                remove_journal(path)
        return records or [], missing

    def _finished(self, shard: Shard) -> list[Record] | None:
        """The records of a part of this run, if all of them are in its file, and no others."""
        try:
            records = list(records_in(shard.file(self.output)))
        except DataError:
            return None
        whole = [record.place for record in records] == runner.places(self.items, shard)
        return records if whole and {record.run for record in records} <= {self.run} else None

    @property
    def calls(self) -> int:
        """How many calls of a model the whole run makes, at most."""
        return -(-runner.comparisons(self.items) // runner.CHUNK)

    def ask(
        self, workers: Workers[PreferenceModel | ScalarModel], *, both_orders: bool = True
    ) -> tuple[list[Record], int, list[str]]:
        """Ask the model about every comparison of this part that has no record in its journal yet.

        Returns:
            The records; how many were on file; and, if other parts of the run are missing, their files' names
            (then there are no records yet).
        """
        [template] = workers.map(_template_hash, [None])
        journal = Journal(self.shard.file(self.output), self._header)
        resumed = journal.done
        records = runner.evaluate(
            workers,
            self.items,
            stamp=runner.Stamp(self.run, template, self.selection.seed),
            journal=journal,
            both_orders=both_orders,
            shard=self.shard,
        )
        journal.finish()
        if self.shard.of == 1:
            return records, resumed, []
        records, missing = merge_files(self.output, self.shard.of, self.items)
        return records, resumed, missing

    def training_rows(self) -> dict[str, Sequence[Preference]]:
        """Rows to train the bag of words of each source: the source's own training rows, where it has any."""
        rows_of: dict[str, Sequence[Preference]] = {}
        for questions in self.questions:
            rows = sources.training_rows(
                questions.source,
                self.selection.split,
                FLOOR_ROWS,
                on_error=self.selection.on_error,
                rejects=self.output / f"{questions.source.name}.train.rejects.jsonl",
                seed=self.selection.seed,
                columns=self.selection.columns,
            )
            # A row without a split belongs to every split: to the training rows and to those that are judged.
            test_texts = {_texts(row) for row in preferences_of(questions.items)}
            rows_of[questions.source.name] = [row for row in rows if _texts(row) not in test_texts]
        return rows_of


def _template_hash(model: PreferenceModel | ScalarModel, _: None) -> str:
    template = model.template if isinstance(model, RewardModel) else None
    return template.hash if template else ""


def _questions(selection: Selection, output: Path) -> list[Questions]:
    return [
        sources.load(
            source,
            max_per_source=selection.max_per_source,
            split=selection.split,
            on_error=selection.on_error,
            rejects=output / f"{source.name}.rejects.jsonl",
            seed=selection.seed,
            columns=selection.columns,
            check=selection.check,
        )
        for source in selection.sources
    ]


def _texts(row: Preference) -> tuple[object, frozenset[str]]:
    return row.pair.prompt, frozenset((row.pair.a, row.pair.b))
