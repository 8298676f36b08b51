"""A server of a remote judge: what software it is, which takes more than OpenAI's options, and its tokens.

Knows vLLM, SGLang and llama.cpp by what their ``/models`` say; any other is taken by OpenAI's word alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from gram.errors import ConfigError, ScoringError
from gram.scoring.remote.address import Address
from gram.scoring.remote.calls import Answered, Calls
from gram.scoring.remote.readings import Listing, read_listing
from gram.wire import RefusedError

Software: TypeAlias = Literal["vllm", "sglang", "llamacpp", "other"]

_KNOWN: tuple[Literal["vllm", "sglang", "llamacpp"], ...] = ("vllm", "sglang", "llamacpp")
_UNFIT = (400, 422)
"""Statuses of a server that does not know an option, or a value of it."""
_CALL = {"type": "function", "function": {"name": "x", "arguments": {}}}


class Server:
    """One server and one model there.

    Args:
        calls: how it is asked.
    """

    def __init__(self, address: Address, calls: Calls) -> None:
        self.url = address.root + address.prefix
        self.model = address.model
        self._prefix = address.prefix
        self._calls = calls
        self._models: list[dict[str, Any]] | None = None
        self._ids: dict[str, int] = {}
        self._ways: dict[str, int] = {}
        self._shows_calls: bool | None = None

    async def ask(
        self,
        path: str,
        body: dict[str, Any],
        part: Callable[[Any], Any] = lambda answer: answer,
        *,
        root: bool = False,
    ) -> Answered:
        """``Calls.ask`` of this model.

        Args:
            root: the path is the server's; else it follows the ``/v1`` of the address, if that has one.
        """
        return await self._calls.ask(
            path if root else self._prefix + path, {"model": self.model} | body, part
        )

    async def software(self) -> Software:
        """What serves, as far as its list of models tells."""
        owners = {str(entry.get("owned_by", "")) for entry in await self._listed()}
        for name in _KNOWN:
            if name in owners:
                return name
        return "other"

    def models(self) -> list[str]:
        """The models that llama.cpp serves, which answers to any name; nothing of other software."""
        [names] = self._calls.all([self._names()])
        return names

    async def _names(self) -> list[str]:
        if await self.software() != "llamacpp":
            return []
        return sorted(str(entry.get("id", "")) for entry in await self._listed())

    async def token_id(self, label: str) -> int:
        """vLLM's token for a label.

        Raises:
            ConfigError: the label is not one token.
        """
        if label not in self._ids:
            asked = {"model": self.model, "prompt": label, "add_special_tokens": False}
            tokens = await self._tokens(asked)
            if len(tokens) != 1:
                raise ConfigError(f"{self.url}: the label {label!r} is {len(tokens)} tokens there, not one")
            self._ids[label] = tokens[0]
        return self._ids[label]

    async def chat_ids(self, text: str) -> list[int]:
        """vLLM's tokens of a user's turn and the beginning of the answer, by its own chat template."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}]}
        body |= {"add_generation_prompt": True, "chat_template_kwargs": {"enable_thinking": False}}
        return await self._tokens(body)

    def shows_calls(self) -> bool:
        """Whether the chat template writes the tool calls of a turn, by vLLM's tokens of a turn with one.

        Of other servers, which have no ``/tokenize``, it is taken for granted.
        """
        if self._shows_calls is None:
            [self._shows_calls] = self._calls.all([self._try_call()])
        return self._shows_calls

    async def _try_call(self) -> bool:
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}]
        called = [turns[0], turns[1] | {"tool_calls": sent_calls([_CALL])}]
        body = {"model": self.model, "add_generation_prompt": False}
        try:
            return await self._tokens(body | {"messages": turns}) != await self._tokens(
                body | {"messages": called}
            )
        except RefusedError as error:
            return error.status not in _UNFIT  # else the template refuses

    async def _tokens(self, body: dict[str, Any]) -> list[int]:
        content = (await self._calls.ask("/tokenize", body, free=True)).content
        tokens = content.get("tokens") if isinstance(content, dict) else None
        if not isinstance(tokens, list):
            raise ScoringError(f"{self.url}: /tokenize gives no tokens, as vLLM's does")
        return tokens

    async def check_length(self, count: int) -> None:
        """Refuse a prompt that the server would cut.

        Raises:
            ScoringError: it has more tokens than the model reads there.
        """
        longest = [
            entry["max_model_len"]
            for entry in await self._listed()
            if entry.get("id") == self.model and isinstance(entry.get("max_model_len"), int)
        ]
        if longest and count > longest[0]:
            raise ScoringError(
                f"{self.url}: a prompt of {count} tokens, label included, and the model reads {longest[0]}: "
                "give tokenizer= and max_length=, which shorten it fairly"
            )

    async def listing(
        self, path: str, body: dict[str, Any], ways: Sequence[dict[str, Any]], *, by_id: bool = False
    ) -> tuple[Listing, int]:
        """The likeliest tokens, and the tokens that were read, by the first way that the server takes.

        Args:
            by_id: see ``read_listing``.
        """

        def part(answer: Any) -> dict[str, Any]:
            listing = read_listing(answer, by_id=by_id)
            return {"top": listing.top, "sampled": listing.sampled}

        refusal: RefusedError | None = None
        for place in range(self._ways.get(path, 0), len(ways)):
            try:
                answered = await self.ask(path, body | ways[place], part)
            except RefusedError as error:
                if error.status not in _UNFIT:
                    raise
                refusal = refusal or error
            else:
                self._ways[path] = place
                listing, way = _listing(answered.content), ways[place]
                if await self.software() != "vllm":  # which lists the tokens that it is asked for
                    listing = listing.undrawn(way.get("top_logprobs") or way["logprobs"])
                return listing, answered.tokens
        assert refusal is not None
        raise refusal

    async def whole_listing(
        self, path: str, body: dict[str, Any], names: Sequence[Collection[str]], *, by_id: bool = False
    ) -> tuple[Listing, int]:
        """Of all tokens the ones that are called by ``names``, and the tokens that were read."""

        def part(answer: Any) -> dict[str, Any]:
            top = read_listing(answer, by_id=by_id).top
            return {
                "top": [entry for entry in top if any(entry[0] in name for name in names)],
                "sampled": None,
            }

        answered = await self.ask(path, body, part)
        return _listing(answered.content), answered.tokens

    async def _listed(self) -> list[dict[str, Any]]:
        if self._models is None:
            try:
                answer = await self._calls.get(f"{self._prefix or '/v1'}/models")
            except RefusedError as error:
                if error.status in (401, 403):
                    raise
                answer = {}
            data = answer.get("data") if isinstance(answer, dict) else None
            self._models = [entry for entry in data or [] if isinstance(entry, dict)]
        return self._models


def sent_calls(calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls as ``split_calls`` gives them, in OpenAI's form: with ids, and arguments as JSON.

    Example:
        >>> [call] = sent_calls([{"type": "function", "function": {"name": "look", "arguments": {}}}])
        >>> call["id"], call["function"]
        ('call00000', {'name': 'look', 'arguments': '{}'})
    """
    return [
        {
            "id": f"call{place:05}",  # nine characters, as Mistral's templates want
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for place, call in enumerate(calls)
    ]


def _listing(kept: dict[str, Any]) -> Listing:
    """A listing that was kept as JSON, where tuples are lists."""
    sampled = kept["sampled"]
    top = tuple((token, value) for token, value in kept["top"])
    return Listing(top, None if sampled is None else (sampled[0], sampled[1]))
