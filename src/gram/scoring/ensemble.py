"""Several models asked as one: their mean, the worst case, or the mean less their disagreement.

What is combined are log-odds, the unit that all members share: a member's own, or ``slope`` times its score.
Members that score give an ensemble that scores (arXiv 2310.02743); members that only compare give one that
compares. Both keep P(a beats b) = 1 - P(b beats a). Knows models by what they answer, not how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from gram.asking import LoadOptions
from gram.errors import ConfigError
from gram.scoring.judge import JudgeModel
from gram.scoring.loading import load_with
from gram.scoring.scalar import ScalarHeadModel, Scorer, both_answers, verdicts_of
from gram.types import Chat, Fingerprinted, FloatArray, Pair, RewardModel, Usage, Verdicts

Rule: TypeAlias = Literal["mean", "minimum", "uncertainty_weighted"]
RULES: tuple[Rule, ...] = ("mean", "minimum", "uncertainty_weighted")
PENALTY = 0.5


def combine_scores(scores: FloatArray, rule: Rule, penalty: float = PENALTY) -> FloatArray:
    """(n,) scores out of those of k members, (k, n); coefficients as in arXiv 2310.02743, section 3.

    ``mean``; ``minimum``: the least that any member gives; ``uncertainty_weighted``: the mean minus
    ``penalty`` times the members' variance (over k, not k - 1). An answer that the members disagree about
    is worth less. The last two need members with a common zero.
    """
    if rule == "mean":
        return scores.mean(axis=0)
    if rule == "minimum":
        return scores.min(axis=0)
    return scores.mean(axis=0) - penalty * scores.var(axis=0)


def combine_log_odds(log_odds: FloatArray, rule: Rule, penalty: float = PENALTY) -> FloatArray:
    """Log-odds out of those of k members, along the first axis; NaN (not asked) stays NaN.

    Where only pairs are judged, no answer has a score to take something off: a lead of ``a`` that shrinks
    for doubt is a lead of ``b`` that grows, and the two orders of a pair would no longer sum to one. So it
    is the *lead* that is discounted, on whichever side it lies, down to a tie at most:
    ``minimum``: as far as every member grants it, 0 where they disagree about the winner;
    ``uncertainty_weighted``: the mean, pulled towards 0 by ``penalty`` times the variance.
    The price of the law: a doubtful defeat is softened like a doubtful win.
    """
    if rule == "mean":
        return log_odds.mean(axis=0)
    if rule == "minimum":
        return np.maximum(log_odds.min(axis=0), 0.0) + np.minimum(log_odds.max(axis=0), 0.0)
    mean = log_odds.mean(axis=0)
    return np.sign(mean) * np.maximum(np.abs(mean) - penalty * log_odds.var(axis=0), 0.0)


class JudgeEnsemble:
    """A ``RewardModel`` of several judges: see ``combine_log_odds``.

    Each order is combined by itself, so that position bias stays visible; the label mass is the members'
    mean.
    """

    def __init__(self, members: Sequence[RewardModel], rule: Rule = "mean", penalty: float = PENALTY) -> None:
        _check(members, rule, penalty)
        self.members = tuple(members)
        self.rule: Rule = rule
        self.penalty = penalty
        self.temperature = 1.0  # divides the log-odds, after those of the members

    @property
    def slope(self) -> float:
        return 1.0 / self.temperature

    @property
    def template(self) -> Fingerprinted | None:
        """That of the first member; the others may be asked with their own."""
        return self.members[0].template

    @property
    def usage(self) -> Usage:
        """What all members took together."""
        return sum((member.usage for member in self.members), Usage())

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int] | None:
        """Tokens that each pair loses, for the member that loses most; None if one cannot tell."""
        return _most([member.tokens_cut(pairs) for member in self.members])

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        """Verdicts of the members together.

        Raises:
            ScoringError: a member gave a number that is not finite.
        """
        each = [member.compare(pairs) for member in self.members]
        combined = combine_log_odds(np.stack([v.log_odds for v in each]), self.rule, self.penalty)
        usage = sum((v.usage for v in each), Usage())
        return Verdicts(combined / self.temperature, np.mean([v.mass for v in each], axis=0), usage)


class ScorerEnsemble:
    """A ``RewardModel`` and ``ScalarModel`` of several that score: see ``combine_scores``.

    Scores are in log-odds: each member's times its slope (beta over temperature), less its offset. A scalar
    head's zero is arbitrary, since a ranking loss never sees it: without a common zero, the minimum would
    be whichever member happens to lie low, and the variance mostly the distance of the zeros. ``centre``
    finds the offsets. Scales are not standardised: log-odds have one, and calibrating a member
    (``gram eval --calibrate``) corrects it.
    """

    def __init__(self, members: Sequence[Scorer], rule: Rule = "mean", penalty: float = PENALTY) -> None:
        _check(members, rule, penalty)
        self.members = tuple(members)
        self.rule: Rule = rule
        self.penalty = penalty
        self.temperature = 1.0  # divides the log-odds, after those of the members
        self.offsets = np.zeros(len(members))
        self._centred = rule == "mean" or not any(isinstance(m, ScalarHeadModel) for m in members)

    @property
    def slope(self) -> float:
        """1 over the temperature: scores are log-odds."""
        return 1.0 / self.temperature

    @property
    def template(self) -> None:
        """None: a score does not depend on the wording of a judge prompt."""
        return None

    @property
    def usage(self) -> Usage:
        """What all members took together."""
        return sum((member.usage for member in self.members), Usage())

    def centre(self, prompts: Sequence[Chat], responses: Sequence[str]) -> None:
        """Put every member's zero at its mean score of these answers.

        Raises:
            ConfigError: no answers.
        """
        if not len(prompts):
            raise ConfigError("an ensemble cannot be centred on no answers")
        self.offsets = np.zeros(len(self.members))
        self.offsets = self._of_members(prompts, responses).mean(axis=1)
        self._centred = True

    def tokens_cut(self, pairs: Sequence[Pair]) -> list[int] | None:
        """Tokens that each pair loses, for the member that loses most."""
        return _most([member.tokens_cut(pairs) for member in self.members])

    def score(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray:
        """(n,) scores of the members together, in log-odds; higher is better.

        Raises:
            ConfigError: the rule compares scores of members whose zeros have not been centred.
            ValueError: not as many responses as prompts.
            ScoringError: a member gave a number that is not finite.
        """
        if not self._centred:
            raise ConfigError(
                f"'{self.rule}' compares the members' scores, and each scalar head has a zero of its own: "
                "centre them on some answers first (--centre-on)"
            )
        return combine_scores(self._of_members(prompts, responses), self.rule, self.penalty)

    def compare(self, pairs: Sequence[Pair]) -> Verdicts:
        """Verdicts whose log-odds are ``slope`` times the difference of the two answers' scores."""
        before = self.usage
        scores = self.score(*both_answers(pairs))
        return verdicts_of(scores, self.slope, self.usage - before)

    def _of_members(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray:
        scores = [member.slope * member.score(prompts, responses) for member in self.members]
        return np.stack(scores) - self.offsets[:, None]  # (k, n)


def _check(members: Sequence[RewardModel], rule: str, penalty: float) -> None:
    if len(members) < 2:
        raise ConfigError(f"an ensemble has two members or more, got {len(members)}")
    if rule not in RULES:
        raise ConfigError(f"an ensemble is one of {', '.join(RULES)}, got '{rule}'")
    if not penalty >= 0:
        raise ConfigError(f"the penalty on disagreement must not be negative, got {penalty}")


def _most(counts: Sequence[Sequence[int] | None]) -> list[int] | None:
    """The largest count of each pair; None if one member's are not known."""
    known = [each for each in counts if each is not None]
    return [max(each) for each in zip(*known, strict=True)] if len(known) == len(counts) else None


def ensemble(
    paths: Sequence[str | Path], rule: Rule = "mean", *, penalty: float = PENALTY, **options: Any
) -> JudgeEnsemble | ScorerEnsemble:
    """Load several models and ask them as one.

    Args:
        paths: model folders or Hub names, two or more; all judges, or all models that score.
        rule: ``mean``; ``minimum``, the worst case; ``uncertainty_weighted``, the mean less ``penalty`` times
            the members' variance. Scalar heads with the last two need ``centre``.
        penalty: price of disagreement, in log-odds per squared log-odds.
        options: of ``load``, for every member.

    Raises:
        ConfigError: too few members, an unknown rule, or members of two kinds.
        GramError: as ``load`` does.
    """
    return ensemble_with(paths, rule, penalty, LoadOptions(**options))


def ensemble_with(
    paths: Sequence[str | Path], rule: Rule, penalty: float, options: LoadOptions
) -> JudgeEnsemble | ScorerEnsemble:
    """``ensemble`` with the options of ``load`` in one; a revision is that of the first model only."""
    members = [
        load_with(path, replace(options, revision=None) if k else options) for k, path in enumerate(paths)
    ]
    judges = [member for member in members if isinstance(member, JudgeModel)]
    scorers = [member for member in members if isinstance(member, Scorer)]
    if judges and scorers:
        kinds = ", ".join(f"{path}: {type(m).__name__}" for path, m in zip(paths, members, strict=True))
        raise ConfigError(f"an ensemble is of judges or of models that score, not of both ({kinds})")
    return JudgeEnsemble(judges, rule, penalty) if judges else ScorerEnsemble(scorers, rule, penalty)
