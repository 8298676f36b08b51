"""Requests and answers in the shapes of others: rerank (Cohere, Jina, vLLM), score, classify, OpenRLHF.

Fields that we do not know are let through, as clients send what other servers take. Knows shapes; knows no
model.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from gram.serving.schemas import ModelName, Usage


class Loose(BaseModel):
    """A request of a client that was not written for us."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Document(Loose):
    """A text in an object, as some clients send it."""

    text: str


class RerankRequest(Loose):
    """Documents to put in order: for us, answers to a question."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "query": "What is the capital of France?",
                "documents": ["Paris.", "Lyon.", "I do not know."],
                "top_n": 2,
            }
        }
    )
    model: ModelName = None
    query: str
    documents: list[str | Document] = Field(min_length=1)
    top_n: int | None = Field(None, ge=0, description="How many to give; 0 or none: all")
    return_documents: bool = True


class RerankResult(BaseModel):
    """One document. relevance_score: see docs/serving.md; higher is better, 0 to 1."""

    index: int
    document: Document | None = None
    relevance_score: float


class RerankAnswer(BaseModel):
    """Documents, best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: Usage
    meta: dict[str, Any]


Texts = str | list[str]


class ScoreRequest(Loose):
    """Questions and answers: one question for all answers, or one each."""

    model_config = ConfigDict(
        populate_by_name=True,
        json_schema_extra={"example": {"text_1": "What is 2 + 2?", "text_2": ["2 + 2 is 4.", "It is 5."]}},
    )
    model: ModelName = None
    queries: Annotated[Texts, Field(validation_alias=AliasChoices("queries", "text_1", "data_1"))]
    documents: Annotated[
        Texts, Field(validation_alias=AliasChoices("documents", "items", "text_2", "data_2"))
    ]
    use_activation: bool | None = Field(
        None, description="A scalar model's score through the logistic function. Default: yes, as vLLM does"
    )


class ScoreOut(BaseModel):
    """One score."""

    index: int
    object: str = "score"
    score: float | None
    error: str | None = None


class ScoreAnswer(BaseModel):
    """Scores in the order of the answers."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[ScoreOut]
    usage: Usage


class ClassifyRequest(Loose):
    """A conversation to score: all but its last message is the prompt, the last one the answer.

    Or texts, each a conversation as the model's own chat template writes it.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "messages": [
                    {"role": "user", "content": "What is 2 + 2?"},
                    {"role": "assistant", "content": "2 + 2 is 4."},
                ],
                "use_activation": False,
            }
        }
    )
    model: ModelName = None
    messages: list[dict[str, Any]] | None = None
    input: Texts | None = Field(None, description="Texts as they stand, for a scalar model; no token ids")
    use_activation: bool | None = Field(
        None, description="A scalar model's score through the logistic function. Default: yes, as vLLM does"
    )


class ClassifyOut(BaseModel):
    """One score, where a classifier has its probabilities."""

    index: int
    label: str = "LABEL_0"
    probs: list[float | None]
    num_classes: int = 1
    error: str | None = None


class ClassifyAnswer(BaseModel):
    """The score of a conversation."""

    id: str
    object: str = "list"
    created: int
    model: str
    data: list[ClassifyOut]
    usage: Usage


class OpenRlhfRequest(Loose):
    """What OpenRLHF sends: whole texts, prompt and answer in one, the prompts, and the labels."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "query": ["What is 2 + 2? 2 + 2 is 4.</s>"],
                "prompts": ["What is 2 + 2?"],
                "labels": ["It is 4."],
            }
        }
    )
    query: list[str] = Field(min_length=1)
    prompts: list[str]
    labels: list[Any] | None = None


class OpenRlhfAnswer(BaseModel):
    """Rewards, probabilities of winning, values for the logs, and why there is none where one is null."""

    rewards: list[float | None]
    scores: list[float | None]
    extra_logs: dict[str, list[float]]
    errors: list[str | None]
