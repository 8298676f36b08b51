"""The questions that the doctor asks, in order: from what lies in the folder to what the model says.

A check is a function from ``Facts`` to findings, with a name; to add one, write it into the module it belongs
to and add a line here. Cheap ones come first. A fact that cannot be had is the error of the first check that
needs it, so that a check which is about a fact comes before those that use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from gram.doctor import answers, files, prompts, rows
from gram.doctor.facts import Facts
from gram.doctor.finding import Finding


class Look(Protocol):
    """Answers one question, with one finding or several; none where it does not apply to such a model.

    It may raise whatever a broken model raises: ``examine`` makes a finding of it.
    """

    def __call__(self, facts: Facts) -> Iterable[Finding]: ...


@dataclass(frozen=True)
class Check:
    """One question.

    Attributes:
        name: for lines and JSON.
        look: answers it.
        remedy: what to do where it fails and says no more than why.
    """

    name: str
    look: Look
    remedy: str


_FOLDER = "give a folder with config.json, or a name that can be fetched"
_CHAT = "mend chat_template.jinja, or take that of the model's publisher"
_TEMPLATE = "give a --template that fits, or restore gram.json"
_AGAIN = "copy or fetch the model again, or take an earlier checkpoint"
_OTHER = "take another model: no option mends this"
_REPORT = "report it with this line"

CHECKS: tuple[Check, ...] = (
    Check("folder", files.folder, _FOLDER),
    Check("config", files.config, _AGAIN),
    Check("manifest", files.manifest, "restore gram.json from where the model was saved"),
    Check("kind", files.kind, "give --kind scalar"),
    Check("files", files.files, _AGAIN),
    Check("tokenizer", files.tokenizer, "save the tokenizer beside the model (tokenizer.save_pretrained)"),
    Check("special_tokens", files.special_tokens, _REPORT),
    Check("chat_template", prompts.chat_template, _CHAT),
    Check("roles", prompts.roles, _CHAT),
    Check("date", prompts.date, _CHAT),
    Check("thoughts", prompts.thoughts, _CHAT),
    Check("prompts", prompts.prompts, _TEMPLATE),
    Check("cue", prompts.cue, "give a larger --max-length, or a shorter --template"),
    Check("begin_tokens", prompts.begin_tokens, _REPORT),
    Check("label_tokens", prompts.label_tokens, "give a --template whose labels are one token each"),
    Check("rows", rows.rows, "give --data a file, a dataset folder or a Hub name with rows of a known form"),
    Check("columns", rows.columns, _REPORT),
    Check("lengths", rows.lengths, _REPORT),
    Check("weights", files.weights, f"{_AGAIN}; of a language model, leave --kind scalar out"),
    Check("neighbours", answers.neighbours, _OTHER),
    Check("batches", answers.batches, _REPORT),
    Check("label_mass", answers.label_mass, _REPORT),
    Check("orders", answers.orders, _REPORT),
    Check("dtype", answers.dtype, _REPORT),
)
