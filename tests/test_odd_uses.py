"""The Python API used in odd ways: wrong arguments are named, and none of them gives a wrong number."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gram
from gram.asking import LoadOptions
from gram.errors import ConfigError, DataError, WrongTypeError
from gram.rl import GroupReward, LikelihoodReward, ReferenceReward, Shaping
from gram.rl.openrlhf import OpenRlhfReward
from gram.scoring.ensemble import JudgeEnsemble
from gram.training.config import TrainConfig
from gram.types import Pair, Preference, Verdicts
from oracles import NumberJudge, NumberScorer

PAIR = Pair("q", "a", "b")
judge, scorer = NumberJudge(), NumberScorer()
o: Any = None  # something that the type of an argument does not allow


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda: LoadOptions(both_orders="no"), "both_orders must be True or False, got 'no'"),  # type: ignore[arg-type]
        (lambda: LoadOptions(neutralise="no"), "neutralise must be True or False"),  # type: ignore[arg-type]
        (lambda: TrainConfig("m", ["d"], Path("o"), lora="no"), "lora must be True or False"),  # type: ignore[arg-type]
        (lambda: gram.rank(judge, "q", ["1", "2"], budget=1.5), "budget must be a whole number"),  # type: ignore[arg-type]
        (lambda: gram.rank(judge, "q", ["1", "2"], budget=0), "budget must be at least 1"),
        (lambda: gram.rank(judge, "q", ["1", "2"], seed="x"), "seed must be a whole number"),  # type: ignore[arg-type]
        (lambda: gram.rank(judge, "q", ["1", "2"], seed=-1), "seed must be at least 0"),
        (lambda: gram.rank(judge, "q", ["1", "2"], ["linear"]), "there is no schedule"),  # type: ignore[arg-type]
        (lambda: JudgeEnsemble([o, o], "minimum", "1"), "penalty must be a number"),  # type: ignore[arg-type]
        (lambda: Preference(PAIR, 7.0), r"p_a must be in \[0, 1\], got 7.0"),
        (lambda: Preference(PAIR, math.nan), r"p_a must be in \[0, 1\], got nan"),
        (lambda: Preference(PAIR, "1"), "p_a must be a number, got '1'"),  # type: ignore[arg-type]
        (lambda: Preference(PAIR, 1.0, margin=math.inf), "margin must be a finite number"),
        (lambda: LikelihoodReward(scorer, failure_limit=math.nan), "failure_limit must be a whole"),  # type: ignore[arg-type]
        (lambda: LikelihoodReward(scorer, failure_limit=-1), "failure_limit must be at least 0"),
        (lambda: GroupReward(judge, budget=0), "budget must be at least 1"),
        (lambda: GroupReward(judge, seed=-1), "seed must be at least 0"),
        (lambda: Shaping(scale="2"), "scale must be a number"),  # type: ignore[arg-type]
        (lambda: Shaping(scale=0.0), "scale must be a finite number above 0"),
        (lambda: Shaping(length_penalty=math.nan), "length_penalty must be a finite number"),
        (lambda: Shaping(length_residual="no"), "length_residual must be True or False"),  # type: ignore[arg-type]
        (lambda: Shaping(clip=(1.0,)), "clip must be"),  # type: ignore[arg-type]
        (lambda: Shaping(clip=(math.nan, 1.0)), "clip must be"),
    ],
)
def test_values_that_make_no_sense(use: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        use()


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda: LikelihoodReward("gram-135m"), r"'model': expected a model with score\(\), got a single s"),  # type: ignore[arg-type]
        (lambda: LikelihoodReward(judge), r"'model': expected a model with score\(\), got NumberJudge"),  # type: ignore[arg-type]
        (lambda: ReferenceReward(o), r"'model': expected a model with compare\(\), got nothing"),
        (lambda: GroupReward(scorer), r"'model': expected a model with compare\(\), got NumberScorer"),  # type: ignore[arg-type]
        (lambda: OpenRlhfReward(LikelihoodReward(scorer)).get_reward(o), "'request': expected an object"),
        (lambda: OpenRlhfReward(LikelihoodReward(scorer)).get_reward([1]), "'request': expected an object"),  # type: ignore[arg-type]
        (lambda: OpenRlhfReward(LikelihoodReward(scorer))(["q1"], ["q"], o), "'labels': expected a list"),
        (lambda: OpenRlhfReward(LikelihoodReward(scorer))("q1", ["q"], [""]), "'queries': expected a list"),
    ],
)
def test_arguments_of_another_kind(use: Callable[[], Any], reason: str) -> None:
    with pytest.raises(WrongTypeError, match=reason) as caught:
        use()
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, DataError)


def test_a_setting_that_is_wrong_for_every_row_is_no_failure_of_a_row() -> None:
    """A reward that counted it would go on without rewards until its limit."""

    class Uncentred:
        def score(self, prompts: Any, responses: Any) -> Any:
            raise ConfigError("centre them on some answers first")

    reward = LikelihoodReward(Uncentred())
    with pytest.raises(ConfigError, match="centre them"):
        reward(["q"] * 3, ["1"] * 3)
    assert reward.failures.count == 0


def test_verdicts_of_plain_lists() -> None:
    """Models of others may give lists; odds of 3 to 1 are 0.75."""
    verdicts = Verdicts([[math.log(3)] * 2], [[1, 1]])  # type: ignore[arg-type]
    assert verdicts.p_a.tolist() == pytest.approx([0.75]) and verdicts.mass.dtype == np.float64


def test_several_threads_ask_one_model(judge_folder: Path) -> None:
    model = gram.load(judge_folder, device="cpu")
    pairs = [Pair("q", f"answer {k} " * (k % 7 + 1), "another") for k in range(20)]
    wanted = model.compare(pairs).log_odds
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: model.compare(pairs).log_odds, range(8)))
    assert all((result == wanted).all() for result in results)


FORK = """
import os, signal, sys
import gram
model = gram.load(sys.argv[1], device="cpu", token_budget=8192)
rows = ["the bread is old . " * 200] * 8
wanted = model.score(["q"] * 8, rows)
child = os.fork()
if child == 0:
    signal.alarm(40)
    os._exit(0 if abs(model.score(["q"] * 8, rows) - wanted).max() < 1e-4 else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_asks_the_model_of_its_parent(likelihood_folder: Path) -> None:
    """With threads of torch, which a fork does not have: it would wait for them for ever."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(likelihood_folder)],
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "0", done.stderr
