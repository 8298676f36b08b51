"""The chat settings in ``gram.json``: kept by training, used by scoring, and what their absence means."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import make_manifest, sharpened
from gram import Pair
from gram.errors import CheckpointError
from gram.modeling.manifest import FILE
from gram.modeling.renderers import chat_settings
from gram.modeling.saving import save_checkpoint
from gram.modeling.writer import Writer
from gram.rendering import NEW_SETTINGS, Renderer, load_template
from gram.scoring.scalar import LikelihoodModel
from gram.types import as_chat
from small_models import config_of
from small_tokenizers import CHATML, byte_level

CLOCK = "{{ '<|im_start|>system\nToday: ' + strftime_now('%d %b %Y') + '<|im_end|>\n' }}" + CHATML
PAIR = Pair("Is it late?", a="It is early.", b="It is late.")


def on_day(monkeypatch: pytest.MonkeyPatch, day: datetime.datetime) -> None:
    """Let the clock that transformers gives to templates stand still on ``day``."""
    from transformers.utils import chat_template_utils

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime.datetime:  # type: ignore[override]
            return day

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model whose chat template writes the date."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("clock") / "raw"
    tokenizer = byte_level(["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=CLOCK)
    model = sharpened(AutoModelForCausalLM.from_config(config_of("llama", len(tokenizer))))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a ``gram.json``, as training writes one."""
    from gram.modeling.loading import load_model

    loaded = load_model(raw, "lm")
    renderer = Renderer(loaded.tokenizer, load_template("compact"), 512)
    folder = tmp_path_factory.mktemp("clock") / "trained"
    save_checkpoint(folder, loaded.model, loaded.tokenizer, make_manifest("judge", renderer))
    return folder


def changed(folder: Path, target: Path, **fields: Any) -> Path:
    """A copy of a checkpoint with other fields in ``gram.json``; None takes one out."""
    import shutil

    shutil.copytree(folder, target)
    content = json.loads((target / FILE).read_text()) | fields
    (target / FILE).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return target


def test_scores_do_not_depend_on_the_day(
    raw: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raw models, trained ones and those from before: the log-odds of one pair, on two days.

    The template itself writes another text on each, which would give other log-odds.
    """
    folders = [raw, trained, changed(trained, tmp_path / "before", chat=None)]
    odds = []
    for day in (datetime.datetime(2026, 1, 1), datetime.datetime(2026, 7, 9)):
        on_day(monkeypatch, day)
        models = [gram.load(folder, template="compact") for folder in folders]
        odds.append([model.compare([PAIR]).log_odds.tolist() for model in models])
        likelihood = gram.load(raw, kind="likelihood")
        assert isinstance(likelihood, LikelihoodModel)
        odds[-1].append(likelihood.score([as_chat("Is it late?")], ["No."]).tolist())
        odds[-1].append(Writer.from_pretrained(str(raw), max_new_tokens=8)([as_chat("Is it late?")]))
        tokenizer = byte_level(["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=CLOCK)
        text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        assert day.strftime("%d %b %Y") in str(text)  # else this test could not fail
    assert odds[0] == odds[1]
    assert odds[0][0] == odds[0][1]  # the same weights, asked in the same words


def test_the_day_in_gram_json_is_the_one_that_is_told(trained: Path, tmp_path: Path) -> None:
    assert json.loads((trained / FILE).read_text())["chat"] == NEW_SETTINGS
    other = changed(trained, tmp_path / "other", chat={"date": "2025-12-24", "thoughts": "template"})
    first, second = (gram.load(folder).compare([PAIR]).log_odds for folder in (trained, other))
    assert abs(first - second).max() > 1e-3


def test_checkpoints_of_earlier_versions_score_as_before(tmp_path: Path) -> None:
    """A template that writes the switch into a user's turn (GLM 4.5 does): a ``gram.json`` that does not tell
    of it means that it was written there in training too; transformers tells of no switch by default.
    """
    switch = "{{ m['content'] }}{% if enable_thinking is false and m['role'] == 'user' %}/nothink{% endif %}"
    template = CHATML.replace("{{ m['content'] }}", switch)
    tokenizer = byte_level(["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=template)
    compact = load_template("compact")
    manifest = make_manifest("likelihood", Renderer(tokenizer, compact, 512))
    for chat, ending in (({"thoughts": "template"}, "/nothink"), ({}, "/nothink"), (NEW_SETTINGS, "")):
        settings = chat_settings(replace(manifest, chat=chat), source=tmp_path)
        [item] = Renderer(tokenizer, compact, 512, chat=settings).answers(["late?"], ["No."])
        assert f"user\nlate?{ending}<|im_end|>" in tokenizer.decode(item.ids)


def test_checkpoints_of_earlier_versions_read_tags_as_before(tmp_path: Path) -> None:
    """A tokenizer with tags of HTML as added tokens: a ``gram.json`` without the setting was written when
    these were made harmless in training, so that they are now.
    """
    tokenizer = byte_level(["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=CHATML)
    tokenizer.add_tokens(["<b>"])
    renderer = Renderer(tokenizer, compact := load_template("compact"), 512)
    manifest = make_manifest("judge", renderer)
    assert renderer.settings["chat"]["html"] == "text"
    for chat, shown in (({}, "a<\u200bb>"), ({"switch": "cue"}, "a<\u200bb>"), (manifest.chat, "a<b>")):
        settings = chat_settings(replace(manifest, chat=chat), source=tmp_path)
        [item] = Renderer(tokenizer, compact, 512, chat=settings).judge([Pair("late?", "a<b>", "c")])
        assert shown in tokenizer.decode(item.ids)


@pytest.mark.parametrize(
    ("chat", "field"),
    [
        ({"date": "yesterday"}, "chat.date"),
        ({"date": 5}, "chat.date"),
        ({"thoughts": "aloud"}, "chat.thoughts"),
        ({"thoughts": None}, "chat.thoughts"),
        ({"switch": "off"}, "chat.switch"),
        ({"html": True}, "chat.html"),
        ([], "chat"),
    ],
)
def test_wrong_settings_are_named(trained: Path, tmp_path: Path, chat: Any, field: str) -> None:
    folder = changed(trained, tmp_path / "wrong", chat=chat)
    with pytest.raises(CheckpointError, match=rf"{FILE}: field '{field}'"):
        gram.load(folder)
