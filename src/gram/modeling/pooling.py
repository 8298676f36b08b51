"""Where a sequence classifier's score is read: at the true last token, in training, scoring and elsewhere.

Transformers' classifiers read the score at the last token that is not the padding. Knows tokenizers and
configurations; knows no prompt.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from gram.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NO_TOKEN = -1
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")


def check_score_head(name: str, model: PreTrainedModel) -> None:
    """Refuse a classifier that is no decoder with one linear head.

    Raises:
        CheckpointError: naming the model.
    """
    if not isinstance(getattr(model, "score", None), nn.Module):
        raise CheckpointError(
            f"{name}: {type(model).__name__} has no scalar head on a decoder ('score'): encoders and models "
            "with heads of their own read an answer in another way, and are not scored"
        )


def set_pooling_pad(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make sure the score is read at the true last token.

    Hugging Face sequence classifiers read the score at the last id that is not the pad id. Where the pad
    token also ends an answer, they would read one token too early, and at another place than servers, which
    read the last token. Another special token then becomes the pad token, in the model and in the tokenizer,
    so that a batch padded by plain Hugging Face code is read at the same place too. Where there is no other
    one (GPT-2), no token is the padding: we pad on the left, and plain Hugging Face code refuses batches.
    """
    vocabulary = tokenizer.get_vocab()
    end_ids = {vocabulary.get(word) for word in (str(tokenizer.eos_token), *_END_OF_TURN)}
    candidates = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token)
    specials = [vocabulary.get(str(word)) for word in candidates if word is not None]
    specials += sorted(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)
    for token in specials:
        if token is not None and token not in end_ids:
            model.config.get_text_config().pad_token_id = token
            model.config.pad_token_id = token
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(token)
            return
    pool_at_the_end(model)


def pool_at_the_end(model: PreTrainedModel, padding: int | None = None) -> int | None:
    """Let a classifier read its score at the last column of a batch; returns the padding it passed over.

    Transformers reads the score at the last token that is not the padding. A model of others was trained so,
    and where its padding ends an answer too, at the token before the end. Rows cut to that place and padded
    on the left are read right in every batch once no token counts as padding.

    Args:
        padding: the token that was the padding in training, where the configuration may not say so.
    """
    text_config = model.config.get_text_config()
    if padding is None:
        padding = text_config.pad_token_id
    text_config.pad_token_id = model.config.pad_token_id = _NO_TOKEN
    return padding


def save_whole(model: PreTrainedModel, folder: Path) -> None:
    """Save a model as Hugging Face does; a padding that is no token is written as none."""
    configs = [
        config
        for config in (model.config, model.config.get_text_config())
        if getattr(config, "pad_token_id", None) == _NO_TOKEN  # a model that reads pictures: its text alone
    ]
    for config in configs:
        config.pad_token_id = None
    model.save_pretrained(folder)
    for config in configs:
        config.pad_token_id = _NO_TOKEN
