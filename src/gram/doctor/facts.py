"""What is known of a model: each thing is found out by the code that every command uses, when it is needed.

Knows how models are opened and asked; judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gram.asking import Asking, LoadOptions, Precision
from gram.doctor.examples import EASY, pairs_in
from gram.doctor.once import Fact, listening
from gram.doctor.options import DoctorOptions
from gram.doctor.table import Table, read_table
from gram.engine.choose import refuse_dependence
from gram.engine.heads import core
from gram.errors import CheckpointError
from gram.modeling.checks import check_settings
from gram.modeling.digests import tell_lost_manifest
from gram.modeling.kinds import holds_classifier, is_classifier
from gram.modeling.loading import LoadedModel, load_tokenizer
from gram.modeling.manifest import Manifest, completed
from gram.modeling.on_hub import manifest_at, on_disk
from gram.modeling.opening import Head, context_of, open_config
from gram.modeling.precision import whole_model
from gram.modeling.renderers import chat_settings, renderer_of
from gram.modeling.shipped import Place, find_place
from gram.rendering import NEW_SETTINGS, ChatSettings, ChatTemplate, Encoded, Renderer
from gram.scoring.loading import LocalModel, check_labels, loaded_with, precision_with, wrap
from gram.types import Answer, Pair, Verdicts

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_ASKED = 8  # pairs of the data that the model is asked about


class Facts:
    """What is known of a model.

    A fact that cannot be had raises ``Unknown`` for whoever needs it.

    Attributes:
        options: what the user wants to know.
        known: values of facts by name, and ``Unknown`` where there is none.
        heard: what was warned of when each was found out.
    """

    def __init__(self, options: DoctorOptions) -> None:
        self.options = options
        self.known: dict[str, Any] = {}
        self.heard: dict[str, list[str]] = {}

    @property
    def ask(self) -> LoadOptions:
        """As the user would ask the model."""
        return self.options.options

    @Fact
    def folder(self) -> Place:
        """Where the model is; its settings can be read."""
        place = on_disk(find_place(self.options.model, self.ask.revision))
        if place.folder:
            check_settings(place.folder)
        return place

    @Fact
    def config(self) -> PreTrainedConfig:
        """The configuration; of an adapter, that of its base."""
        place = whole_model(self.folder, self.ask.base)
        return open_config(place, trust_remote_code=self.ask.trust_remote_code)

    @Fact
    def manifest(self) -> Manifest | None:
        """``gram.json``; None where there is none."""
        found = manifest_at(self.folder)
        if found is None and self.folder.folder:
            tell_lost_manifest(self.folder.folder)
        return found

    @Fact
    def asking(self) -> Asking:
        """How the model is asked, with what its ``gram.json`` says."""
        return completed(self.ask, self.manifest)

    @property
    def kind(self) -> str:
        """``judge``, ``likelihood`` or ``scalar``."""
        return self.asking.kind or "judge"

    @Fact
    def head(self) -> Head:
        """The head that answers are read from; a classifier has no other than its own."""
        folder = self.folder.folder
        classifier = holds_classifier(folder) if folder else is_classifier(self.config.architectures)
        if classifier and self.kind != "scalar":
            raise CheckpointError(f"a sequence classifier, which gives a score and no words: no {self.kind}")
        return "score" if self.kind == "scalar" else "lm"

    @property
    def in_judge_prompt(self) -> bool:
        """Whether answers stand in the judge prompt; else each is a turn of the assistant."""
        return self.kind == "judge" or self.asking.context == "judge"

    @Fact
    def precision(self) -> Precision:
        """The precision in which the model is asked."""
        return precision_with(self.options.model, self.ask)

    @Fact
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer; of an adapter without one, that of its base."""
        of_model = {"revision": self.ask.revision, "base": self.ask.base}
        _ = self.folder
        return load_tokenizer(self.options.model, **of_model, trust_remote_code=self.ask.trust_remote_code)

    @Fact
    def chat(self) -> ChatSettings:
        """Settings of the chat format."""
        if self.manifest is None:
            return NEW_SETTINGS
        return chat_settings(self.manifest, source=self.options.model)

    @Fact
    def chat_template(self) -> ChatTemplate | None:
        """The chat template, tried under limits; None where there is none."""
        if not self.tokenizer.chat_template:
            return None
        return ChatTemplate(self.tokenizer, self.chat["date"], switched=self.chat["switch"] == "always")

    @Fact
    def prompts(self) -> Renderer:
        """What makes prompts for the model."""
        _ = self.chat_template
        readable = context_of(self.config, self.tokenizer)
        return renderer_of(
            self.tokenizer, self.manifest, self.ask, source=self.options.model, readable=readable
        )

    @Fact
    def label_tokens(self) -> tuple[int, int]:
        """The ids of a judge's two labels, which are those of its training."""
        check_labels(self.options.model, self.prompts, self.manifest)
        return self.prompts.label_ids

    @Fact
    def rows(self) -> Table | None:
        """The data; None where none was given."""
        if self.options.data is None:
            return None
        return read_table(self.options.data, self.options.split, self.options.columns)

    @Fact
    def weights(self) -> LoadedModel:
        """The model in memory, whose weights are complete and finite."""
        _ = self.config, self.tokenizer, self.head
        return loaded_with(self.options.model, self.ask)

    @Fact
    def neighbours(self) -> LoadedModel:
        """The same, proved to read a row the same way alone and in a batch, and from left to right."""
        refuse_dependence(core(self.weights.model))
        return self.weights

    @Fact
    def asked(self) -> LocalModel:
        """The model, ready to be asked; a judge in both orders."""
        _ = self.prompts, self.label_tokens if self.kind == "judge" else None
        options = replace(self.ask, both_orders=True)
        return wrap(self.neighbours, options, options, source=self.options.model)

    @Fact
    def pairs(self) -> list[Pair]:
        """A few pairs of the data, else easy ones of our own."""
        found = pairs_in(self.rows.items) if self.rows else []
        step = max(1, len(found) // _ASKED)
        return found[::step][:_ASKED] or list(EASY)

    @Fact
    def verdicts(self) -> Verdicts:
        """What the model says of ``pairs``."""
        with listening():  # it warns of a low label mass, which has a check of its own
            return self.asked.compare(self.pairs)

    def rendered(self, item: Pair | Answer) -> list[Encoded]:
        """The prompts with which the model would be asked about ``item``: of a judge, in one order.

        Raises:
            TemplateError: it cannot be shown.
        """
        if isinstance(item, Pair) and self.kind == "judge":
            return self.prompts.judge([item])
        answers: Sequence[str] = [item.a, item.b] if isinstance(item, Pair) else [item.response]
        return self.prompts.answers([item.prompt] * len(answers), answers, self.asking.context or "chat")
