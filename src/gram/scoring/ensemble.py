"""Several models asked as one: their mean, the worst case, or the mean less their disagreement.

What is combined are log-odds, the unit that all members share: a member's own, or ``slope`` times its score.
Members that score give an ensemble that scores (arXiv 2310.02743); members that only compare give one that
compares. Both keep P(a beats b) = 1 - P(b beats a). Knows models by what they answer, not how.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from gram.asking import LoadOptions
from gram.bounds import Within, check_number
from gram.errors import ConfigError
from gram.messages import as_answers, as_list
from gram.modeling.adapter_folder import is_adapter
from gram.scoring.judge import JudgeModel
from gram.scoring.loading import load_with, precision_with
from gram.scoring.remote.address import refuse_elsewhere
from gram.scoring.scalar import ScalarHeadModel, Scorer
from gram.scoring.scores import both_answers, verdicts_of
from gram.types import (
    Chat,
    Fingerprinted,
    FloatArray,
    Pair,
    PromptLike,
    RewardModel,
    Usage,
    Verdicts,
    as_pairs,
)

Rule: TypeAlias = Literal["mean", "minimum", "uncertainty_weighted"]
RULES: tuple[Rule, ...] = ("mean", "minimum", "uncertainty_weighted")
PENALTY = 0.5


def combine_scores(scores: FloatArray, rule: Rule, penalty: float = PENALTY) -> FloatArray:
    """(n,) scores out of those of k members, (k, n); coefficients as in arXiv 2310.02743, section 3.

    ``mean``; ``minimum``: the least that any member gives; ``uncertainty_weighted``: the mean minus
    ``penalty`` times the members' variance (over k, not k - 1). An answer that the members disagree about
    is worth less. The last two need members with a common zero.

    Example:
        >>> scores = np.array([[1.0, 4.0], [3.0, 0.0]])  # 2 members, 2 answers
        >>> combine_scores(scores, "mean").tolist(), combine_scores(scores, "minimum").tolist()
        ([2.0, 2.0], [1.0, 0.0])
        >>> combine_scores(scores, "uncertainty_weighted", penalty=0.5).tolist()  # the variances are 1 and 4
        [1.5, 0.0]
    """
    if rule == "mean":
        return scores.mean(axis=0)
    if rule == "minimum":
        return scores.min(axis=0)
    return scores.mean(axis=0) - penalty * scores.var(axis=0)


def combine_log_odds(log_odds: FloatArray, rule: Rule, penalty: float = PENALTY) -> FloatArray:
    """Log-odds out of those of k members, along the first axis; NaN (not asked) stays NaN.

    Judges of pairs give single answers no score, so that there is no score to reduce for disagreement.
    Reducing the log-odds themselves would favour ``b``, and P(a beats b) + P(b beats a) would no longer be 1.
    So the *lead* of the winner, ``a`` or ``b``, is reduced, to a tie at most:
    ``minimum``: the smallest lead that any member gives, 0 where they disagree about the winner;
    ``uncertainty_weighted``: the mean, pulled towards 0 by ``penalty`` times the variance.
    A consequence: an uncertain defeat is reduced like an uncertain win.

    Example:
        >>> log_odds = np.array([[1.0, -1.0], [3.0, 2.0]])  # 2 members, 2 pairs
        >>> combine_log_odds(log_odds, "minimum").tolist()
        [1.0, 0.0]
    """
    if rule == "mean":
        return log_odds.mean(axis=0)
    if rule == "minimum":
        return np.maximum(log_odds.min(axis=0), 0.0) + np.minimum(log_odds.max(axis=0), 0.0)
    mean = log_odds.mean(axis=0)
    return np.sign(mean) * np.maximum(np.abs(mean) - penalty * log_odds.var(axis=0), 0.0)


class JudgeEnsemble:
    """A ``RewardModel`` of several judges: see ``combine_log_odds``.

    Each order of a pair is combined by itself, so that position bias stays visible. The label mass is the
    mean of the members' masses.
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
        """The first member's template; the others may have templates of their own."""
        return self.members[0].template

    @property
    def usage(self) -> Usage:
        """The sum of the members' usage."""
        return sum((member.usage for member in self.members), Usage())

    def tokens_cut(self, pairs: Iterable[Pair]) -> list[int] | None:
        """Tokens that each pair loses, for the member that loses most; None if a member cannot tell."""
        pairs = as_pairs(pairs)
        return _largest([member.tokens_cut(pairs) for member in self.members])

    def compare(self, pairs: Iterable[Pair]) -> Verdicts:
        """Verdicts of the members together.

        Raises:
            ScoringError: a member gave a number that is not finite.
        """
        pairs = as_pairs(pairs)
        verdicts = [member.compare(pairs) for member in self.members]  # k times n verdicts
        log_odds = np.stack([verdict.log_odds for verdict in verdicts])  # (k, n, 2)
        mass = np.mean([verdict.mass for verdict in verdicts], axis=0)  # (n, 2)
        usage = sum((verdict.usage for verdict in verdicts), Usage())
        return Verdicts(combine_log_odds(log_odds, self.rule, self.penalty) / self.temperature, mass, usage)


class ScorerEnsemble:
    """A ``RewardModel`` and ``ScalarModel`` of several that score: see ``combine_scores``.

    Scores are in log-odds: each member's score times its slope (beta over temperature), minus its offset. The
    zero of a scalar head is arbitrary, since a ranking loss depends on differences only. Without a common
    zero the minimum would mostly name the member whose zero lies lowest, and the variance would measure how
    far apart the zeros are. ``centre`` finds the offsets. Scales are not standardised: log-odds have a scale
    of their own, and calibrating a member (``gram eval --calibrate``) corrects it.
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
        """1 over the temperature, as scores are log-odds already."""
        return 1.0 / self.temperature

    @property
    def template(self) -> None:
        """None, as a score does not depend on the wording of a judge prompt."""
        return None

    @property
    def usage(self) -> Usage:
        """The sum of the members' usage."""
        return sum((member.usage for member in self.members), Usage())

    def centre(self, prompts: Iterable[PromptLike], responses: Iterable[str]) -> None:
        """Put every member's zero at its mean score of these answers.

        Raises:
            ConfigError: no answers.
        """
        prompts, responses = as_answers(prompts, responses)
        if not prompts:
            raise ConfigError("an ensemble cannot be centred on no answers")
        self.offsets = np.zeros(len(self.members))
        self.offsets = self._of_members(prompts, responses).mean(axis=1)
        self._centred = True

    def tokens_cut(self, pairs: Iterable[Pair]) -> list[int] | None:
        """Tokens that each pair loses, for the member that loses most."""
        pairs = as_pairs(pairs)
        return _largest([member.tokens_cut(pairs) for member in self.members])

    def score(self, prompts: Iterable[PromptLike], responses: Iterable[str]) -> FloatArray:
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
        members = self._of_members(*as_answers(prompts, responses))
        return combine_scores(members, self.rule, self.penalty)

    def compare(self, pairs: Iterable[Pair]) -> Verdicts:
        """Verdicts whose log-odds are ``slope`` times the difference of the two answers' scores."""
        earlier_usage = self.usage
        scores = self.score(*both_answers(as_pairs(pairs)))  # (2n,)
        return verdicts_of(scores, self.slope, self.usage - earlier_usage)

    def _of_members(self, prompts: Sequence[Chat], responses: Sequence[str]) -> FloatArray:
        scores = [member.slope * member.score(prompts, responses) for member in self.members]
        return np.stack(scores) - self.offsets[:, None]  # (k, n)


def _check(members: Sequence[RewardModel], rule: str, penalty: float) -> None:
    if len(members) < 2:
        raise ConfigError(f"an ensemble has two members or more, got {len(members)}")
    if rule not in RULES:
        raise ConfigError(f"an ensemble is one of {', '.join(RULES)}, got '{rule}'")
    check_number("penalty", penalty, float, Within(0))


def _largest(counts: Sequence[Sequence[int] | None]) -> list[int] | None:
    """The largest count of each pair; None if a member does not know its counts."""
    members = [count for count in counts if count is not None]
    return [max(pair) for pair in zip(*members, strict=True)] if len(members) == len(counts) else None


def ensemble(
    paths: Sequence[str | Path], rule: Rule = "mean", *, penalty: float = PENALTY, **options: Any
) -> JudgeEnsemble | ScorerEnsemble:
    """Load several models and ask them as one.

    Args:
        paths: model folders or Hub names, two or more; all judges, or all models that score.
        rule: ``mean``; ``minimum``, the worst case; ``uncertainty_weighted``, the mean less ``penalty`` times
            the members' variance. Scalar heads with the last two need ``centre``.
        penalty: price of disagreement, in log-odds per squared log-odds.
        options: those of ``load``, for every member.

    Raises:
        ConfigError: too few members, an unknown rule, or members of two kinds.
        GramError: as ``load`` does.

    Example:
        >>> model = ensemble(["gram-135m", "gram-135m"])
        >>> model.compare([Pair("What is 2 + 2?", a="4", b="5")]).p_a.shape
        (1,)
    """
    return ensemble_with(paths, rule, penalty, LoadOptions(**options))


def ensemble_with(
    paths: Sequence[str | Path], rule: Rule, penalty: float, options: LoadOptions
) -> JudgeEnsemble | ScorerEnsemble:
    """``ensemble`` with the options of ``load`` in one object.

    A revision applies to the first model only, and a base to every member that is an adapter. All members are
    in one precision, that of the first.
    """
    paths = as_list(paths, "paths", "a list of folders or names")
    for path in paths:  # before one of them is fetched
        refuse_elsewhere(path)
    if paths:
        options = replace(options, dtype=precision_with(paths[0], options))
    adapters = [is_adapter(path) for path in paths]
    members = [
        load_with(
            path,
            replace(
                options,
                revision=None if k else options.revision,
                base=options.base if adapters[k] or not any(adapters) else None,
            ),
        )
        for k, path in enumerate(paths)
    ]
    judges = [member for member in members if isinstance(member, JudgeModel)]
    scorers = [member for member in members if isinstance(member, Scorer)]
    if judges and scorers:
        kinds = ", ".join(f"{path}: {type(m).__name__}" for path, m in zip(paths, members, strict=True))
        raise ConfigError(f"an ensemble is of judges or of models that score, not of both ({kinds})")
    return JudgeEnsemble(judges, rule, penalty) if judges else ScorerEnsemble(scorers, rule, penalty)
