"""A reward as OpenRLHF calls it (0.11): a ``reward_func`` in a Python file, or JSON at ``/get_reward``.

OpenRLHF passes whole texts, prompt and answer in one, with special tokens, one sample per call and from
several threads. The label of the dataset is passed too and serves as the reference answer. Knows these two
calls; imports nothing of OpenRLHF and runs no server (``examples/openrlhf_server.py`` does).
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypeAlias

from gram.errors import DataError, WrongTypeError
from gram.messages import as_list, as_text, kind_of
from gram.rl.reward import Reward, refuse_groups
from gram.rl.rows import Reference, Response, readable, reference_text
from gram.types import PromptLike

Read: TypeAlias = Callable[[str, Any], tuple[PromptLike, Reference]]

END_TOKENS = (
    *("<|im_end|>", "<|endoftext|>", "</s>"),  # ChatML (Qwen, SmolLM), GPT's and OLMo's, Mistral's
    *("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|eot|>", "<|eom|>"),  # Llama 3 and 4, Granite
    *("<end_of_turn>", "<turn|>", "<eos>"),  # Gemma up to 3, and 4
    *("<|end|>", "<|return|>", "<|call|>"),  # Phi, gpt-oss
    *("<｜end▁of▁sentence｜>", "<|EOT|>"),  # DeepSeek, with its full-width bars, and its coder
    *("<|END_RESPONSE|>", "<|END_OF_TURN_TOKEN|>"),  # Command
    *("<|user|>", "<|observation|>"),  # GLM stops at the next turn
    *(
        "<|role_end|>",
        "[e~[",
        "[|endofturn|]",
        "<seed:eos>",
        "<|eos|>",
    ),  # Ling, MiniMax, EXAONE, Seed, Hunyuan
    *("<|assistant_end|>", "<SPECIAL_12>", "<|end_of_turn|>", "<end_of_utterance>"),  # Apertus, Nemotron, ...
)
"""What published models end their answers with."""
_TAIL = 64  # characters of a prompt that must be left for its end to be found, where its beginning was cut


def plain(prompt: str, label: Any) -> tuple[PromptLike, Reference]:
    """The prompt as it is, and the label as the reference; an empty label is no reference."""
    return prompt, readable(reference_text, label, "label")


class OpenRlhfReward:
    """A ``reward_func`` and a ``/get_reward`` for OpenRLHF.

    OpenRLHF has no value for "no reward": it logs a call that raises, and stops a little later, where it puts
    the rewards of a batch together. So an answer that could not be scored gets ``neutral`` (and a score of
    0.5 where the reward has probabilities), and ``gram_failed`` is 1 in the logs. Too many failures, by the
    limit of the reward, stop the run.

    Args:
        reward: what to compute. There are no groups (a ``GroupReward`` is refused): a judge needs a
            reference.
        read: a function from prompt text and label to prompt and reference. A prompt in a chat template is
            full of markers that a judge should not see; this function recovers what the user asked, for
            example from the label.
        end_tokens: removed from the end of an answer, also if several follow each other.
        neutral: reward of an answer that could not be scored; 0 is "as good as the reference" in log-odds.

    Raises:
        ConfigError: a reward that compares the answers of a call with each other.

    Example:
        >>> from gram.rl import LikelihoodReward
        >>> class Length:  # scores an answer by its number of characters
        ...     def score(self, prompts, responses):
        ...         return [len(response) for response in responses]
        >>> reward = OpenRlhfReward(LikelihoodReward(Length()))
        >>> request = {"query": ["Why?because</s>"], "prompts": ["Why?"], "labels": [""]}
        >>> reward.get_reward(request)["rewards"]
        [7.0]
    """

    def __init__(
        self,
        reward: Reward,
        *,
        read: Read = plain,
        end_tokens: Sequence[str] = END_TOKENS,
        neutral: float = 0.0,
    ) -> None:
        refuse_groups(reward, "OpenRLHF")
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

        answer = self._answer(queries, prompts, labels)
        return {
            "rewards": torch.tensor(answer["rewards"]),
            "scores": torch.tensor(answer["scores"]),
            "extra_logs": {name: torch.tensor(values) for name, values in answer["extra_logs"].items()},
        }

    def get_reward(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON answer to the JSON of ``POST /get_reward``.

        Raises:
            DataError: no object, a field is missing, or the lists differ in length.
            ScoringError: the failures are over the limit.
        """
        if not isinstance(request, Mapping):
            raise WrongTypeError(f"expected an object, got {kind_of(request)}", field="request")
        for field in ("query", "prompts", "labels"):
            if not isinstance(request.get(field), list):
                raise DataError("expected a list", field=field)
        return self._answer(request["query"], request["prompts"], request["labels"])

    def _answer(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]
    ) -> dict[str, Any]:
        """n rewards, scores and log values; the logs have the same names in every call, as OpenRLHF needs."""
        queries = as_list(queries, "queries", "a list of strings")
        prompts = as_list(prompts, "prompts", "a list of strings")
        labels = as_list(labels, "labels", "a list of labels")
        if not len(queries) == len(prompts) == len(labels):
            raise DataError(f"{len(queries)} queries, {len(prompts)} prompts and {len(labels)} labels")
        rows = [self._row(*row) for row in zip(queries, prompts, labels, strict=True)]
        with self.reward.turn(self._one_at_a_time):
            outcome = self.reward(
                [prompt for prompt, _, _ in rows],
                [response for _, response, _ in rows],
                [reference for _, _, reference in rows],
            )
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

    def _row(self, query: str, prompt: str, label: Any) -> tuple[PromptLike, Response, Reference]:
        """Prompt, answer and reference of one sample; in place of the answer, why there is none."""
        try:
            answer = answer_in(as_text(query, "query"), as_text(prompt, "prompt"), self._ends)
            question, reference = self._read(prompt, label)
            return question, answer, reference
        except DataError as error:
            return "", error, None


def answer_in(query: str, prompt: str, end_tokens: Sequence[str] = END_TOKENS) -> str:
    """The answer: what follows ``prompt`` in ``query``, without tokens that end it.

    OpenRLHF may have cut off the beginning of a prompt that was too long. The answer then begins where the
    query so far agrees with the longest end of the prompt. The query is text that a tokenizer read and wrote:
    accents may be composed in it, and white space be lost or gained. So where the prompt is not found to the
    letter, it is looked for without regard to these; the answer is to the letter of the query all the same.

    Raises:
        DataError: the prompt is not in the query.

    Example:
        >>> answer_in("<|user|>Why?<|assistant|>Because.<|end|>", "<|user|>Why?<|assistant|>")
        'Because.'
        >>> answer_in("<s>[INST] Why? [/INST] Because.</s>", "<s> [INST] Why? [/INST]")
        ' Because.'
    """
    end = _end_of(prompt, query)
    if end is None:
        end = _loose_end_of(prompt, query)
    if end is None:
        raise DataError("does not hold its prompt, so that the answer cannot be told", field="query")
    answer = query[end:].rstrip()
    while token := next((token for token in end_tokens if token and answer.endswith(token)), ""):
        answer = answer.removesuffix(token).rstrip()
    return answer


def _end_of(prompt: str, query: str) -> int | None:
    """Where in ``query`` a prompt ends whose beginning may be cut off.

    The last words of the prompt may occur in its earlier turns and in the answer too. Of all places where
    they end, the right one is that before which all text agrees with the prompt; if there is none, since a
    cut may leave half a character at the beginning, that before which most text does.
    """
    if query.startswith(prompt):
        return len(prompt)
    tail = re.escape(prompt[-_TAIL:])
    agreement_by_end = {
        match.end(1): _common_end(query[: match.end(1)], prompt)
        for match in re.finditer(f"(?=({tail}))", query)
    }
    return max(
        agreement_by_end,
        key=lambda end: (agreement_by_end[end] == end, agreement_by_end[end]),
        default=None,
    )


def _common_end(one: str, other: str) -> int:
    """How many last characters the two share."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _loose_end_of(prompt: str, query: str) -> int | None:
    """``_end_of``, whatever white space there is and however accents are written.

    White space at the end of the prompt is that of the query; where it is another, all that is there.
    """
    letters, ends = _letters(query)
    loose_end = _end_of(_letters(prompt)[0], letters)
    if loose_end is None:
        return None
    end = ends[loose_end - 1] if loose_end else 0
    space, rest = prompt[len(prompt.rstrip()) :], query[end:]
    if not space or rest.startswith(space):
        return end + len(space)
    return len(query) - len(rest.lstrip())


def _letters(text: str) -> tuple[str, list[int]]:
    """``text`` composed (NFC) and without white space, and where in ``text`` each of its characters ends."""
    composed: list[
        str
    ] = []  # by characters of the text that belong together, such as a letter and its accent
    ends: list[int] = []
    for place, character in enumerate(text, start=1):
        alone = unicodedata.normalize("NFC", character)
        joined = unicodedata.normalize("NFC", composed[-1] + character) if composed else alone
        if composed and (unicodedata.combining(character) or joined != composed[-1] + alone):
            composed[-1], ends[-1] = joined, place
        else:
            composed.append(alone)
            ends.append(place)
    parts = [(part, end) for part, end in zip(composed, ends, strict=True) if not part.isspace()]
    return "".join(part for part, _ in parts), [end for part, end in parts for _ in part]
