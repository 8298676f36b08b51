"""Loading models and tokenizers from folders, Hub names or presets, with errors a person can act on.

A folder is a whole model, or an adapter whose base stands elsewhere; both become an ordinary model in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gram.errors import CheckpointError, ConfigError
from gram.modeling.adapter_folder import Adapter, read_adapter
from gram.modeling.adapters import (
    brings_score_head,
    check_base,
    check_going_on,
    continue_adapter,
    merge_adapter,
)
from gram.modeling.attaching import tensor_shapes
from gram.modeling.checks import check_finite, unembedded_words
from gram.modeling.digests import check_files, check_files_at, tell_lost_manifest
from gram.modeling.language_head import keep_language_head
from gram.modeling.manifest import Manifest, read_manifest
from gram.modeling.on_hub import manifest_at, on_disk, tell_unknown_manifest
from gram.modeling.opening import Head, context_of, has_tokenizer, open_tokenizer, open_weights
from gram.modeling.pooling import check_score_head, pool_at_the_end, set_pooling_pad
from gram.modeling.presets import build_model, find_preset, is_preset, train_tokenizer
from gram.modeling.shipped import Place, find_place

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, its tokenizer, and its manifest if the folder has one.

    Attributes:
        unread: of a scalar model that others trained, the token whose last occurrences transformers passes
            over when it looks for the place of the score; None: the score is read at the last token.
        brought: of an adapter that is going to be trained on, the names of the tensors that it holds.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    manifest: Manifest | None
    unread: int | None = None
    brought: tuple[str, ...] = ()

    @property
    def context(self) -> int:
        """Most tokens the model can read."""
        return context_of(self.model.config, self.tokenizer)


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


def load_model(
    reference: str | Path,
    head: Head,
    *,
    revision: str | None = None,
    base: str | Path | None = None,
    trust_remote_code: bool = False,
    new_head: bool = False,
    go_on: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> LoadedModel:
    """Load a folder, a model that comes with the package, or a Hub name: a whole model, or an adapter.

    Args:
        head: ``lm`` for a causal language model, ``score`` for a sequence classifier with one output.
        revision: branch, tag or commit of a Hub name, which may bring its own (``owner/name@revision``).
        base: of an adapter (a PEFT folder), the base in place of the one that the adapter names.
        trust_remote_code: run code that comes with the model.
        new_head: the model is going to be trained; with ``score``, give a language model a new head, drawn
            from torch's generator.
        go_on: the adapter's own weights are going to be trained: they stay apart from the base.

    Raises:
        CheckpointError: nothing there, broken files, or a model of another kind.
        ConfigError: a revision of something that is not on the Hub, a base of a whole model, or ``go_on``
            with a model that is no such adapter.
    """
    place = on_disk(find_place(reference, revision))
    manifest = manifest_at(place)
    adapter = read_adapter(place, base)
    tokenizer = _tokenizer(place, adapter, trust_remote_code)
    if place.folder:
        check_files(place.folder, manifest.files) if manifest else tell_lost_manifest(place.folder)
    if manifest and adapter:
        check_base(adapter, manifest.base)
    if go_on:
        check_going_on(place, adapter, head)
    model = _weights(place, adapter, head, new_head, dtype, trust_remote_code, go_on)
    if place.folder is None:  # its files are here now
        check_files_at(place, manifest.files) if manifest else tell_unknown_manifest(place)
    model = model.to(device).eval()  # type: ignore[arg-type]
    if not new_head:  # a model to train is found out by its first loss
        check_finite(place.name, model)
    if head == "score":
        check_score_head(place.name, model)
    unembedded_words(place.name, model, tokenizer)
    unread = None
    if head == "score" and (manifest or new_head):
        set_pooling_pad(model, tokenizer)
    elif head == "score":
        # trainers give a classifier the padding of its tokenizer: beside an adapter only that one tells it
        padding: Any = tokenizer.pad_token_id if adapter and has_tokenizer(place) else None
        unread = pool_at_the_end(model, padding)
    brought = tuple(tensor_shapes(adapter.folder)) if go_on and adapter else ()
    return LoadedModel(model, tokenizer, manifest, unread, brought)


def load_tokenizer(
    reference: str | Path,
    *,
    revision: str | None = None,
    base: str | Path | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, as ``load_model`` finds it, without the weights.

    Raises:
        CheckpointError, ConfigError: as ``load_model``.
    """
    place = on_disk(find_place(reference, revision))
    return _tokenizer(place, read_adapter(place, base), trust_remote_code)


def _tokenizer(place: Place, adapter: Adapter | None, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; an adapter without one has that of its base."""
    if adapter is None or has_tokenizer(place):
        return open_tokenizer(place, trust_remote_code=trust_remote_code)
    below = on_disk(adapter.base)
    return _tokenizer(below, read_adapter(below), trust_remote_code)


def _weights(
    place: Place,
    adapter: Adapter | None,
    head: Head,
    new_head: bool,
    dtype: torch.dtype | str,
    trust_remote_code: bool,
    go_on: bool = False,
) -> PreTrainedModel:
    """The weights of a whole model, or of an adapter on its base, which may be an adapter again.

    Of these the uppermost stays apart with ``go_on``.
    """
    if adapter is None:
        return open_weights(place, head, new_head=new_head, dtype=dtype, trust_remote_code=trust_remote_code)
    below, scores = on_disk(adapter.base), brings_score_head(adapter)
    lower = read_adapter(below)
    if lower and (manifest := read_manifest(lower.folder)):
        check_base(lower, manifest.base)
    if head == "lm" and scores:
        raise CheckpointError(
            f"{place.name}: the adapter of a scalar model has no language-model head; load it as kind "
            "'scalar'"
        )
    of_language = head == "score" and new_head and not scores
    model = _weights(
        below,
        lower,
        "lm" if of_language else head,
        head == "score" and scores,
        dtype,
        trust_remote_code,
    )
    if go_on:
        return continue_adapter(model, adapter)
    model = merge_adapter(model, adapter)
    return _with_score_head(model, trust_remote_code) if of_language else model


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scorer = _with_score_head(loaded.model, trust_remote_code=False)
    set_pooling_pad(scorer, loaded.tokenizer)
    return LoadedModel(scorer.eval(), loaded.tokenizer, loaded.manifest)


def _with_score_head(model: PreTrainedModel, trust_remote_code: bool) -> PreTrainedModel:
    """The body of a language model as a classifier with one output, drawn from torch's generator."""
    from transformers import AutoModelForSequenceClassification

    model.config.num_labels = 1
    scorer: Any = AutoModelForSequenceClassification.from_config(
        model.config, trust_remote_code=trust_remote_code
    )
    scorer.base_model.load_state_dict(model.base_model.state_dict())
    return scorer


def model_source(
    reference: str,
    texts: Callable[[], Iterable[str]],
    *,
    seed: int,
    head: Head,
    vocab_size: int | None,
    device: torch.device | str,
    revision: str | None = None,
    base: str | None = None,
    trust_remote_code: bool = False,
    language_head: bool = False,
    go_on: bool = False,
) -> LoadedModel:
    """A model to train: a preset built on ``texts``, or a folder or Hub name in fp32.

    Args:
        texts: called for a preset only: the texts its tokenizer learns from.
        language_head: with head ``score``, keep the language model's head beside it while it trains.
        go_on: train on the weights of an adapter, which stays apart from its base.

    Raises:
        CheckpointError: nothing there, or, with ``language_head``, no language model.
        ConfigError: no such preset, a language head that cannot be kept, or ``go_on`` without an adapter.
    """
    if is_preset(reference):
        preset = build_preset(reference, texts(), seed=seed, vocab_size=vocab_size)
        loaded = add_score_head(preset, seed) if head == "score" else preset
        if language_head:
            keep_language_head(loaded.model, preset.model)
        loaded.model.to(torch.device(device))  # type: ignore[arg-type]
        return loaded
    of_model: dict[str, Any] = {"revision": revision, "base": base, "trust_remote_code": trust_remote_code}
    torch.manual_seed(seed)  # a new score head must be the same on every process
    loaded = load_model(reference, head, new_head=True, go_on=go_on, **of_model)
    if language_head:  # read a second time, after the new score head has been drawn as it would be without
        keep_language_head(loaded.model, load_model(reference, "lm", **of_model).model)
    loaded.model.to(torch.device(device))  # type: ignore[arg-type]
    return loaded
