"""Thoughts that a chat template opens for the assistant at the end of its text. Knows texts alone."""

from __future__ import annotations

import re

_OPENED = re.compile(r"(<(think|thinking|thought|reasoning|seed:think)>|\[THINK\]|<\|START_THINKING\|>)\s*\Z")


def opened_thoughts(text: str) -> str | None:
    """The mark of thoughts that ``text`` leaves open at its end; None: it opens none.

    Example:
        >>> opened_thoughts("<|assistant|><think>\\n"), opened_thoughts("<|assistant|>")
        ('<think>', None)
    """
    opened = _OPENED.search(text)
    return opened[1] if opened else None


def closed(text: str) -> str:
    """``text``, the thoughts closed that it opens for the assistant: a verdict is asked for, not thoughts.

    Example:
        >>> closed("<|assistant|><think>\\n")
        '<|assistant|><think>\\n\\n</think>\\n\\n'
    """
    opened = _OPENED.search(text)
    if opened is None:
        return text
    if opened[2]:
        return f"{text[: opened.start()]}<{opened[2]}>\n\n</{opened[2]}>\n\n"
    return text.rstrip() + opened[1].replace("[", "[/").replace("START", "END")
