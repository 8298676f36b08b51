"""Judge templates: files in, pieces out; everything that can be wrong with a file is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gram import Message, Pair
from gram.errors import TemplateError
from gram.rendering import DEFAULT_TEMPLATE, JudgeTemplate, load_template
from gram.rendering.template import builtin_templates, transcript

pytestmark = pytest.mark.law(1)

GOOD: dict[str, Any] = {"name": "mine", "text": "Q {prompt} 1 {a} 2 {b} Best:", "labels": ["A", "B"]}
# The published template has this form: notes beside the three fields, and a trailing space.
PUBLISHED = {
    "name": "published-form",
    "source": "a note",
    "text": "Judge.\n\n[User Question]\n{prompt}\n\n[Start of A]\n{a}\n[End of A]\n\n"
    "[Start of B]\n{b}\n[End of B]\n\n#Preferred: ",
    "labels": ["A", "B"],
    "note": "another",
}


def filled(template: JudgeTemplate, pair: Pair) -> str:
    return "".join(piece.text for piece in template.pieces(pair))


def saved(folder: Path, content: object) -> Path:
    path = folder / "template.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_slots_are_filled_in_one_pass() -> None:
    """Braces in a prompt or an answer are text: nothing is filled twice and nothing is interpreted."""
    template = JudgeTemplate("t", "<{prompt}|{a}|{b}>{}{other}", ("A", "B"))
    pair = Pair("{a} {b} {0}", a="{b}{prompt}", b="{{a}} %s \\1 {")
    assert filled(template, pair) == "<{a} {b} {0}|{b}{prompt}|{{a}} %s \\1 {>{}{other}"
    assert [piece.slot for piece in template.pieces(pair)] == [None, "prompt", None, "a", None, "b", None]


def test_empty_answers_keep_their_slot() -> None:
    pieces = JudgeTemplate("t", "{a}{b}{prompt}", ("A", "B")).pieces(Pair("", a="", b=""))
    assert [(piece.text, piece.slot) for piece in pieces] == [("", "a"), ("", "b"), ("", "prompt")]


def test_slots_may_come_in_any_order() -> None:
    template = JudgeTemplate("t", "{b} {a} {prompt}", ("A", "B"))
    assert filled(template, Pair("p", a="1", b="2")) == "2 1 p"


def test_transcript() -> None:
    """One user turn stands as it is; anything else names its speakers, so that turns stay apart."""
    assert transcript((Message("user", "hi"),)) == "hi"
    turns = (Message("system", "be kind"), Message("user", "hi"), Message("narrator", "later"))
    assert transcript(turns) == "System: be kind\n\nUser: hi\n\nnarrator: later"
    assert transcript((Message("system", "only"),)) == "System: only"


def test_hash_covers_what_a_model_reads() -> None:
    """The name is for people; text, labels and their order decide."""
    one = JudgeTemplate("one", "{prompt}{a}{b}", ("A", "B"))
    assert one.hash == JudgeTemplate("two", "{prompt}{a}{b}", ("A", "B")).hash
    others = [
        JudgeTemplate("one", "{prompt}{a}{b} ", ("A", "B")),
        JudgeTemplate("one", "{prompt}{a}{b}", ("B", "A")),
        JudgeTemplate("one", "{prompt}{a}{b}", ("A", "C")),
    ]
    assert len({one.hash, *(other.hash for other in others)}) == 4


def test_json_round_trip(tmp_path: Path) -> None:
    template = load_template(saved(tmp_path, PUBLISHED))
    assert template.name == "published-form"
    assert template.text == PUBLISHED["text"]
    assert template.labels == ("A", "B")
    again = JudgeTemplate.from_json(json.loads(json.dumps(template.to_json())), source="here")
    assert again == template


def test_builtin_templates() -> None:
    builtin = builtin_templates()
    assert {"compact", "default"} <= set(builtin)
    assert load_template(None) == builtin[DEFAULT_TEMPLATE]
    for name, template in builtin.items():
        assert load_template(name) == template
    assert len({template.hash for template in builtin.values()}) == len(builtin)


WRONG: dict[str, tuple[object, str]] = {
    "no object": ([1], "JSON object"),
    "not json": ("{'name': 1}", "not JSON"),
    "empty": ("", "not JSON"),
    "deep": ("[" * 100_000, "not JSON"),
    "no name": ({k: v for k, v in GOOD.items() if k != "name"}, "'name'"),
    "no text": ({k: v for k, v in GOOD.items() if k != "text"}, "'text'"),
    "no labels": ({k: v for k, v in GOOD.items() if k != "labels"}, "'labels'"),
    "text of another type": (GOOD | {"text": ["{prompt}"]}, "'text'"),
    "labels of another type": (GOOD | {"labels": "AB"}, "'labels'"),
    "three labels": (GOOD | {"labels": ["A", "B", "C"]}, "'labels'"),
    "labels that are numbers": (GOOD | {"labels": [1, 2]}, "'labels'"),
    "equal labels": (GOOD | {"labels": ["A", "A"]}, "two different labels"),
    "an empty label": (GOOD | {"labels": ["A", ""]}, "two different labels"),
    "a missing slot": (GOOD | {"text": "{prompt} {a}"}, r"\{b\} stands 0 times"),
    "a repeated slot": (GOOD | {"text": "{prompt} {a} {b} {a}"}, r"\{a\} stands 2 times"),
    "no prompt": (GOOD | {"text": "{a} {b}"}, r"\{prompt\} stands 0 times"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_named(case: str, tmp_path: Path) -> None:
    """The message has the file and the field, or the slot, to mend."""
    content, says = WRONG[case]
    path = saved(tmp_path, content)
    with pytest.raises(TemplateError, match=says) as caught:
        load_template(path)
    assert str(path) in str(caught.value)


def test_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(TemplateError, match="not JSON"):
        load_template(path)


def test_unknown_template_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="compact, default"):
        load_template("compcat")
    with pytest.raises(TemplateError, match="neither a file"):
        load_template(tmp_path)


def test_a_key_that_stands_twice_in_a_template_file(tmp_path: Path) -> None:
    """json would take the last of the two texts, and nobody would know."""
    path = tmp_path / "twice.json"
    path.write_text(
        '{"name": "x", "text": "{prompt} {a} {b}", "text": "{b} {a} {prompt}", "labels": ["A", "B"]}'
    )
    with pytest.raises(TemplateError, match="the key 'text' stands there twice"):
        load_template(path)
