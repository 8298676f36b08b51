"""Requests and answers of our own endpoints, as JSON.

What cannot be read is refused with the field. A number that the model did not give is null, and ``error``
says why. Knows shapes; knows no model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Prompt = Annotated[
    str | list[dict[str, Any]],
    Field(
        description="A string, or messages with role and content (text, or text parts; tool calls are read)",
        examples=["What is 2 + 2?", [{"role": "user", "content": "What is 2 + 2?"}]],
    ),
]
ModelName = Annotated[
    str | None, Field(description="As /v1/models names it. Default: the model that is served")
]


class Strict(BaseModel):
    """A request: an unknown field is refused, as it may be one that is spelled wrong."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Usage(BaseModel):
    """Tokens that were read for a request: its share, by length, of what its batches read."""

    prompt_tokens: int
    total_tokens: int


def usage_of(tokens: int) -> Usage:
    """The usage of a model that reads and writes nothing."""
    return Usage(prompt_tokens=tokens, total_tokens=tokens)


class PairIn(Strict):
    """Two answers to one prompt."""

    prompt: Prompt
    a: str
    b: str


class CompareRequest(Strict):
    """Pairs to compare."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"pairs": [{"prompt": "What is 2 + 2?", "a": "2 + 2 is 4.", "b": "I do not know."}]}
        }
    )
    model: ModelName = None
    pairs: list[PairIn] = Field(min_length=1)


class PairOut(BaseModel):
    """The verdict on one pair.

    p_a: probability that a is better, averaged over the orders. log_odds: natural logarithm of the odds, with
    a shown first and with a shown second (null: not asked). position_gap: P(a) shown first minus P(a) shown
    second. mass: probability of the two labels out of the whole vocabulary, for both orders. tokens_cut: that
    the pair lost to fit the model.
    """

    index: int
    p_a: float | None
    log_odds: list[float | None] | None
    position_gap: float | None
    mass: list[float | None] | None
    tokens_cut: int
    error: str | None


class CompareAnswer(BaseModel):
    """Verdicts in the order of the pairs."""

    model: str
    data: list[PairOut]
    usage: Usage


class RankRequest(Strict):
    """Candidate answers to one prompt."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "prompt": "What is the capital of France?",
                "candidates": ["Paris.", "Lyon.", "Paris, on the Seine."],
                "schedule": "round_robin",
            }
        }
    )
    model: ModelName = None
    prompt: Prompt
    candidates: list[str] = Field(min_length=1)
    schedule: Literal["round_robin", "linear", "knockout", "swiss", "merge"] = Field(
        "round_robin", description="Which candidates meet, as in gram rank"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Of the order in which candidates enter the schedule")
    budget: int | None = Field(None, ge=1, lt=2**31, description="Most comparisons")


class RankAnswer(BaseModel):
    """A ranking, with the fields of ``gram rank``; ``scores`` are those of a model that scores."""

    model: str
    order: list[int]
    best: str
    strengths: list[float]
    stderr: list[float | None]
    p_best: list[float | None]
    wins: list[float]
    comparisons: int
    ties: int
    cyclic: float | None
    position_gap: float | None
    usage: Usage


class RewardItem(Strict):
    """One answer, alone, beside a reference, or among others."""

    prompt: Prompt
    response: str
    reference: str | None = Field(None, description="An answer to the same prompt that is to be beaten")
    group: list[str] | None = Field(None, min_length=1, description="Other answers to the same prompt")


class RewardRequest(Strict):
    """Answers to reward."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [{"prompt": "What is 2 + 2?", "response": "2 + 2 is 4.", "reference": "It is 5."}]
            }
        }
    )
    model: ModelName = None
    items: list[RewardItem] = Field(min_length=1)


class RewardOut(BaseModel):
    """The reward of one answer.

    reward: with a reference, the log-odds of beating it (mean of both orders); within a group, the mean
    probability of beating the others; alone, the score of a model that scores. probability: of beating the
    reference, or the others on average; null for an answer alone.
    """

    index: int
    reward: float | None
    probability: float | None
    position_gap: float | None
    tokens_cut: int
    error: str | None


class RewardAnswer(BaseModel):
    """Rewards in the order of the items."""

    model: str
    data: list[RewardOut]
    usage: Usage
