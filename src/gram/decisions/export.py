"""A judge as a folder that transformers' decision pipeline loads: weights, tokenizer and two files.

That the pipeline will read our prompts, token by token, and the same labels is proved before anything is
written. Knows model folders and the pipeline's files; knows no command line.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, get_args

from gram.asking import Asking
from gram.claims import Reads, claimed_folder, refuse_full
from gram.decisions.decider import Request
from gram.decisions.folder import SETTINGS, TEMPLATE, YES_FIRST, DecisionFiles, read_decision_files
from gram.decisions.foreign import ForeignPrompts
from gram.decisions.prompts import OwnPrompts
from gram.errors import CheckpointError
from gram.files import atomic_folder, naming
from gram.modeling.adapter_folder import base_of
from gram.modeling.loading import LoadedModel, load_model
from gram.modeling.manifest import completed
from gram.modeling.on_hub import manifest_of
from gram.modeling.pooling import save_whole
from gram.modeling.renderers import renderer_for
from gram.modeling.saving import save_checkpoint
from gram.modeling.shipped import model_folder
from gram.rendering import Piece, Renderer
from gram.rendering.questions import QuestionKind, ShownQuestion, in_jinja

_log = logging.getLogger("gram.decisions")
_KINDS: tuple[QuestionKind, ...] = get_args(QuestionKind)
_STATES = (
    "It came late, and the box was open.",
    {"stars": 2, "text": "Naïve “café”\n\n- one\n- two"},
    [{"role": "user", "content": "Where is it?"}],
    [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " Where is it?\n"}],
)
_QUESTIONS: dict[str, Any] = {
    "plain": {"type": "noul", "instructions": "Is it a complaint?"},
    "described": {"type": "noul", "criteria": {"true": "It complains.", "false": {"else": ["all"]}}},
    "tone": {"type": "choice", "instructions": ["The tone?"], "criteria": {"calm": "Polite.", "angry": None}},
    "place": {"type": "choice", "instructions": "Where?", "criteria": {"a": None, "b": None, "c": None}},
    "urgency": {
        "type": "score",
        "instructions": "How urgent?",
        "criteria": ["It can wait.", "Today.", "Now."],
    },
}
"""What the two renderings are compared on."""


def export_decision(
    model: str,
    output: Path,
    *,
    revision: str | None = None,
    base: str | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Write ``model`` to ``output`` for ``transformers.pipeline("decision", model=output)``.

    A judge keeps its ``gram.json``, so that ``gram.load`` reads the folder as before; an adapter is merged.
    Temperatures of ``gram.json`` stand in ``decision.json``.

    Returns:
        A JSON-able summary: the folder, the kinds of questions, and how many options one may have.

    Raises:
        ConfigError: ``output`` holds something, or this transformers has no decision pipeline.
        CheckpointError: no judge, or one that the pipeline would ask in another way.
        TemplateError: labels that are not one token.
    """
    kind = completed(Asking(), manifest_of(model, revision)).kind
    if kind != "judge":
        raise CheckpointError(
            f"{model}: is a {kind} model, which gives numbers to whole answers and reads no labels; "
            "decisions are those of a judge, or of a language model without gram.json"
        )
    reads = Reads([model_folder(model) or model, base_of(model, base, revision)])
    with claimed_folder(output, reads=reads, whole=True):
        refuse_full(output)
        if read_decision_files(model, revision) is not None:
            raise CheckpointError(f"{model}: has a {SETTINGS} or a {TEMPLATE} of its own: it is one already")
        of_model: dict[str, Any] = {"revision": revision, "base": base}
        loaded = load_model(model, "lm", trust_remote_code=trust_remote_code, dtype="auto", **of_model)
        renderer = renderer_for(loaded, Asking(), source=model)
        files = decision_files(renderer, loaded, source=model)
        _write(output, loaded, files)
        _tell_of_mistaken(loaded, output)
    most = len(files.labels["choice"])
    return {"output": str(output), "questions": list(files.labels), "most_options": most}


def decision_files(renderer: Renderer, loaded: LoadedModel, *, source: str) -> DecisionFiles:
    """What the pipeline needs to ask as ``OwnPrompts`` does; proved on some requests.

    Raises:
        CheckpointError: it would read other tokens.
        TemplateError, ConfigError: as ``export_decision``.
    """
    own = OwnPrompts(renderer)
    sample = ShownQuestion("", "choice", "Which?", ["x", "y"], ["A", "B"], [None, None])
    begin = [renderer.tokenizer.convert_ids_to_tokens(token) for token in renderer.chat.chat_begin]
    pieces = [*(Piece(str(word)) for word in begin), *renderer.question_pieces("x", sample)]
    files = DecisionFiles(
        source,
        labels={kind: own.labels(kind) for kind in _KINDS},
        temperature=loaded.manifest.decisions.get("temperature", {}) if loaded.manifest else {},
        template=in_jinja(pieces),
    )
    theirs = ForeignPrompts(files, renderer.tokenizer, renderer.max_length)
    for kind, labels in files.labels.items():
        if not _same_labels(own, theirs, kind, len(labels)):
            raise CheckpointError(
                f"{source}: the labels {labels[:2]} are other tokens by themselves than behind its prompt; "
                "the pipeline looks them up by themselves, and would read the wrong ones"
            )
    for state in _STATES:
        request = Request(state, _QUESTIONS)
        ours = [prompt.ids for prompt in own.prompts(request.state, request.asked)]
        if ours != [prompt.ids for prompt in theirs.prompts(request.state, request.asked)]:
            raise CheckpointError(
                f"{source}: its chat format or tokenizer cannot be written as a decision template: the "
                "pipeline would read other tokens"
            )
    return files


def _same_labels(own: OwnPrompts, theirs: ForeignPrompts, kind: QuestionKind, count: int) -> bool:
    try:
        return own.label_ids(kind, count, "") == theirs.label_ids(kind, count, "")
    except CheckpointError:  # by themselves they are several tokens each
        return False


def _tell_of_mistaken(loaded: LoadedModel, output: Path) -> None:
    """Say so where the pipeline, given the folder's name, would not load this model but make another.

    transformers 5.23 takes every folder of some architectures for a decision model with a head, and draws
    weights for what it does not find.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_DECISION_MAPPING

    kind = type(loaded.model.config)
    known: Any = MODEL_FOR_DECISION_MAPPING
    if kind in known:
        _log.warning(
            "pipeline('decision', model='%s') would make a %s with new weights of it, as of every folder of "
            "this architecture: load AutoModelForCausalLM from the folder, and give the pipeline that model "
            "and the folder as its tokenizer",
            output,
            known[kind].__name__,
        )


def _write(output: Path, loaded: LoadedModel, files: DecisionFiles) -> None:
    settings = {
        "labels": files.labels,
        "temperature": files.temperature,
        "noul_options": list(YES_FIRST),
        "sanitize_control_tokens": files.sanitize_control_tokens,
        "adapter": None,
    }
    beside = {
        TEMPLATE: str(files.template),
        SETTINGS: json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
    }
    if loaded.manifest is not None:
        save_checkpoint(output, loaded.model, loaded.tokenizer, loaded.manifest, beside)
        return
    with atomic_folder(output, last=SETTINGS) as draft, naming(output):
        save_whole(loaded.model, draft)
        loaded.tokenizer.save_pretrained(draft)
        for name, text in beside.items():
            (draft / name).write_text(text, encoding="utf-8")
