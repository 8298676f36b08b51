"""What a server draws changes no verdict: labels and bounds are read off the likeliest tokens alone."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

import gram
from fake_servers import Distribution, Fake, running
from gram import Pair
from gram.data import Scorable
from gram.errors import ScoringError
from gram.ranking.rows import ranking_row
from gram.scoring.judge import JudgeModel
from gram.scoring.rows import score_rows
from gram.types import Contest

PAIRS = [Pair(f"Question {k}?", "x", "y") for k in range(60)]


def among(listed: Distribution) -> Distribution:
    """All 42 words: those listed, and what they leave over for the others alike."""
    others = [f"w{k}" for k in range(40) if f"w{k}" not in listed]
    return listed | dict.fromkeys(others, (1 - sum(listed.values())) / len(others))


SECOND_HIDDEN = among({"A": 0.5, "w0": 0.1, "w1": 0.08, "w2": 0.07, "w3": 0.06, "B": 0.04})
BOTH_HIDDEN = among({"w0": 0.3, "w1": 0.2, "w2": 0.12, "w3": 0.1, "w4": 0.08, "A": 0.05, "B": 0.02})


def drawing(p: Distribution, *, refuses: bool = True) -> Fake:
    """A server that lists five and draws at temperature 1, as OpenAI documents it.

    Chat tells the drawn token apart; completions add it to the five likeliest.

    Args:
        refuses: to list more than five, where else it lists five all the same.
    """
    fake = Fake(most=5)
    fake.model = lambda prompt: p
    if refuses:
        fake.refuses = {"top_logprobs": 5, "logprobs": 5}
    luck = random.Random(0)

    def draw(answer: dict[str, Any]) -> dict[str, Any]:
        [word] = luck.choices(list(p), list(p.values()))
        logprobs = answer["choices"][0]["logprobs"]
        if "content" in logprobs:
            logprobs["content"][0] |= {"token": word, "logprob": math.log(p[word])}
        else:
            logprobs |= {"tokens": [word], "token_logprobs": [math.log(p[word])]}
            logprobs["top_logprobs"][0][word] = math.log(p[word])
        return answer

    fake.change = draw
    return fake


def log_odds(fake: Fake, protocol: str) -> np.ndarray:
    """(60,) of A against B, in one order."""
    with running(fake):
        model = gram.load(f"{protocol}:judge@{fake.v1}", both_orders=False)
        assert isinstance(model, JudgeModel)
        verdicts = model.compare(PAIRS)
    assert verdicts.bounded is not None and verdicts.bounded[:, 0].all()
    return verdicts.log_odds[:, 0]


@pytest.mark.parametrize("protocol", ["openai", "openai-completions"])
def test_a_drawn_token_moves_no_bound(protocol: str) -> None:
    """A 0.5 is listed, B 0.04 is not: it has at most the fifth, 0.06, so that the log-odds are log(0.5/0.06)
    = 2.1203, always. The true ones are log(0.5/0.04) = 2.5257. A drawn word of 0.0042 is not the fifth."""
    found = log_odds(drawing(SECOND_HIDDEN), protocol)
    np.testing.assert_allclose(found, np.full(60, math.log(0.5 / 0.06)), rtol=1e-9)


def test_a_drawn_token_is_told_from_the_likeliest_where_the_server_has_a_limit_of_its_own() -> None:
    """Asked for 20 it lists five, or six with the one that was drawn: where that is the least, the bound is
    that of the others. Where w3, the fifth, is drawn, 0.07 is the least of the others."""
    found = log_odds(drawing(SECOND_HIDDEN, refuses=False), "openai-completions")
    bounds = {round(math.log(0.5 / least), 6) for least in (0.06, 0.07)}
    assert {round(float(x), 6) for x in found} == bounds and found.max() < math.log(0.5 / 0.04)


def test_rows_of_candidates_say_how_many_comparisons_are_bounds() -> None:
    """Three candidates meet in three comparisons, all of them bounds. Exact ones are not told of."""
    contest = Contest("Which?", ("x", "y", "z"))
    with running(drawing(SECOND_HIDDEN)) as fake:
        model: Any = gram.load(f"openai:judge@{fake.v1}")
        [pair, row] = score_rows(model, [Scorable("p", PAIRS[0]), Scorable("c", contest)])
        ranking = gram.rank(model, contest.prompt, contest.responses)
        fake.model = lambda prompt: among({"A": 0.5, "B": 0.2})
        fake.change = lambda answer: answer
        exact = gram.rank(model, contest.prompt, contest.responses)
    assert pair["bounded"] == [True, True] and row["bounded"] == 3
    assert ranking_row(contest, ranking)["bounded"] == 3
    assert "bounded" not in ranking_row(contest, exact)


@pytest.mark.parametrize("protocol", ["openai", "openai-completions"])
def test_a_drawn_label_is_not_listed(protocol: str) -> None:
    """Neither label is among the five likeliest. Were the drawn one counted, B (0.02), which is drawn once in
    50 times, would beat A (0.05). In 60 prompts both are drawn; all are errors."""
    fake = drawing(BOTH_HIDDEN)
    drawn: set[str] = set()
    draw = fake.change

    def watched(answer: dict[str, Any]) -> Any:
        answer = draw(answer)
        logprobs = answer["choices"][0]["logprobs"]
        drawn.add(logprobs["content"][0]["token"] if "content" in logprobs else logprobs["tokens"][0])
        return answer

    fake.change = watched
    with running(fake):
        model = gram.load(f"{protocol}:judge@{fake.v1}", both_orders=False, connections=1)
        for pair in PAIRS:
            with pytest.raises(ScoringError, match="neither label is among the 5 likeliest"):
                model.compare([pair])
    assert {"A", "B"} <= drawn
