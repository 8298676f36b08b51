"""Typed questions about a state, each answered by one token: yes or no, one of several options, or a level.

Knows rendered prompts, engines and model folders; knows no server, no command and no kind of model but what
reads labels.
"""

from __future__ import annotations

from gram.decisions.answers import Answer, ChoiceAnswer, Decisions, NoulAnswer, ScoreAnswer
from gram.decisions.decider import DecisionModel, Request, decide
from gram.decisions.questions import Choice, Noul, Question, Score, read_questions

__all__ = [
    "Answer",
    "Choice",
    "ChoiceAnswer",
    "DecisionModel",
    "Decisions",
    "Noul",
    "NoulAnswer",
    "Question",
    "Request",
    "Score",
    "ScoreAnswer",
    "decide",
    "read_questions",
]
