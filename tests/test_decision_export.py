"""``gram export decision`` and transformers' own pipeline; folders that bring a decision template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gram
from conftest import make_manifest, run
from gram.bench.decision import pipeline_is_there
from gram.decisions import ChoiceAnswer, NoulAnswer, ScoreAnswer
from gram.decisions.export import export_decision
from gram.errors import CheckpointError, ConfigError, DataError
from gram.modeling.manifest import Manifest, read_manifest
from gram.modeling.saving import save_checkpoint
from gram.rendering import Renderer, load_template
from small_models import causal
from small_tokenizers import tokenizer_of

pytestmark = pytest.mark.skipif(not pipeline_is_there(), reason="needs a newer transformers")

STATES: list[Any] = [
    "The parcel came late , and the box was open . Naïve “café” \n\n ok",
    {"stars": 2, "text": ["It broke .", None]},
    [{"role": "user", "content": "Hi !"}],
    [
        {"role": "system", "content": "Be kind ."},
        {"role": "user", "content": "Hi !"},
        {"role": "x", "content": ""},
    ],
    [{"role": "user"}, 3],
]
QUESTIONS: dict[str, Any] = {
    "refund": {"type": "noul", "instructions": "Is a refund requested ?"},
    "angry": {"type": "noul", "criteria": {"true": "Strong words .", "false": {"not": ["that"]}}},
    "tone": {
        "type": "choice",
        "instructions": "The tone ?",
        "criteria": {"calm": "Polite", "angry": None, "x": {}},
    },
    "color": {"type": "choice", "instructions": ["Which ?"], "criteria": {"blue": None, "red": "or so"}},
    "urgency": {
        "type": "score",
        "instructions": "How urgent ?",
        "criteria": ["It can wait", {"a": 1}, "Now"],
    },
}


def save(folder: Path, style: str = "chatml", architecture: str = "llama") -> Path:
    """A raw language model."""
    tokenizer = tokenizer_of(style)
    causal(architecture, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_judge(folder: Path, decisions: dict[str, Any] | None = None) -> Path:
    tokenizer = tokenizer_of("chatml")
    renderer = Renderer(tokenizer, load_template("compact"), 512)
    manifest = make_manifest("judge", renderer)
    manifest = Manifest(**{**vars(manifest), "decisions": decisions or {}})
    save_checkpoint(folder, causal("llama", len(tokenizer)), tokenizer, manifest)
    return folder


def pipeline_of(folder: Path) -> Any:
    from transformers import pipeline

    make: Any = pipeline  # its overloads name no task of this kind yet
    return make("decision", model=str(folder), dtype=torch.float32)


def numbers(answer: Any) -> list[float]:
    """All numbers of an answer, of the pipeline or ours."""
    match answer:
        case NoulAnswer(noul=p) | {"noul": p}:
            return [p]
        case ChoiceAnswer():
            return [answer.confidence, *answer.probabilities.values()]
        case ScoreAnswer():
            return [answer.score, answer.confidence, *answer.probabilities]
        case {"type": "choice"}:
            return [answer["confidence"], *answer["probabilities"].values()]
    return [answer["score"], answer["confidence"], *answer["probabilities"].values()]


def agree(ours: Any, theirs: dict[str, Any], tolerance: float = 1e-5) -> None:
    assert list(ours) == list(theirs)
    for name, answer in theirs.items():
        np.testing.assert_allclose(numbers(ours[name]), numbers(answer), atol=tolerance, err_msg=name)
        if answer["type"] == "choice":
            assert ours[name].choice == answer["choice"]


@pytest.mark.parametrize(
    ("style", "architecture"),
    [
        ("chatml", "llama"),
        ("headers", "qwen3"),
        ("thinking", "phi3"),
        ("base", "gpt2"),
        ("base with bos", "llama"),
    ],
)
def test_the_pipeline_gives_our_probabilities_in_one_order(
    style: str, architecture: str, tmp_path: Path
) -> None:
    """From the command's folder, for every form of state and question; and so does ``gram.load`` of it."""
    source = save(tmp_path / "source", style, architecture)
    result = export_decision(str(source), tmp_path / "decision")
    assert result["questions"] == ["noul", "choice", "score"] and result["most_options"] == 26
    pipe = pipeline_of(tmp_path / "decision")
    first, again = gram.load(source, device="cpu"), gram.load(tmp_path / "decision", device="cpu")
    seen = set()
    for state in STATES:
        theirs = pipe({"state": state, "questions": QUESTIONS})
        agree(gram.decide(first, state, QUESTIONS, orders=1), theirs)
        agree(gram.decide(again, state, QUESTIONS, orders=1), theirs)
        seen.add(round(theirs["tone"]["confidence"], 6))
    assert len(seen) == len(STATES)
    both = [gram.decide(model, STATES[0], QUESTIONS, orders=4) for model in (first, again)]
    for name in QUESTIONS:
        np.testing.assert_allclose(numbers(both[0][name]), numbers(both[1][name]), atol=1e-6)


def test_a_judge_stays_one_and_its_temperatures_go_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The command's JSON line; the folder compares as before, with digests of the two files."""
    heat = {"temperature": {"noul": 2.0, "choice": 0.5}}
    source = save_judge(tmp_path / "judge", heat)
    code, result, _ = run(capsys, "export", "decision", "--model", source, "--output", tmp_path / "out")
    assert code == 0 and result["output"] == str(tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "decision.json").read_text())
    assert settings["temperature"] == heat["temperature"] and settings["labels"]["choice"][:3] == [
        "A",
        "B",
        "C",
    ]
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None and {"decision.json", "decision_template.jinja"} <= set(manifest.files)
    before, after = gram.load(source, device="cpu"), gram.load(tmp_path / "out", device="cpu")
    pair = gram.Pair("Which ?", a="blue", b="red")
    np.testing.assert_allclose(after.compare([pair]).log_odds, before.compare([pair]).log_odds, atol=1e-6)
    theirs = pipeline_of(tmp_path / "out")({"state": "x", "questions": QUESTIONS})
    agree(gram.decide(before, "x", QUESTIONS, orders=1), theirs)
    agree(gram.decide(after, "x", QUESTIONS, orders=1), theirs)
    (tmp_path / "out" / "decision_template.jinja").write_text("{{ state }}")
    with pytest.warns(UserWarning, match=r"decision_template\.jinja changed"):
        gram.load(tmp_path / "out", device="cpu")


def test_nothing_is_overwritten_and_nothing_half_written(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = save(tmp_path / "source")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    code, _, err = run(capsys, "export", "decision", "--model", source, "--output", tmp_path / "full")
    assert code == 1 and "holds something already; name a new folder" in err
    assert [path.name for path in (tmp_path / "full").iterdir() if not path.name.startswith(".")] == [
        "mine.txt"
    ]
    code, _, err = run(capsys, "export", "decision", "--model", source, "--output", source)
    assert code == 1 and "source" in err and not (source / "decision.json").exists()
    code, _, err = run(capsys, "export", "decision", "--model", tmp_path / "none", "--output", tmp_path / "o")
    assert code == 1 and "no such folder" in err and not (tmp_path / "o").exists()


def test_only_judges_are_exported(likelihood_folder: Path, scalar_folder: Path, tmp_path: Path) -> None:
    for folder, kind in ((likelihood_folder, "likelihood"), (scalar_folder, "scalar")):
        with pytest.raises(CheckpointError, match=f"is a {kind} model, which gives numbers to whole answers"):
            export_decision(str(folder), tmp_path / kind)
        assert not (tmp_path / kind).exists()
    export_decision(str(save(tmp_path / "source")), tmp_path / "once")
    with pytest.raises(CheckpointError, match="it is one already"):
        export_decision(str(tmp_path / "once"), tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def test_labels_that_the_pipeline_would_look_up_wrongly_are_refused(tmp_path: Path) -> None:
    """A SentencePiece tokenizer that begins every text with a space: "A" alone is not the A of a prompt."""
    source = save(tmp_path / "source", "inst")
    with pytest.raises(CheckpointError, match=r"\['A', 'B'\] are other tokens by themselves than behind"):
        export_decision(str(source), tmp_path / "out")
    assert 0 < gram.decide(gram.load(source, device="cpu"), "x", QUESTIONS)["refund"].noul < 1


def test_an_architecture_that_the_pipeline_takes_for_a_decision_model_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """transformers 5.23 makes a Jev model with new weights of a Qwen2 folder; the loaded model it takes."""
    from transformers import AutoModelForCausalLM, pipeline

    source = save(tmp_path / "source", "chatml", "qwen2")
    export_decision(str(source), tmp_path / "out")
    assert [record.message for record in caplog.records if "JevForDecision" in record.message]
    make: Any = pipeline
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    pipe = make("decision", model=model, tokenizer=str(tmp_path / "out"))
    theirs = pipe({"state": "x", "questions": QUESTIONS})
    agree(gram.decide(gram.load(source, device="cpu"), "x", QUESTIONS, orders=1), theirs)


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    source = save(tmp_path / "base")
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    peft: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(source),
        LoraConfig(target_modules=["q_proj"], init_lora_weights=False),
    )
    peft.save_pretrained(tmp_path / "adapter")
    export_decision(str(tmp_path / "adapter"), tmp_path / "out", base=str(source))
    adapter = gram.load(tmp_path / "adapter", base=source, device="cpu")
    agree(
        gram.decide(adapter, "x", QUESTIONS, orders=1),
        pipeline_of(tmp_path / "out")({"state": "x", "questions": QUESTIONS}),
    )
    plain = gram.decide(gram.load(source, device="cpu"), "x", QUESTIONS, orders=1)
    assert abs(plain["refund"].noul - gram.decide(adapter, "x", QUESTIONS)["refund"].noul) > 1e-4


# --- Folders of others ---

TEMPLATE = (
    "<|im_start|>{% if question %}{{ question.instructions }}{% endif %} S: {{ state }}\n"
    "{% for option in question.options %}{{ question.labels[loop.index0] }}) {{ option }}"
    "{% if question.descriptions[loop.index0] %} - {{ question.descriptions[loop.index0] }}{% endif %}\n"
    "{% endfor %}"
    "= <|mark|> and more behind it"
)


def foreign(folder: Path, template: str | None = TEMPLATE, **settings: Any) -> Path:
    save(folder)
    if template is not None:
        (folder / "decision_template.jinja").write_text(template)
    (folder / "decision.json").write_text(json.dumps(settings))
    return folder


LABELS = {"noul": ["y", "n"], "choice": ["1", "2", "3"], "score": ["X", "Y", "Z"]}


@pytest.mark.parametrize(
    "settings",
    [
        {"labels": LABELS},
        {"labels": LABELS, "noul_options": ["false", "true"], "temperature": {"noul": 3, "score": 0.5}},
        {"labels": LABELS, "sanitize_control_tokens": False, "sort_choices": True},
    ],
)
@pytest.mark.parametrize("template", [TEMPLATE, None], ids=["its own", "transformers' default"])
def test_a_folder_is_asked_with_its_own_template_and_labels(
    settings: dict[str, Any], template: str | None, tmp_path: Path
) -> None:
    """As the pipeline does, marks in the middle included."""
    folder = foreign(tmp_path / "theirs", template, **settings)
    pipe, model = pipeline_of(folder), gram.load(folder, device="cpu")
    for state in STATES:
        agree(
            gram.decide(model, state, QUESTIONS, orders=1),
            pipe({"state": state, "questions": QUESTIONS}),
        )
    found = gram.decide(model, "x", QUESTIONS)
    one = gram.decide(model, "x", QUESTIONS, orders=1)
    assert numbers(found["refund"]) == pytest.approx(numbers(one["refund"]), abs=1e-6)
    assert numbers(found["tone"]) != pytest.approx(numbers(one["tone"]), abs=1e-3)
    color = {"type": "choice", "instructions": ["Which ?"], "criteria": {"red": "or so", "blue": None}}
    turned = gram.decide(model, "x", {"color": color})["color"]
    assert dict(turned.probabilities) == pytest.approx(dict(found["color"].probabilities), abs=1e-6)


def test_one_question_does_not_change_another_where_a_template_could_show_all(tmp_path: Path) -> None:
    together = (
        "{{ state }}{% for q in questions %} {{ q.instructions }} {{ q.labels[0] }} = <|mark|>{% endfor %}"
    )
    folder = foreign(tmp_path / "theirs", together, labels=LABELS)
    model, pipe = gram.load(folder, device="cpu"), pipeline_of(folder)
    found = gram.decide(model, "x", QUESTIONS, orders=1)
    for name, question in QUESTIONS.items():
        agree({name: found[name]}, pipe({"state": "x", "questions": {name: question}}))


def test_a_long_text_is_shortened_for_a_foreign_template_and_json_is_not(tmp_path: Path) -> None:
    model = gram.load(foreign(tmp_path / "theirs", labels=LABELS), device="cpu", max_length=120)
    answers = gram.decide(model, "it came late . " * 100, QUESTIONS)
    assert (
        answers.usage.truncated == answers.usage.judged and answers.usage.tokens <= 120 * answers.usage.judged
    )
    with pytest.raises(DataError, match=r"field 'state': takes .* only a text can be shortened"):
        gram.decide(model, {"text": "it came late . " * 100}, QUESTIONS)
    with pytest.raises(DataError, match=r"field 'questions.q': leaves no room for the state"):
        gram.decide(model, "x " * 100, {"q": {"type": "noul", "instructions": "why ? " * 200}})


@pytest.mark.parametrize(
    ("settings", "template", "error", "message"),
    [
        ({"labels": {"choice": ["AB", "Q Q"]}}, TEMPLATE, CheckpointError, "are not distinct single tokens"),
        ({"labels": {"choice": ["A", "A"]}}, TEMPLATE, CheckpointError, "are not distinct single tokens"),
        ({"labels": {"choice": ["A"]}}, TEMPLATE, DataError, "has 2 options, and the model has 1 labels"),
        (
            {"labels": {"choice": "AB"}},
            TEMPLATE,
            CheckpointError,
            r"decision\.json: field 'labels\.choice' has",
        ),
        (
            {"temperature": {"noul": 0}},
            TEMPLATE,
            CheckpointError,
            "field 'temperature.noul' .* positive number",
        ),
        ({"noul_options": ["true"]}, TEMPLATE, CheckpointError, "field 'noul_options' has the wrong type"),
        ({"adapter": "lora"}, TEMPLATE, ConfigError, "its decisions are those of the adapter in 'lora'"),
        ({}, "{{ state }}{{ raise_exception('no') }}", CheckpointError, "its decision template fails: no"),
        ({}, "{{ state", CheckpointError, "its decision template fails"),
        (
            {},
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            CheckpointError,
            "takes",
        ),
    ],
)
def test_files_that_cannot_be_followed_are_refused_when_a_question_comes(
    settings: dict[str, Any], template: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    """The model still compares answers."""
    model = gram.load(foreign(tmp_path / "theirs", template, **settings), device="cpu")
    assert len(model.compare([gram.Pair("Which ?", a="blue", b="red")])) == 1
    question = {"type": "choice", "instructions": "?", "criteria": {"x": None, "y": None}}
    with pytest.raises(error, match=message):
        gram.decide(model, "x", {"q": question})
