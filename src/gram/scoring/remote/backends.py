"""Judges on servers, as ``JudgeBackend``: chat, completions, exact label scores, typed choices.

Each knows one kind of endpoint: what it is sent, and where the labels stand in its answer. Knows no command
and no file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Coroutine, Sequence
from typing import Any, NamedTuple

import numpy as np

from gram.errors import ConfigError, ScoringError
from gram.rendering import Encoded, JudgeTemplate
from gram.scoring.judge import LabelLogprobs
from gram.scoring.remote.calls import Calls
from gram.scoring.remote.prompts import Tokens, shown_text
from gram.scoring.remote.readings import (
    LabelReading,
    NoVerdictError,
    UnlistedError,
    read_echoed,
    read_labels,
    read_probabilities,
)
from gram.scoring.remote.server import Server
from gram.types import Pair, Usage

_ROUNDED = 1e-4
"""More than what a server of typed questions may have rounded to 0, at four digits."""
_NO_THOUGHTS = {"chat_template_kwargs": {"enable_thinking": False}}
_CHAT = (
    {"max_tokens": 1, "top_logprobs": 20},
    {"max_completion_tokens": 1, "top_logprobs": 20},
    {"max_tokens": 1, "top_logprobs": 5},
)
_COMPLETIONS = ({"max_tokens": 1, "logprobs": 20}, {"max_tokens": 1, "logprobs": 5})
"""Ways to ask for as much as a server gives: the next where it refuses one."""
_ALL = 2**20
"""More than any vocabulary, for llama.cpp, which lists as many tokens as one wants."""


class Read(NamedTuple):
    """A verdict on one prompt, the tokens that were read for it, and whether the server shortened it."""

    reading: LabelReading
    tokens: int
    truncated: bool = False


class RemoteBackend(ABC):
    """What all have in common: prompts side by side, and their readings as one table.

    Attributes:
        whole: whether probabilities are out of the whole vocabulary.
    """

    whole = True

    def __init__(self, calls: Calls, server: Server, tokens: Tokens | None, neutralise: bool) -> None:
        self._calls = calls
        self._server = server
        self._tokens = tokens
        self._neutralise = neutralise
        self._knows = False  # what the server takes

    def label_logprobs(self, pairs: Sequence[Pair], template: JudgeTemplate) -> LabelLogprobs:
        """See ``JudgeBackend``.

        Raises:
            ScoringError: no answer in time, no budget left, or an answer without the labels.
        """
        shown: Sequence[Encoded | str]
        if self._tokens is None:
            shown = [shown_text(pair, template, self._neutralise) for pair in pairs]
        else:
            shown = self._tokens.of(pairs)
        order = _in_trie_order(shown)
        alone = 0 if self._knows else 1  # the first prompt of all finds out what the server takes
        sent = self._calls.all(self._named(k, shown[k], template) for k in order[:alone])
        self._knows = True
        sent += self._calls.all(self._named(k, shown[k], template) for k in order[alone:])
        reads = [read for _, read in sorted(zip(order, sent, strict=True), key=lambda found: found[0])]
        cut = sum(bool(one.cut) for one in shown if not isinstance(one, str))
        cut += sum(read.truncated for read in reads)
        return LabelLogprobs(
            np.array([read.reading.values for read in reads]),  # (n, 2)
            Usage(tokens=sum(read.tokens for read in reads), truncated=cut),
            np.array([read.reading.bounded for read in reads]),
            self.whole,
        )

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int] | None:
        """None where the server makes the tokens: it tells of none how many it cut."""
        return None if self._tokens is None else [prompt.tokens_cut for prompt in self._tokens.of(pairs)]

    async def _named(self, place: int, shown: Encoded | str, template: JudgeTemplate) -> Read:
        try:
            return await self._read(shown, template)
        except NoVerdictError as error:
            raise ScoringError(f"{self._server.url}: prompt {place} of this call: {error}") from None

    async def _listed(
        self,
        path: str,
        body: dict[str, Any],
        names: Sequence[Collection[str]],
        ways: Sequence[dict[str, Any]],
        *,
        by_id: bool = False,
    ) -> Read:
        """The labels in the list of likeliest tokens; in that of all tokens, where the server has it."""
        listing, tokens = await self._server.listing(path, body, ways, by_id=by_id)
        is_open = await self._server.software() == "llamacpp"
        try:
            reading = read_labels(listing, names)
        except NoVerdictError:
            if not is_open:
                raise
            reading = None
        if reading is not None and not (reading.bounded and is_open):
            return Read(reading, tokens)
        key = "top_logprobs" if "top_logprobs" in ways[0] else "logprobs"
        body = body | ways[0] | {key: _ALL}
        listing, more = await self._server.whole_listing(path, body, names, by_id=by_id)
        return Read(read_labels(listing, names), tokens + more)

    @abstractmethod
    def _read(self, shown: Encoded | str, template: JudgeTemplate) -> Coroutine[Any, Any, Read]:
        """The verdict on one prompt."""


def _in_trie_order(shown: Sequence[Encoded | str]) -> list[int]:
    """The places of prompts, those that begin alike one after the other: a server with a prefix cache then
    reads a shared beginning once."""
    return sorted(range(len(shown)), key=lambda k: [one] if isinstance(one := shown[k], str) else one.ids)


class ChatBackend(RemoteBackend):
    """``/chat/completions``: the judge prompt is the user's turn; labels are read off the first token."""

    async def _read(self, shown: Encoded | str, template: JudgeTemplate) -> Read:
        assert isinstance(shown, str)
        names: list[Collection[str]] = [{label} for label in template.labels]
        body: dict[str, Any] = {"messages": [{"role": "user", "content": shown}]}
        body |= {"logprobs": True, "temperature": 1.0, "top_p": 1.0}
        match await self._server.software():
            case "vllm":
                ids = [await self._server.token_id(label) for label in template.labels]
                names = [
                    {f"token_id:{token}", label} for token, label in zip(ids, template.labels, strict=True)
                ]
                body |= {"logprob_token_ids": ids, "return_tokens_as_token_ids": True} | _NO_THOUGHTS
            case "llamacpp":
                body |= _of_llama_cpp(template.labels[0]) | _NO_THOUGHTS
            case "sglang":
                body |= _NO_THOUGHTS
        return await self._listed("/chat/completions", body, names, _CHAT)


class CompletionsBackend(RemoteBackend):
    """``/completions``: text or tokens, where the next token is the verdict."""

    async def _read(self, shown: Encoded | str, template: JudgeTemplate) -> Read:
        prompt = shown if isinstance(shown, str) else shown.ids
        body: dict[str, Any] = {"prompt": prompt, "temperature": 1.0, "top_p": 1.0}
        software = await self._server.software()
        names: list[Collection[str]] = [{label} for label in template.labels]
        ids = None if self._tokens is None else list(self._tokens.label_ids)
        if software == "llamacpp":
            body |= _of_llama_cpp(template.labels[0] if ids is None else ids[0])
        elif software == "vllm" and ids is not None:
            body |= {"logprob_token_ids": ids, "return_tokens_as_token_ids": True}  # older ones know no ids
        if software in ("vllm", "llamacpp") and ids is not None:
            names = [{f"token_id:{token}"} for token in ids]
        by_id = software == "llamacpp" and ids is not None
        try:
            read = await self._listed("/completions", body, names, _COMPLETIONS, by_id=by_id)
        except UnlistedError:
            if software != "vllm":
                raise
            return await self._echoed(body, prompt, template, 0)
        if read.reading.bounded and software == "vllm":
            return await self._echoed(body, prompt, template, read.tokens)
        return read

    async def _echoed(
        self, body: dict[str, Any], prompt: str | list[int], template: JudgeTemplate, tokens: int
    ) -> Read:
        """The same labels at the end of the prompt, whose own log-probabilities are told one by one."""
        values = []
        body = {name: value for name, value in body.items() if name != "logprob_token_ids"}
        for place, label in enumerate(template.labels):
            if isinstance(prompt, str):
                whole: str | list[int] = prompt + label
            else:
                assert self._tokens is not None
                whole = [*prompt, self._tokens.label_ids[place]]
            answered = await self._server.ask(
                "/completions", body | {"prompt": whole, "echo": True, "max_tokens": 1, "logprobs": 1}
            )
            at, text = (None, prompt) if isinstance(prompt, str) else (len(prompt), "")
            values.append(read_echoed(answered.content, at, text, label))
            tokens += answered.tokens
        return Read(LabelReading((values[0], values[1])), tokens)


class LabelScoreBackend(RemoteBackend):
    """vLLM's ``/generative_scoring`` and SGLang's ``/v1/score``: exact probabilities of label tokens."""

    def __init__(self, *common: Any, sglang: bool) -> None:
        super().__init__(*common)
        if sglang and self._tokens is None:
            raise ConfigError("sglang-score: reads tokens: name the model's folder with tokenizer=")
        self._sglang = sglang

    async def _read(self, shown: Encoded | str, template: JudgeTemplate) -> Read:
        if isinstance(shown, str):
            ids = await self._server.chat_ids(shown)
            labels = [await self._server.token_id(label) for label in template.labels]
        else:
            assert self._tokens is not None
            ids, labels = shown.ids, list(self._tokens.label_ids)
        await self._server.check_length(len(ids) + 1)  # vLLM would cut it in silence
        body = {"query": ids[:-1], "items": [ids[-1:]], "apply_softmax": False}
        if self._sglang:
            answered = await self._server.ask("/v1/score", body | {"label_token_ids": labels}, root=True)
            return Read(read_probabilities(_at(answered.content, "scores", 0)), answered.tokens)
        values, tokens = [], 0
        for order in (labels, labels[::-1]):  # the score is the probability of the first
            asked = body | {"label_token_ids": order}
            answered = await self._server.ask("/generative_scoring", asked, root=True)
            values.append(_at(answered.content, "data", 0, "score"))
            tokens += answered.tokens
        return Read(read_probabilities(values), tokens)


class ChoiceBackend(RemoteBackend):
    """``/v1/systemone``: the judge prompt is the state, and the labels are the options of one choice."""

    whole = False

    async def _read(self, shown: Encoded | str, template: JudgeTemplate) -> Read:
        first, second = (label.strip() for label in template.labels)
        options = {first: "The first answer is better.", second: "The second answer is better."}
        question = {"type": "choice", "instructions": "Which answer is better?", "criteria": options}
        body = {"state": shown, "questions": {"verdict": question}}
        answered = await self._server.ask("/v1/systemone", body, root=True)
        told = _at(answered.content, "answers", "verdict", "probabilities")
        reading = read_probabilities([_at(told, first), _at(told, second)], _ROUNDED)
        return Read(reading, answered.tokens, _was_cut(answered.content))


def _of_llama_cpp(label: str | int) -> dict[str, Any]:
    """llama.cpp tells nothing of a token without text (the end), so a label, by its text or its id, is drawn:
    the numbers are those before the bias. A prompt that is read in two parts, one of them kept, has slightly
    other numbers."""
    bias = {label: 100.0} if isinstance(label, str) else [[label, 100.0]]
    return {"logit_bias": bias, "cache_prompt": False}


def _was_cut(content: Any) -> bool:
    """Whether the state was shortened, which our own server tells and others need not."""
    try:
        return bool(_at(content, "x_gram", "verdict", "truncated"))
    except NoVerdictError:
        return False


def _at(content: Any, *path: str | int) -> Any:
    """What stands in an answer.

    Raises:
        NoVerdictError: nothing.
    """
    for key in path:
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            where = ".".join(map(str, path))
            raise NoVerdictError(f"the answer has no '{where}'; it begins {str(content)[:100]}") from None
    return content
