"""From pairs and answers to token ids: the one owner of every prompt that a model reads.

Training and scoring render through the same ``Renderer``, so both see the same prompt. Knows templates, chat
formats and tokenizers; knows no model, no loss and no file format of data rows.
"""

from __future__ import annotations

from gram.rendering.chat import NEW_SETTINGS, ChatFormat, ChatSettings
from gram.rendering.chat_template import DATE, ChatTemplate, dated
from gram.rendering.control import neutral_answer, neutral_anywhere
from gram.rendering.fan import FanRenderer
from gram.rendering.opened import opened_thoughts
from gram.rendering.pieces import Encoded, Piece, usage_of
from gram.rendering.renderer import Renderer
from gram.rendering.template import DEFAULT_TEMPLATE, JudgeTemplate, load_template, stored_template

__all__ = [
    "DATE",
    "DEFAULT_TEMPLATE",
    "NEW_SETTINGS",
    "ChatFormat",
    "ChatSettings",
    "ChatTemplate",
    "Encoded",
    "FanRenderer",
    "JudgeTemplate",
    "Piece",
    "Renderer",
    "dated",
    "load_template",
    "neutral_answer",
    "neutral_anywhere",
    "opened_thoughts",
    "stored_template",
    "usage_of",
]
