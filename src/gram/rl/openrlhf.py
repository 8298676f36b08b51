"""A reward as OpenRLHF calls it (0.11): a ``reward_func`` in a Python file, or JSON at ``/get_reward``.

OpenRLHF hands over whole texts, prompt and answer in one, with special tokens, one sample per call and from
several threads; what the dataset has as label comes along and serves as the reference answer. Knows these
two calls; imports nothing of OpenRLHF and serves nothing itself (``examples/openrlhf_server.py`` does).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

from gram.errors import DataError
from gram.rl.reward import Reward, reference_text
from gram.types import PromptLike

Read: TypeAlias = Callable[[str, Any], tuple[PromptLike, str | None]]

END_TOKENS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "</s>", "<eos>")
_TAIL = 64  # characters of a prompt that must be left for its end to be found, where its beginning was cut


def plain(prompt: str, label: Any) -> tuple[PromptLike, str | None]:
    """The prompt as it is, the label as the reference; an empty label is none."""
    return prompt, reference_text(label)


class OpenRlhfReward:
    """A ``reward_func`` and a ``/get_reward`` for OpenRLHF.

    OpenRLHF has no word for "no reward": a call that raises is logged, and the run ends a little later, where
    the rewards of a batch are put together. So an answer that could not be scored gets ``neutral`` (and a
    score of 0.5 where the reward has probabilities), and ``gram_failed`` is 1 in the logs; the failure limit
    of the reward stops the run.

    Args:
        reward: what to compute. There are no groups: a judge needs a reference.
        read: prompt text and label to prompt and reference. With a chat template applied the prompt is full
            of markers that a judge should not see; say here how to get back what the user asked (from the
            label, for example).
        end_tokens: cut off the end of answers, as often as they stand there.
        neutral: of a failed answer; 0 is "as good as the reference" in log-odds.
    """

    def __init__(
        self,
        reward: Reward,
        *,
        read: Read = plain,
        end_tokens: Sequence[str] = END_TOKENS,
        neutral: float = 0.0,
    ) -> None:
        self.reward = reward
        self._neutral = neutral
        self._read = read
        self._ends = tuple(end_tokens)
        self._one_at_a_time = threading.Lock()

    def __call__(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any
    ) -> dict[str, Any]:
        """``rewards`` and ``scores`` as tensors, ``extra_logs``.

        Raises:
            ScoringError: the failures are over the limit.
        """
        import torch

        found = self._found(queries, prompts, labels)
        return {
            "rewards": torch.tensor(found["rewards"]),
            "scores": torch.tensor(found["scores"]),
            "extra_logs": {name: torch.tensor(values) for name, values in found["extra_logs"].items()},
        }

    def get_reward(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer to the JSON of ``POST /get_reward``.

        Raises:
            DataError: a field is missing, or the lists differ in length.
            ScoringError: the failures are over the limit.
        """
        for field in ("query", "prompts", "labels"):
            if not isinstance(request.get(field), list):
                raise DataError("expected a list", field=field)
        return self._found(request["query"], request["prompts"], request["labels"])

    def _found(self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> dict[str, Any]:
        """Numbers per answer; the logs have the same names in every call, which OpenRLHF needs."""
        if not len(queries) == len(prompts) == len(labels):
            raise DataError(f"{len(queries)} queries, {len(prompts)} prompts and {len(labels)} labels")
        responses = [answer_in(*texts, self._ends) for texts in zip(queries, prompts, strict=True)]
        read = [self._read(*row) for row in zip(prompts, labels, strict=True)]
        with self._one_at_a_time:
            outcome = self.reward([prompt for prompt, _ in read], responses, [known for _, known in read])
        rewards = [self._neutral if reward is None else reward for reward in outcome.rewards]
        scores = [0.5 if score is None else score for score in outcome.scores] if outcome.scores else rewards
        return {
            "rewards": rewards,
            "scores": scores,
            "extra_logs": {
                "gram_failed": [float(reward is None) for reward in outcome.rewards],
                "gram_position_gap": [outcome.metrics.get("position_gap", 0.0)] * len(rewards),
            },
        }


def answer_in(query: str, prompt: str, end_tokens: Sequence[str] = END_TOKENS) -> str:
    """The answer: what follows ``prompt`` in ``query``, without tokens that end it.

    Where the prompt was cut to fit, it ends where the query up to there is the longest end of it.

    Raises:
        DataError: the prompt is not in the query.
    """
    answer = query[_end_of(prompt, query) :].rstrip()
    while end := next((token for token in end_tokens if token and answer.endswith(token)), ""):
        answer = answer.removesuffix(end).rstrip()
    return answer


def _end_of(prompt: str, query: str) -> int:
    """Where in ``query`` a prompt ends whose beginning may be cut off.

    Its last words may stand in earlier turns and in the answer too: the place counts before which all text
    is the prompt's, else the place before which most is, since a cut may leave half a character in front.
    """
    if query.startswith(prompt):
        return len(prompt)
    tail = re.escape(prompt[-_TAIL:])
    agreed = {
        found.end(1): _common_end(query[: found.end(1)], prompt)
        for found in re.finditer(f"(?=({tail}))", query)
    }
    if not agreed:
        raise DataError("does not hold its prompt, so that the answer cannot be told", field="query")
    return max(agreed, key=lambda end: (agreed[end] == end, agreed[end]))


def _common_end(one: str, other: str) -> int:
    """How many last characters the two share."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
