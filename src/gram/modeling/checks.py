"""What a model's files must be before a score is read from them: settings of the right types, all weights.

Transformers draws missing weights at random and leaves unknown ones aside, and scores would be random, or
another model's. Knows Hugging Face's names of files and weights.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gram.errors import CheckpointError
from gram.modeling.strict_json import (
    SWITCH,
    TEXT,
    Rule,
    check,
    each,
    number,
    or_null,
    read_object,
    record,
    whole,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SCORE = "score.weight"  # the head of Hugging Face's decoder-only sequence classifiers
_SCORES = {SCORE, "classifier.weight"}  # of decoders, and of encoders
_HEADS = {
    "v_head": "the value head of TRL's AutoModelForCausalLMWithValueHead, of GRM or InternLM2-reward",
    "value_head": "the value head of OpenRLHF",
    "regression_layer": "the attribute heads of ArmoRM",
    "gating": "the gating layer of ArmoRM or URM, which weighs attributes by the prompt",
    "rewards": "a reward head of its project",
    "reward_head": "a reward head of its project",
    "rm_head": "a reward head of its project",
    "head_layer": "the pair head of PairRM, which reads two answers at marks in one text",
    "regression_head": "a reward head of its project",
    "reward_model_head": "a reward head of its project",
    "classifier": "a classifier's head with layers of its own",
    "classification_head": "a classifier's head with layers of its own",
    "weight_network": "a reward head of its project",
}
_HARMLESS = re.compile(
    r"(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias|embeddings\.position_ids)$"
)
_LAYER = re.compile(r"^(.*\.)?(layers|h|blocks|block)\.(\d+)\.")

_WIDTH = or_null(whole(1, 2**31))
_LAYERS = or_null(whole(0, 10_000))
_SETTINGS: dict[str, Rule] = {
    "config.json": record(
        {
            "model_type": TEXT,
            "architectures": or_null(each(TEXT, "a list")),
            "vocab_size": _WIDTH,
            "hidden_size": _WIDTH,
            "n_embd": _WIDTH,
            "num_hidden_layers": _LAYERS,
            "n_layer": _LAYERS,
            "num_layers": _LAYERS,
            "max_position_embeddings": or_null(number("a positive number", lambda value: value > 0)),
            "tie_word_embeddings": or_null(SWITCH),
            "id2label": or_null(record()),
            "label2id": or_null(record()),
            "auto_map": or_null(record()),
            "quantization_config": or_null(record()),
            "text_config": or_null(record()),
        }
    ),
    "tokenizer_config.json": record(
        {
            "model_max_length": or_null(number("a positive number", lambda value: value > 0)),
            "tokenizer_class": or_null(TEXT),
            "added_tokens_decoder": or_null(record()),
            **{
                f"{name}_token": or_null(
                    Rule("a string or an object", lambda value: isinstance(value, str | dict))
                )
                for name in ("bos", "eos", "pad", "unk")
            },
            "chat_template": or_null(
                Rule("a string or a list", lambda value: isinstance(value, str | list | dict))
            ),
        }
    ),
    "special_tokens_map.json": record(),
    "added_tokens.json": record(),
    "generation_config.json": record(),
    "model.safetensors.index.json": record({"weight_map": each(TEXT, "an object", of=dict)}),
}


def check_settings(folder: Path) -> None:
    """Refuse settings of a model or tokenizer that are no JSON, or have a field of another type than it has.

    Raises:
        CheckpointError: naming the file and the field.
    """
    for name, rule in _SETTINGS.items():
        path = folder / name
        if path.is_file():
            try:
                check(read_object(path, constants=True), rule, "", path)
            except CheckpointError as error:
                raise CheckpointError(f"{folder}: cannot be loaded as a model: {error}") from None


def check_weights(
    name: str,
    model: PreTrainedModel,
    info: Mapping[str, Any],
    head: str,
    new_head: bool,
) -> None:
    """Refuse files that lack weights, or hold weights that the model has no place for.

    Args:
        info: what transformers tells of the loading.
        head: ``lm`` or ``score``.
        new_head: whether a language model is to get a new score head.

    Raises:
        CheckpointError: naming the model, what it is, and what to do.
    """
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    for key, *shapes in sorted(info["mismatched_keys"]):
        there, wanted = (list(shape) for shape in shapes)
        if head == "score" and wanted[0] == 1:
            raise CheckpointError(
                f"{name}: a classifier with {there[0]} outputs ({key}), "
                "and a score is one number: which of them it would be is not known here. Save a "
                "model with one output (num_labels=1), such as the row of the class that means 'good', or "
                "the sum of the rows by fixed weights (docs/checkpoints.md)"
            )
        raise CheckpointError(
            f"{name}: config.json does not fit the weights: {key} is {there} in the files and {wanted} by "
            "config.json"
        )
    foreign = sorted(key for key in unexpected if key.split(".")[0] in _HEADS)
    if foreign and (head == "lm" or missing & _SCORES):  # else its own head is there, and this one beside it
        raise CheckpointError(
            f"{name}: its files hold {foreign[0]}, {_HEADS[foreign[0].split('.')[0]]}, which is read in a "
            "way of its own. A linear head without bias that is read at the last token can be renamed to "
            f"{SCORE} (with num_labels 1 in config.json); other heads are not scored. To ask the language "
            "model, take the head out"
        )
    if head == "lm" and SCORE in unexpected:
        raise CheckpointError(f"{name}: a scalar model has no language-model head; load it as kind 'scalar'")
    _refuse_leftovers(name, model, unexpected)
    if head == "score" and missing == {SCORE}:
        if new_head:
            return
        raise CheckpointError(f"{name}: is a language model and has no trained scalar head")
    if missing:
        raise CheckpointError(f"{name}: the files lack {len(missing)} weights, such as {min(missing)}")


def check_finite(name: str, model: nn.Module) -> None:
    """Refuse weights that are not numbers, of which no score could be one; one pass over them, no copies.

    Raises:
        CheckpointError: naming the first such tensor.
    """
    for key, weight in model.state_dict().items():
        if not weight.is_floating_point():
            continue
        total = weight.sum(dtype=torch.float32)
        if not torch.isfinite(total) and not torch.isfinite(weight).all():
            count = int((~torch.isfinite(weight)).sum())
            raise CheckpointError(
                f"{name}: {count} of the {weight.numel()} numbers in {key} are not finite (NaN or infinite): "
                "the training went wrong, or the file is damaged; take an earlier checkpoint"
            )


def embedded_tokens(model: PreTrainedModel) -> int:
    """How many tokens a model embeds, also under an adapter, whose layers stand in the place of its own."""
    embedding: Any = model.get_input_embeddings()
    return embedding.weight.shape[0]


def unembedded_words(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer whose ordinary words the model does not embed.

    Special tokens without an embedding, such as those of a family's larger models, are let through: they do
    not come out of text where control tokens are made harmless.

    Raises:
        CheckpointError: naming the first such word.
    """
    rows = embedded_tokens(model)
    if len(tokenizer) <= rows:
        return
    added = tokenizer.added_tokens_decoder
    words = [word for word, token in tokenizer.get_vocab().items() if token >= rows]
    special = {token.content for token in added.values() if token.special}
    ordinary = sorted(word for word in words if word not in special)
    if ordinary:
        raise CheckpointError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, the model embeds {rows}: "
            f"'{ordinary[0]}' would have no embedding"
        )


def _refuse_leftovers(name: str, model: PreTrainedModel, unexpected: set[str]) -> None:
    """Weights that belong to the body but have no place in it: config.json is another model's.

    Weights beside the body, such as those of a picture encoder, are left out with a warning.
    """
    modules = dict(model.named_modules())
    config: Any = model.config.get_text_config()
    more = getattr(config, "num_nextn_predict_layers", None) or 0  # layers that guess further tokens
    rest = []
    for key in sorted(key for key in unexpected if not _HARMLESS.search(key)):
        layer = _LAYER.match(key)
        layers = modules.get(f"{layer[1] or ''}{layer[2]}") if layer else None
        if layer and isinstance(layers, nn.ModuleList) and int(layer[3]) >= len(layers) + more:
            raise CheckpointError(
                f"{name}: config.json says {len(layers)} layers, and the files hold {key}: the number of "
                "layers in config.json was changed, or the weights are another model's"
            )
        owner = key.rpartition(".")[0]
        if owner and owner in modules:
            raise CheckpointError(
                f"{name}: the files hold {key}, for which the model that config.json describes has no place"
            )
        rest.append(key)
    rest = [key for key in rest if not key.startswith("lm_head.")]
    if rest:
        warnings.warn(
            f"{name}: {len(rest)} weights of its files are not part of a text model and are not used, such "
            f"as {rest[0]}",
            stacklevel=2,
        )
