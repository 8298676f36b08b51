"""What ``gram doctor`` can be asked: a model, how it would be asked, and rows for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gram.asking import ModelFlags, NoCalling
from gram.config_file import READABLE_AS_MAPPING


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(NoCalling, ModelFlags):
    """Look for what makes the scores of a model wrong or worth little, before a long run.

    Says a line for each question, ok, warning or error, with what to do; a question that a broken model
    leaves open is skipped, with the reason. Give the options that you would give to gram score. Nothing is
    written. Exits with 1 where there is an error. docs/doctor.md lists the questions.
    """

    data: str | None = None
    """Rows that the model is to be asked about or trained on: a file, a dataset folder or a Hub name."""
    split: str | None = None
    """Use only this split of the data."""
    columns: str | None = field(default=None, metadata=READABLE_AS_MAPPING)
    """Names of columns: prompt=question,chosen=good; ignore=COLUMN leaves one out."""
