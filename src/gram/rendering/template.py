"""Judge templates: the wording that shows a prompt and two answers and asks for one of two labels.

A template is text with the slots ``{prompt}``, ``{a}`` and ``{b}``, once each, and two label words. It knows
nothing of tokenizers: it cuts a pair into pieces, literal text and slots, that the renderer encodes.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from gram.errors import CheckpointError, DataError, TemplateError
from gram.files import unique_keys
from gram.messages import as_text
from gram.paths import at_home
from gram.rendering.pieces import Piece
from gram.types import Chat, Pair

DEFAULT_TEMPLATE = "default"

_SLOT = re.compile(r"\{(prompt|a|b)\}")
_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


@dataclass(frozen=True)
class JudgeTemplate:
    """A judge prompt.

    Attributes:
        name: for people; not part of the hash.
        text: the wording, with ``{prompt}``, ``{a}`` and ``{b}`` exactly once each. Other braces are text.
        labels: the words that say "the first answer is better" and "the second answer is better".

    Raises:
        TemplateError: a slot is missing or repeated, or the labels are not two different words.

    Example:
        >>> template = JudgeTemplate("mine", "{prompt} A: {a} B: {b} Better:", (" A", " B"))
        >>> "".join(piece.text for piece in template.pieces(Pair("2 + 2?", a="4", b="5")))
        '2 + 2? A: 4 B: 5 Better:'
    """

    name: str
    text: str
    labels: tuple[str, str]

    def __post_init__(self) -> None:
        for text in (self.text, *self.labels):
            try:
                as_text(text, "text")
            except DataError as error:
                raise TemplateError(f"template '{self.name}': {error.reason}") from None
        for slot in ("prompt", "a", "b"):
            count = len(re.findall(rf"\{{{slot}\}}", self.text))
            if count != 1:
                raise TemplateError(f"template '{self.name}': {{{slot}}} stands {count} times, must be once")
        if len(set(self.labels)) != 2 or not all(self.labels):
            raise TemplateError(f"template '{self.name}': needs two different labels, got {self.labels}")

    @property
    def hash(self) -> str:
        """Fingerprint of what a model reads (text and labels); travels with the weights."""
        content = json.dumps([self.text, *self.labels], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def pieces(self, pair: Pair) -> list[Piece]:
        """The template filled with ``pair``. One pass: braces inside prompts and answers do nothing."""
        slots = {"prompt": transcript(pair.prompt), "a": pair.a, "b": pair.b}
        parts = _SLOT.split(self.text)  # literal, slot name, literal, slot name, ...
        return [
            Piece(slots[part], slot=part) if place % 2 else Piece(part)
            for place, part in enumerate(parts)
            if place % 2 or part
        ]

    def to_json(self) -> dict[str, object]:
        return {"name": self.name, "text": self.text, "labels": list(self.labels)}

    @classmethod
    def from_json(cls, content: object, *, source: str) -> JudgeTemplate:
        """A template from parsed JSON ``{"name", "text", "labels"}``; other keys are notes.

        Raises:
            TemplateError: naming ``source`` and the field that is missing or of the wrong type.
        """
        if not isinstance(content, dict):
            raise TemplateError(f'{source}: a template is a JSON object {{"name", "text", "labels"}}')
        for field, kind in (("name", str), ("text", str), ("labels", list)):
            if not isinstance(content.get(field), kind):
                raise TemplateError(f"{source}: field '{field}' is missing or not a {kind.__name__}")
        labels = content["labels"]
        if len(labels) != 2 or not all(isinstance(label, str) for label in labels):
            raise TemplateError(f"{source}: field 'labels' must hold two strings, got {labels!r}")
        try:
            return cls(content["name"], content["text"], (labels[0], labels[1]))
        except TemplateError as error:
            raise TemplateError(f"{source}: {error}") from None


def stored_template(content: object, expected_hash: str, *, source: str) -> JudgeTemplate:
    """The template that travels with a checkpoint.

    Raises:
        TemplateError: it is not a template.
        CheckpointError: its hash is not the one stored beside it.
    """
    template = JudgeTemplate.from_json(content, source=source)
    if template.hash != expected_hash:
        raise CheckpointError(f"{source}: the template does not match its hash; it was edited")
    return template


def transcript(prompt: Chat) -> str:
    """A prompt as text inside a judge prompt: one user turn as it is, a conversation with its speakers.

    Example:
        >>> from gram.types import Message
        >>> print(transcript((Message("system", "Be brief."), Message("user", "2 + 2?"))))
        System: Be brief.
        <BLANKLINE>
        User: 2 + 2?
    """
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return "\n\n".join(f"{_SPEAKERS.get(turn.role, turn.role)}: {turn.content}" for turn in prompt)


def builtin_templates() -> dict[str, JudgeTemplate]:
    """The templates that come with the package, by file name."""
    templates = {}
    for entry in files("gram.rendering").joinpath("templates").iterdir():
        if entry.name.endswith(".json"):
            content = json.loads(entry.read_text(encoding="utf-8"))
            templates[entry.name.removesuffix(".json")] = JudgeTemplate.from_json(content, source=entry.name)
    return templates


def load_template(name_or_path: str | Path | None) -> JudgeTemplate:
    """A built-in template by name, or one from a JSON file; None: the default.

    Raises:
        TemplateError: no such name or file, or a file that is not a template.

    Example:
        >>> load_template("default").labels
        ('A', 'B')
    """
    builtin = builtin_templates()
    name = str(name_or_path or DEFAULT_TEMPLATE)
    if name in builtin:
        return builtin[name]
    path = at_home(name)
    if not path.is_file():
        names = ", ".join(sorted(builtin))
        raise TemplateError(f"no template '{name}': neither a file nor one of the built-in ones ({names})")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a nesting or a number beyond measure
        raise TemplateError(f"{path}: not JSON: {error}") from None
    return JudgeTemplate.from_json(content, source=str(path))
