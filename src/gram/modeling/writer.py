"""Answers written by a language model: greedily, as references, or sampled.

Knows a causal language model with a chat template; knows no reward.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from gram.errors import DataError, TemplateError
from gram.messages import as_chats
from gram.rendering import ChatTemplate
from gram.types import Chat, PromptLike

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Writer:
    """Answers prompts, for ``gram.rl.ReferenceReward(..., answer=Writer(...))`` or to look at a policy.

    Args:
        model: a causal language model. To write references, use one that is not being trained: a copy of the
            policy from before its training, not the policy itself.
        tokenizer: with a chat template.
        max_new_tokens: most tokens of an answer.
        temperature: 0 takes the likeliest token at every step.
        seed: of sampling; every call starts from it, so that equal prompts draw equal noise.
        batch_size: prompts answered together.

    Raises:
        TemplateError: the tokenizer has no chat template, or one that cannot be used.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> None:
        self._model: Any = model
        self._tokenizer: Any = _padding(tokenizer)
        self._generation_options: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "do_sample": temperature > 0,
        }
        if temperature > 0:
            self._generation_options |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
        if not tokenizer.chat_template:
            raise TemplateError("the tokenizer has no chat template, and a writer puts prompts into it")
        self._day = ChatTemplate(tokenizer).options  # a reference must not depend on the day it is written
        self._seed = seed
        self._batch_size = batch_size

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        revision: str | None = None,
        base: str | None = None,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> Writer:
        """A model folder, an adapter (on ``base``) or a Hub name (``owner/name@revision`` too)."""
        from gram.modeling.loading import load_model

        loaded = load_model(path, "lm", revision=revision, base=base, trust_remote_code=trust_remote_code)
        return cls(loaded.model, loaded.tokenizer, **options)

    def __call__(self, prompts: Iterable[PromptLike]) -> list[str]:
        """One answer per prompt.

        Raises:
            DataError: the template refuses a prompt, which is named.
            WrongTypeError: a prompt is none.
        """
        import torch

        texts = [self._text(chat, f"prompts[{place}]") for place, chat in enumerate(as_chats(prompts))]
        answers: list[str] = []
        was_training = self._model.training
        self._model.eval()
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(self._seed)
            for start in range(0, len(texts), self._batch_size):
                answers += self._write(texts[start : start + self._batch_size])
        self._model.train(was_training)
        return answers

    def _text(self, prompt: Chat, field: str) -> str:
        """The conversation as its template writes it, up to where the model is to speak."""
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
        try:
            return self._tokenizer.apply_chat_template(
                turns, **self._day, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # templates raise whatever they like, jinja2's own errors among it
            roles = ", ".join(turn.role for turn in prompt)
            reason = f"the tokenizer's chat template refuses turns of ({roles}): {error}"
            raise DataError(reason, field=field) from error

    def _write(self, texts: Sequence[str]) -> list[str]:
        batch = self._tokenizer(
            list(texts), add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        ).to(self._model.device)
        tokens = self._model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            pad_token_id=self._tokenizer.pad_token_id,
            **self._generation_options,
        )
        new = tokens[:, batch["input_ids"].shape[1] :]
        return [text.strip() for text in self._tokenizer.batch_decode(new, skip_special_tokens=True)]


def _padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer that can pad; where it has no token for that, any will do: padding is not attended to."""
    if tokenizer.pad_token_id is not None:
        return tokenizer
    padding = deepcopy(tokenizer)
    padding.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return padding
