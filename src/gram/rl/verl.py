"""A reward as verl calls it (0.10): ``compute_score``, sync or async, or for a whole batch.

verl passes one answer per call (``solution_str``), the label (``ground_truth``, here the reference answer)
and ``extra_info``, in which the dataset must hold the prompt. Knows this call; imports nothing of verl.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gram.errors import DataError
from gram.rl.reward import Reward, refuse_groups
from gram.rl.rows import reference_texts

_CALLS = 64  # of one worker of verl's that wait for their scores at a time


class VerlReward:
    """``compute_score`` for ``reward.custom_reward_function``.

    verl has no value for "no reward". Where the model failed, the score is ``neutral`` and ``failed`` is 1,
    which verl logs. Too many failures, by the limit of the reward, stop the run. The names are the same in
    every call: verl takes those of a batch's first answer and looks them up in all others.

    Args:
        reward: what to compute. There are no groups (a ``GroupReward`` is refused): a judge needs a
            reference.
        prompt_key: where in ``extra_info`` the prompt is, a string or messages.
        neutral: score of an answer on which the model failed; 0 is "as good as the reference" in log-odds.

    Raises:
        ConfigError: a reward that compares the answers of a call with each other.

    Example:
        >>> from gram.rl import LikelihoodReward
        >>> class Length:  # scores an answer by its number of characters
        ...     def score(self, prompts, responses):
        ...         return [len(response) for response in responses]
        >>> reward = VerlReward(LikelihoodReward(Length()))
        >>> reward.compute_score("my data", "because", ground_truth=None, extra_info={"prompt": "Why?"})
        {'score': 7.0, 'failed': 0.0, 'position_gap': 0.0}
    """

    def __init__(self, reward: Reward, *, prompt_key: str = "prompt", neutral: float = 0.0) -> None:
        refuse_groups(reward, "verl")
        self.reward = reward
        self._key = prompt_key
        self._neutral = neutral
        self._one_at_a_time = threading.Lock()
        self._threads = ThreadPoolExecutor(_CALLS, thread_name_prefix="gram-verl")

    def compute_score(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any,
        extra_info: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> dict[str, float]:
        """``score``, ``failed`` (0 or 1) and ``position_gap``, which is 0 where no judge gave one."""
        [result] = self.compute_scores([data_source], [solution_str], [ground_truth], [extra_info])
        return result

    async def compute_score_async(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any,
        extra_info: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> dict[str, float]:
        """``compute_score`` in a thread; calls go side by side where the model may be asked so."""
        call = partial(self.compute_score, data_source, solution_str, ground_truth, extra_info)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def compute_scores(
        self,
        data_sources: Sequence[str],
        solution_strs: Sequence[str],
        ground_truths: Sequence[Any],
        extra_infos: Sequence[Mapping[str, Any] | None],
        **_: Any,
    ) -> list[dict[str, float]]:
        """One ``compute_score`` per row, asked together: for verl's batch reward manager.

        Raises:
            DataError: a row without its prompt.
            ScoringError: the failures are over the limit.
        """
        prompts = [self._prompt(info) for info in extra_infos]
        references = reference_texts(ground_truths, "ground_truths")
        with self.reward.turn(self._one_at_a_time):
            outcome = self.reward(prompts, solution_strs, references)
        gap = outcome.metrics.get("position_gap", 0.0)
        return [
            {
                "score": self._neutral if reward is None else reward,
                "failed": float(reward is None),
                "position_gap": gap,
            }
            for reward in outcome.rewards
        ]

    def _prompt(self, info: Mapping[str, Any] | None) -> Any:
        prompt = info.get(self._key) if isinstance(info, Mapping) else None
        if prompt is None or (isinstance(prompt, Sized) and not len(prompt)):
            raise DataError("missing: the dataset must put the prompt here", field=f"extra_info.{self._key}")
        return prompt
