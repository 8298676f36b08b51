"""A model that another machine serves, asked as if it were here: ``RemoteModel``.

Many threads and event loops may ask at once; the server makes batches of it all. Knows our own endpoints;
loads no torch, and no server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gram.errors import ConfigError, ScoringError
from gram.messages import Chat, as_answers
from gram.types import FloatArray, Pair, PromptLike, Usage, Verdicts, as_pairs
from gram.wire import RefusedError, Wire, together

R = TypeVar("R")

_CHUNK = 64  # pairs or answers of one request
_BYTES = 1_000_000  # of one request of several: proxies that let 1 MiB through are common
_TOO_LARGE = 413
_TOLD = {"id", "kind", "dtype", "scores", "slope", "template"}  # of a model, beside more


@dataclass(frozen=True, slots=True)
class _Hash:
    """A judge prompt, of which only the hash is known here."""

    hash: str


class RemoteModel:
    """A ``RewardModel`` behind ``gram serve``; a ``ScalarModel`` too (``RemoteScorer``) where that scores.

    Calls may come from any number of threads: they go side by side, through one pool of connections. What
    fails in a way that may pass (429, 503, no connection) is tried again after a growing, jittered wait,
    until the deadline.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000``.
        token: that the server wants.
        deadline: seconds for one call, all tries together.
        connections: open at a time.

    Attributes:
        name: of the model.

    Raises:
        ConfigError: no address, or that of another server.
        ScoringError: the server cannot be reached, or refuses.

    Example::

        judge = gram.RemoteModel("http://127.0.0.1:8000")
        judge.compare([gram.Pair("What is 2 + 2?", a="4", b="5")]).p_a
    """

    concurrent = True  # calls from several threads help each other

    def __new__(cls, url: str, **options: Any) -> RemoteModel:
        """A ``RemoteScorer`` where the server says that its model scores."""
        wire = Wire(url, **options)
        about = _about(wire.run(wire.get("/v1/models")), url)
        model = object.__new__(RemoteScorer if about["scores"] else RemoteModel)
        model._wire = wire
        model._about = about
        return model

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline: float = 300.0,
        connections: int = 64,
    ) -> None:
        self._options: dict[str, Any] = {"token": token, "deadline": deadline, "connections": connections}
        self._url = url
        self._usage = Usage()
        self.temperature = 1.0  # divides the log-odds, after that of the server's model

    _wire: Wire
    _about: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process has connections of its own."""
        return _again, (self._url, self._options), {"temperature": self.temperature}

    @property
    def name(self) -> str:
        return self._about["id"]

    @property
    def kind(self) -> str:
        """``judge``, ``likelihood``, ``scalar``, or ``ensemble``."""
        return self._about["kind"]

    @property
    def dtype(self) -> str:
        """Precision of the weights."""
        return self._about["dtype"]

    @property
    def both_orders(self) -> bool:
        """Each pair is asked both ways."""
        return self._about["both_orders"]

    @property
    def fingerprint(self) -> str:
        """Equal where all that the scores depend on is: the model's files, and how it is asked."""
        return self._about["fingerprint"]

    @property
    def slope(self) -> float:
        """Log-odds per unit of score."""
        return self._about["slope"] / self.temperature

    @property
    def template(self) -> _Hash | None:
        """The judge prompt's hash; None for models that are not asked with one."""
        return _Hash(self._about["template"]) if self._about["template"] else None

    @property
    def usage(self) -> Usage:
        """What all answers so far took together; what the server remembered took nothing."""
        return self._usage

    def tokens_cut(self, pairs: Iterable[Pair]) -> None:
        """None: it is not known before the model is asked."""

    def compare(self, pairs: Iterable[Pair]) -> Verdicts:
        """Verdicts for ``pairs``, as the served model gives them.

        Raises:
            WrongTypeError: something else than pairs.
            ScoringError: no number for one of them, or no answer in time.
        """
        return self._wire.run(self._compare(as_pairs(pairs)))

    async def acompare(self, pairs: Iterable[Pair]) -> Verdicts:
        """``compare`` without blocking the event loop."""
        return await _elsewhere(self._wire.start(self._compare(as_pairs(pairs))))

    async def _compare(self, pairs: Sequence[Pair]) -> Verdicts:
        items = [{"prompt": _turns(pair.prompt), "a": pair.a, "b": pair.b} for pair in pairs]
        rows, usage = await self._ask("/v1/compare", "pairs", items, _four)
        table = np.array(rows, dtype=np.float64).reshape(len(pairs), 4)
        log_odds, mass = table[:, :2] / self.temperature, table[:, 2:]
        if not self._about["scores"]:
            judged = Usage(judged=int(np.isfinite(mass).sum()), mass=float(np.nansum(mass)))
            self._usage += judged
            usage += judged
        return Verdicts(log_odds, mass, usage)

    async def _ask(
        self, path: str, name: str, items: Sequence[Any], read: Callable[[dict[str, Any]], R]
    ) -> tuple[list[R], Usage]:
        """What ``read`` finds in the answer to each item, by requests side by side, and what they took."""
        parts = await together(self._part(path, name, part) for part in _parts(items))
        answers = [answer for part in parts for answer in part]
        try:
            data = [one for answer in answers for one in answer["data"]]
            if len(data) != len(items):
                raise ScoringError(f"{self._url}: {len(data)} answers to {len(items)} questions")
            tokens = sum(answer["usage"]["prompt_tokens"] for answer in answers)
            usage = Usage(tokens=tokens, truncated=sum(one["tokens_cut"] > 0 for one in data))
            self._usage += usage
            for place, one in enumerate(data):
                if one["error"]:
                    what = f"{name.removesuffix('s')} {place} of this call"
                    raise ScoringError(f"{self._url}: no number for {what}: {one['error']}")
            return [read(one) for one in data], usage
        except (KeyError, TypeError, ValueError) as error:
            raise ScoringError(f"{self._url}{path}: the answer is none of gram serve ({error!r})") from None

    async def _part(self, path: str, name: str, items: list[Any]) -> list[Any]:
        """Answers to some items: to all at once, or to halves of them where a server takes no more."""
        try:
            return [await self._wire.post(path, {name: items})]
        except RefusedError as error:
            if error.status != _TOO_LARGE or len(items) == 1:
                raise
        middle = len(items) // 2
        halves = items[:middle], items[middle:]
        answers = await together(self._part(path, name, half) for half in halves)
        return [answer for half in answers for answer in half]


class RemoteScorer(RemoteModel):
    """A ``RemoteModel`` whose model gives single answers a number."""

    def score(self, prompts: Iterable[PromptLike], responses: Iterable[str]) -> FloatArray:
        """(n,) scores of ``responses[i]`` as an answer to ``prompts[i]``, as the served model gives them.

        Raises:
            WrongTypeError: a prompt or a response cannot be read.
            ScoringError: no number for one of them, or no answer in time.
        """
        return self._wire.run(self._score(*as_answers(prompts, responses)))

    async def ascore(self, prompts: Iterable[PromptLike], responses: Iterable[str]) -> FloatArray:
        """``score`` without blocking the event loop."""
        return await _elsewhere(self._wire.start(self._score(*as_answers(prompts, responses))))

    async def _score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray:
        rows = zip(prompts, responses, strict=True)
        items = [{"prompt": _turns(prompt), "response": response} for prompt, response in rows]
        rewards, _ = await self._ask("/v1/reward", "items", items, lambda one: float(one["reward"]))
        return np.array(rewards, dtype=np.float64)


def _about(answer: Any, url: str) -> dict[str, Any]:
    """What a server says of its model.

    Raises:
        ConfigError: it is not ``gram serve``.
    """
    models = answer.get("data") if isinstance(answer, dict) else None
    about = models[0] if isinstance(models, list) and models else None
    if not isinstance(about, dict) or not about.keys() >= _TOLD:
        raise ConfigError(
            f"{url}: is a server, but not gram serve. A judge elsewhere is named PROTOCOL:MODEL@URL, such as "
            f"openai:MODEL@{url.rstrip('/')}/v1 (docs/remote.md)"
        )
    return about


def _four(answer: dict[str, Any]) -> list[float]:
    """Log-odds in both orders, and masses; NaN where a pair was asked in one."""
    (first, second), (mass_first, mass_second) = answer["log_odds"], answer["mass"]
    return [np.nan if one is None else float(one) for one in (first, second, mass_first, mass_second)]


def _parts(items: Sequence[Any]) -> list[list[Any]]:
    """Items of one request each: as many, and as many bytes, as it may have, and at least one."""
    parts: list[list[Any]] = []
    size = 0
    for item in items:
        length = len(json.dumps(item))
        if not parts or len(parts[-1]) == _CHUNK or size + length > _BYTES:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += length
    return parts


def _again(url: str, options: dict[str, Any]) -> RemoteModel:
    return RemoteModel(url, **options)


def _turns(chat: Chat) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in chat]


async def _elsewhere(future: Future[Any]) -> Any:
    return await asyncio.wrap_future(future)
