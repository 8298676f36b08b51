"""A model's files opened by transformers: tokenizer and weights, with errors a person can act on.

Code that comes with a model runs only where that was allowed; nothing asks on the terminal. Knows folders
and Hub names; knows nothing of adapters or of how a model is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from gram.errors import CheckpointError
from gram.modeling.checks import check_settings, check_weights
from gram.modeling.shipped import Place

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Head: TypeAlias = Literal["lm", "score"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
_UNLIMITED = 10**9  # tokenizers without a limit claim one of about 1e30
_TRUST = "--trust-remote-code (trust_remote_code=True)"


def has_tokenizer(place: Place) -> bool:
    """Whether a folder holds the files of a tokenizer."""
    return place.folder is not None and any((place.folder / name).is_file() for name in TOKENIZER_FILES)


def open_tokenizer(place: Place, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or Hub name.

    Raises:
        CheckpointError: there is none. Without its files transformers makes an empty one for some models, and
            all answers look alike.
    """
    from transformers import AutoTokenizer

    if place.folder and not has_tokenizer(place):
        raise CheckpointError(
            f"{place.name}: no tokenizer in this folder (none of {', '.join(TOKENIZER_FILES)}); "
            "save the tokenizer beside the model"
        )
    if place.folder:
        check_settings(place.folder)
    with _told(place):
        return AutoTokenizer.from_pretrained(
            place.name, revision=place.revision, trust_remote_code=trust_remote_code
        )


def open_config(place: Place, *, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration of a folder or Hub name, without its weights.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    from transformers import AutoConfig

    if place.folder:
        check_settings(place.folder)
    with _told(place):
        return AutoConfig.from_pretrained(
            place.name, revision=place.revision, trust_remote_code=trust_remote_code
        )


def context_of(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens that a model with this configuration and tokenizer can read."""
    limits = [getattr(config.get_text_config(), "max_position_embeddings", None), tokenizer.model_max_length]
    return int(min(limit for limit in (*limits, _UNLIMITED) if limit))


def open_weights(
    place: Place,
    head: Head,
    *,
    new_head: bool,
    dtype: torch.dtype | str,
    trust_remote_code: bool,
) -> PreTrainedModel:
    """The model of a folder or Hub name, on the CPU.

    Args:
        head: ``lm`` for a causal language model, ``score`` for a sequence classifier with one output.
        new_head: with ``score``, draw a new head for a language model from torch's generator.

    Raises:
        CheckpointError: broken files, or a model of another kind.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto: Any = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    if place.folder:
        check_settings(place.folder)
    options: dict[str, Any] = {"revision": place.revision, "trust_remote_code": trust_remote_code}
    with _told(place), _quiet_about_weights():
        labels = {} if head == "lm" else {"num_labels": 1}
        model, info = auto.from_pretrained(
            place.name,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **options,
            **labels,
        )
    check_weights(place.name, model, info, head, new_head)
    return model


@contextmanager
def _told(place: Place) -> Iterator[None]:
    """What transformers raises, as an error of ours that names the model, and what to do if that is known."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # the loaders raise OSError, ValueError, SafetensorError, RuntimeError, ...
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "trust_remote_code" in str(error):
            raise CheckpointError(
                f"{place.name}: comes with code of its own, which is not run unasked; "
                f"read that code, and allow it with {_TRUST}"
            ) from error
        if "Unrecognized configuration class" in str(error):
            raise CheckpointError(
                f"{place.name}: transformers has no such model of this kind: encoders, and rankers made of "
                "them such as PairRM, read an answer in another way, and are not scored"
            ) from error
        problem = "cannot be loaded as a model" if place.folder else "no such folder, nor a model on the Hub"
        if isinstance(error, ImportError) or "quantiz" in str(error).lower():
            problem = (
                "its weights need a library, or a device, that is not here (an unquantised copy would do)"
            )
        raise CheckpointError(f"{place.name}: {problem}: {reason}") from error


@contextmanager
def _quiet_about_weights() -> Iterator[None]:
    """Silence the loader's table of missing and unexpected weights, which ``check_weights`` checks."""
    logger = logging.getLogger("transformers.modeling_utils")

    def errors_only(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(errors_only)  # a filter, as a raised level makes transformers log other warnings
    try:
        yield
    finally:
        logger.removeFilter(errors_only)
