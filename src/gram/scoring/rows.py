"""Rows to numbers: the output rows of ``gram score`` for pairs, candidates and single answers.

Knows models as ``RewardModel`` and rows as ``Scorable``; knows no file and no command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gram.data import Scorable
from gram.errors import ConfigError
from gram.ranking import rank_many
from gram.types import Answer, Chat, Contest, Pair, RewardModel, ScalarModel


def score_rows(model: RewardModel, rows: Sequence[Scorable]) -> list[dict[str, Any]]:
    """One output row per input row; rows of one form are asked together.

    Raises:
        ConfigError: a single answer, and a model that can only compare.

    Example:
        >>> class Length:  # scores an answer by its number of characters
        ...     def score(self, prompts, responses):
        ...         return [len(response) for response in responses]
        ...     def compare(self, pairs): ...
        >>> score_rows(Length(), [Scorable("row 1", Answer(prompt=(), response="four"))])
        [{'id': 'row 1', 'score': 4.0}]
    """
    scorers = {Pair: _pair_rows, Contest: _contest_rows, Answer: _answer_rows}
    output: dict[int, dict[str, Any]] = {}  # by place of the input row
    for kind, scorer in scorers.items():
        places = [place for place, row in enumerate(rows) if isinstance(row.item, kind)]
        if places:
            output |= zip(places, scorer(model, [rows[place].item for place in places]), strict=True)
    return [({"id": row.id} if row.id else {}) | output[place] for place, row in enumerate(rows)]


def centre(model: RewardModel, rows: Sequence[Scorable]) -> None:
    """Give the members of an ensemble a common zero: each one's mean score of the answers in ``rows``.

    Raises:
        ConfigError: the model is no ensemble of models that score, or there are no answers.
    """
    from gram.scoring.ensemble import ScorerEnsemble  # brings torch, which a served model does without

    if not isinstance(model, ScorerEnsemble):
        raise ConfigError("--centre-on is for models that score: judges that compare have no zero")
    prompts: list[Chat] = []
    answers: list[str] = []
    for row in rows:
        match row.item:
            case Pair(prompt=prompt, a=a, b=b):
                texts = [a, b]
            case Contest(prompt=prompt, responses=responses):
                texts = list(responses)
            case Answer(prompt=prompt, response=response):
                texts = [response]
        prompts += [prompt] * len(texts)
        answers += texts
    model.centre(prompts, answers)


def _pair_rows(model: RewardModel, pairs: Sequence[Any]) -> list[dict[str, Any]]:
    verdicts = model.compare(pairs)
    rows: list[dict[str, Any]] = [
        {"p_a": float(p_a), "log_odds": [float(x) for x in log_odds], "position_gap": float(gap)}
        for p_a, log_odds, gap in zip(verdicts.p_a, verdicts.log_odds, verdicts.position_gap, strict=True)
    ]
    for row, bounded in zip(rows, verdicts.bounded if verdicts.bounded is not None else (), strict=False):
        if bounded.any():
            row["bounded"] = [bool(x) for x in bounded]
    return rows


def _contest_rows(model: RewardModel, contests: Sequence[Any]) -> list[dict[str, Any]]:
    if not isinstance(model, ScalarModel):
        rankings = rank_many(model, contests)
        return [
            {"scores": list(map(float, r.strengths)), "order": list(r.order)}
            | ({"bounded": r.bounded} if r.bounded else {})
            for r in rankings
        ]
    prompts = [contest.prompt for contest in contests for _ in contest.responses]
    scores = iter(model.score(prompts, [answer for contest in contests for answer in contest.responses]))
    rows = []
    for contest in contests:
        values = [float(next(scores)) for _ in contest.responses]
        rows.append({"scores": values, "order": sorted(range(len(values)), key=lambda i: -values[i])})
    return rows


def _answer_rows(model: RewardModel, answers: Sequence[Any]) -> list[dict[str, Any]]:
    if not isinstance(model, ScalarModel):
        raise ConfigError(
            "a judge compares answers and cannot score a single one: "
            "give pairs or candidates, or use --kind likelihood"
        )
    scores = model.score([answer.prompt for answer in answers], [answer.response for answer in answers])
    return [{"score": float(score)} for score in scores]
