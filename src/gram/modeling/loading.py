"""Loading models and tokenizers from folders, Hub names or presets, with errors a person can act on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from gram.asking import Dtype
from gram.errors import CheckpointError, ConfigError
from gram.modeling.language_head import keep_language_head
from gram.modeling.manifest import FILE, Manifest, read_manifest
from gram.modeling.pooling import check_score_head, pool_at_the_end, set_pooling_pad
from gram.modeling.presets import build_model, find_preset, is_preset, train_tokenizer
from gram.modeling.shipped import model_folder, named_revision, shipped_models

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Head: TypeAlias = Literal["lm", "score"]

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
_SCORE = "score.weight"  # the head of Hugging Face's decoder-only sequence classifiers
_UNLIMITED = 10**9  # tokenizers without a limit claim one of about 1e30


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and its manifest if the folder has one.

    Attributes:
        unread: of a scalar model that others trained, the token whose last occurrences transformers passes
            over when it looks for the place of the score; None: the score is read at the last token.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    manifest: Manifest | None
    unread: int | None = None

    @property
    def context(self) -> int:
        """Most tokens the model can read."""
        config = self.model.config.get_text_config()
        limits = [getattr(config, "max_position_embeddings", None), self.tokenizer.model_max_length]
        return int(min(limit for limit in (*limits, _UNLIMITED) if limit))


def choose_device(name: str | None) -> str:
    """``cpu`` or ``cuda``; by default cuda where there is one.

    Raises:
        ConfigError: an unknown device, or cuda where there is none.

    Example:
        >>> choose_device("cpu")
        'cpu'
    """
    available = torch.cuda.is_available()
    if name is None:
        return "cuda" if available else "cpu"
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device must be cpu or cuda, got '{name}'")
    if name == "cuda" and not available:
        raise ConfigError("device cuda: torch finds no GPU here")
    return name


def choose_dtype(name: Dtype, device: str) -> torch.dtype | Literal["auto"]:
    """The precision of weights on ``device``; auto: fp32 on a CPU, elsewhere the checkpoint's own.

    Example:
        >>> choose_dtype("auto", "cpu"), choose_dtype("auto", "cuda"), choose_dtype("bf16", "cpu")
        (torch.float32, 'auto', torch.bfloat16)
    """
    if name == "auto":
        return torch.float32 if device == "cpu" else "auto"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def load_model(
    reference: str | Path,
    head: Head,
    *,
    revision: str | None = None,
    new_head: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> LoadedModel:
    """Load a folder, a model that comes with the package, or a Hub name.

    Args:
        head: ``lm`` for a causal language model, ``score`` for a sequence classifier with one output.
        revision: branch, tag or commit of a Hub name, which may bring its own (``owner/name@revision``).
        new_head: with ``score``, give a language model a new head, drawn from torch's generator.

    Raises:
        CheckpointError: nothing there, broken files, or a model of another kind.
        ConfigError: a revision of something that is not on the Hub.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    folder = model_folder(reference)
    name, revision = (str(folder), revision) if folder else named_revision(str(reference), revision)
    if folder and revision is not None:
        raise ConfigError(f"revision {revision}: {name} is a folder; only models on the Hub have revisions")
    manifest = read_manifest(folder) if folder else None
    _check_exists(name)
    if folder:
        _check_tokenizer(folder)
    auto: Any = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    options = {} if head == "lm" else {"num_labels": 1}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name, revision=revision)
        with _quiet_about_weights():
            model, info = auto.from_pretrained(
                name, revision=revision, dtype=dtype, output_loading_info=True, **options
            )
    except Exception as error:  # the loaders raise OSError, ValueError, SafetensorError, RuntimeError, ...
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        problem = "cannot be loaded as a model" if folder else "no such folder, nor a model on the Hub"
        raise CheckpointError(f"{name}: {problem}: {reason}") from error
    _check_weights(name, info, head, new_head)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise CheckpointError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, "
            f"the model embeds {model.get_input_embeddings().num_embeddings}"
        )
    unread = None
    if head == "score":
        check_score_head(name, model)
    if head == "score" and (manifest or new_head):
        set_pooling_pad(model, tokenizer)
    elif head == "score":
        unread = pool_at_the_end(model)
    return LoadedModel(model.to(device).eval(), tokenizer, manifest, unread)


def load_reference(
    reference: str | Path,
    loaded: LoadedModel,
    *,
    device: str,
    dtype: torch.dtype | str = torch.float32,
) -> LoadedModel:
    """A second language model, whose scores are subtracted from those of ``loaded``.

    Raises:
        CheckpointError: as ``load_model``.
        ConfigError: it has another vocabulary.
    """
    other = load_model(reference, "lm", device=device, dtype=dtype)
    if other.tokenizer.get_vocab() != loaded.tokenizer.get_vocab():
        raise ConfigError(f"reference {reference}: its vocabulary differs from that of the model")
    return other


def build_preset(
    reference: str,
    texts: Iterable[str],
    *,
    seed: int,
    vocab_size: int | None = None,
) -> LoadedModel:
    """A from-scratch language model with a tokenizer trained on ``texts``.

    Raises:
        ConfigError: no such preset.

    Example:
        >>> build_preset("preset:tiny", ["the texts at hand"], seed=0).context
        1024
    """
    preset = find_preset(reference)
    tokenizer = train_tokenizer(texts, vocab_size or preset.vocab_size)
    tokenizer.model_max_length = preset.context
    return LoadedModel(build_model(preset, tokenizer, seed).eval(), tokenizer, None)


def add_score_head(loaded: LoadedModel, seed: int) -> LoadedModel:
    """The same body as a sequence classifier with one output; the head is drawn from ``seed``."""
    from transformers import AutoModelForSequenceClassification

    config = loaded.model.config
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scorer: Any = AutoModelForSequenceClassification.from_config(config)
    scorer.base_model.load_state_dict(loaded.model.base_model.state_dict())
    set_pooling_pad(scorer, loaded.tokenizer)
    return LoadedModel(scorer.eval(), loaded.tokenizer, loaded.manifest)


def model_source(
    reference: str,
    texts: Callable[[], Iterable[str]],
    *,
    seed: int,
    head: Head,
    vocab_size: int | None,
    device: torch.device | str,
    revision: str | None = None,
    language_head: bool = False,
) -> LoadedModel:
    """A model to train: a preset built on ``texts``, or a folder or Hub name in fp32.

    Args:
        texts: called for a preset only: the texts its tokenizer learns from.
        language_head: with head ``score``, keep the language model's head beside it while it trains.

    Raises:
        CheckpointError: nothing there, or, with ``language_head``, no language model.
        ConfigError: no such preset, or a language head that cannot be kept.
    """
    if is_preset(reference):
        preset = build_preset(reference, texts(), seed=seed, vocab_size=vocab_size)
        loaded = add_score_head(preset, seed) if head == "score" else preset
        if language_head:
            keep_language_head(loaded.model, preset.model)
        loaded.model.to(torch.device(device))  # type: ignore[arg-type]
        return loaded
    torch.manual_seed(seed)  # a new score head must be the same on every process
    loaded = load_model(reference, head, revision=revision, new_head=True)
    if language_head:  # read a second time, after the new score head has been drawn as it would be without
        keep_language_head(loaded.model, load_model(reference, "lm", revision=revision).model)
    loaded.model.to(torch.device(device))  # type: ignore[arg-type]
    return loaded


def _check_exists(name: str) -> None:
    folder = Path(name)
    looks_like_path = folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            other = f" ({FILE} alone is not a model)" if (folder / FILE).is_file() else ""
            raise CheckpointError(f"{name}: no config.json in this folder{other}")
    elif folder.exists():
        raise CheckpointError(f"{name}: a model is a folder, this is a file")
    elif looks_like_path:
        raise CheckpointError(f"{name}: no such folder; with gram come: {', '.join(shipped_models())}")


def _check_tokenizer(folder: Path) -> None:
    """Without its files transformers makes an empty tokenizer for some models, and all answers look alike."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(
            f"{folder}: no tokenizer in this folder (none of {', '.join(_TOKENIZER_FILES)}); "
            "save the tokenizer beside the model"
        )


def _check_weights(name: str, info: Mapping[str, Any], head: Head, new_head: bool) -> None:
    """Refuse files that lack weights: transformers would draw these at random, and scores would be random."""
    missing_weights = set(info["missing_keys"])
    if head == "score" and missing_weights == {_SCORE}:
        if new_head:
            return
        raise CheckpointError(f"{name}: is a language model and has no trained scalar head")
    if head == "lm" and _SCORE in info["unexpected_keys"]:
        raise CheckpointError(f"{name}: a scalar model has no language-model head; load it as kind 'scalar'")
    if missing_weights:
        raise CheckpointError(
            f"{name}: the files lack {len(missing_weights)} weights, such as {min(missing_weights)}"
        )


@contextmanager
def _quiet_about_weights() -> Iterator[None]:
    """Silence the loader's table of missing and unexpected weights, which ``_check_weights`` checks."""
    logger = logging.getLogger("transformers.modeling_utils")

    def errors_only(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(errors_only)  # a filter, as a raised level makes transformers log other warnings
    try:
        yield
    finally:
        logger.removeFilter(errors_only)
