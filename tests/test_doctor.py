"""``gram doctor`` finds every fault that is planted here, with a line of its own, and none elsewhere."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import MAX_LENGTH, make_manifest, make_preferences, run, sharpened
from gram.doctor import Finding, ok
from gram.doctor.checks import CHECKS, Check
from gram.doctor.examine import diagnose, examine
from gram.doctor.examples import EASY
from gram.doctor.facts import Facts
from gram.doctor.options import DoctorOptions
from gram.engine.base import TokenRow
from gram.engine.plain import Plain
from gram.modeling.loading import LoadedModel
from gram.modeling.manifest import FILE
from gram.modeling.saving import save_checkpoint
from gram.rendering import JudgeTemplate, Renderer
from gram.training.folder import SETTINGS
from gram.types import Verdicts
from small_models import small_shape
from small_tokenizers import CHATML

Findings = list[dict[str, str]]


def findings(model: Path | str, **options: Any) -> Findings:
    return diagnose(DoctorOptions(model=str(model), device="cpu", **options))["findings"]


def bad(found: Findings) -> list[tuple[str, str]]:
    return [(item["check"], item["level"]) for item in found if item["level"] in ("warning", "error")]


def taught(preset: LoadedModel, renderer: Renderer, folder: Path, *, always_first: bool = False) -> Path:
    """A judge that knows the doctor's own pairs by heart; or one that always says the first label."""
    loaded = copy.deepcopy(preset)
    pairs = [pair for pair in EASY for pair in (pair, pair.swapped())]
    rows = [TokenRow(prompt.ids) for prompt in renderer.judge(pairs)]
    first_is_better = [place // 2 % 2 == place % 2 or always_first for place in range(len(pairs))]
    labels = torch.tensor([0 if first else 1 for first in first_is_better])
    batch = Plain().lay_out(rows)
    targets = torch.tensor(renderer.label_ids)[labels]
    optimizer = torch.optim.Adam(loaded.model.parameters(), lr=2e-3)
    loss = torch.tensor(1.0)
    for _ in range(200):
        logits = Plain().next_logits(loaded.model, batch, range(len(loaded.tokenizer)))
        loss = torch.nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    assert loss < 0.1
    save_checkpoint(folder, loaded.model, loaded.tokenizer, make_manifest("judge", renderer))
    return folder


@pytest.fixture(scope="module")
def judge(preset: LoadedModel, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(preset, renderer, tmp_path_factory.mktemp("doctor") / "judge")


@pytest.fixture
def folder(judge: Path, tmp_path: Path) -> Path:
    """A copy of the healthy judge, to plant a fault in."""
    return Path(shutil.copytree(judge, tmp_path / "model"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good rows."""
    return written(tmp_path_factory.mktemp("rows") / "rows.jsonl")


def written(path: Path, count: int = 12, **more: Any) -> Path:
    """``count`` rows with ``more`` columns, whose values may be functions of the row's number."""
    lines = []
    for place, item in enumerate(make_preferences(count)):
        row = {"prompt": item.pair.prompt[-1].content + f" {place}", "chosen": item.pair.a}
        row |= {"rejected": item.pair.b}
        row |= {name: value(place) if callable(value) else value for name, value in more.items()}
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines))
    return path


# --- Healthy models ---


def test_a_healthy_judge_has_no_warning(judge: Path, rows: Path) -> None:
    found = findings(judge)
    assert not bad(found)
    expected = {check.name for check in CHECKS} - {"roles", "rows", "columns", "lengths"}
    assert [item["check"] for item in found if item["level"] == "ok"] == [
        check.name for check in CHECKS if check.name in expected
    ]
    of_rows = {item["check"]: item for item in findings(judge, data=str(rows))}
    assert {of_rows[name]["level"] for name in ("rows", "columns", "lengths")} == {"ok"}
    assert of_rows["rows"]["says"] == "12, all can be used"


@pytest.mark.parametrize("kind", ["likelihood", "scalar"])
def test_healthy_models_of_the_other_kinds(kind: str, request: pytest.FixtureRequest) -> None:
    found = findings(request.getfixturevalue(f"{kind}_folder"))
    assert not bad(found)
    assert {item["check"] for item in found} >= {"roles", "batches", "dtype"}
    assert not {item["check"] for item in found} & {"label_tokens", "label_mass", "orders", "thoughts"}


# --- Planted faults ---


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def unrecorded(folder: Path) -> None:
    """Take the digests out of ``gram.json``: the fault was there when the model was saved."""
    edit(folder / FILE, files={})


def chat_template(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(change(path.read_text()))
    unrecorded(folder)


def special(folder: Path, **tokens: str) -> None:
    edit(folder / "tokenizer_config.json", **tokens)
    unrecorded(folder)


def asked_with(folder: Path, template: JudgeTemplate) -> None:
    edit(folder / FILE, template=template.to_json(), template_hash=template.hash, label_ids=[])


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def opens_thoughts(folder: Path, thoughts: str) -> None:
    chat_template(folder, lambda text: text + "{% if add_generation_prompt %}<think>\n{% endif %}")
    edit(folder / FILE, chat={"date": "2024-07-26", "thoughts": thoughts})


def two_token_label(folder: Path) -> None:
    asked_with(folder, JudgeTemplate("long", "{prompt}\n{a}\n{b}\n", ("the first one", "B")))


def begins_twice(folder: Path) -> None:
    special(folder, bos_token="<|system|>")
    chat_template(folder, lambda text: "{{ bos_token }}{{ bos_token }}" + text)


def other_embedding(folder: Path) -> None:
    change_weights(folder, lambda weights: next(iter(weights.values())).mul_(1.001))


def not_finite(folder: Path) -> None:
    change_weights(folder, lambda weights: weights["model.norm.weight"].fill_(float("nan")))
    unrecorded(folder)


def cancels(folder: Path) -> None:
    """Pairs of equal neurons, with 500 more and 500 less in their weights: in bf16 the steps are 2 there."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if "down_proj" in name]:
            for other in ("gate_proj", "up_proj"):
                inner = weights[name.replace("down_proj", other)]  # (MLP, hidden)
                inner[1::2] = inner[::2]
            weights[name][:, ::2] += 500
            weights[name][:, 1::2] -= 500

    change_weights(folder, change)
    unrecorded(folder)


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        unrecorded(folder)
        for name in names:
            (folder / name).unlink()

    return remove


def lost_manifest(folder: Path) -> None:
    (folder / FILE).unlink()
    (folder / SETTINGS).write_text("{}")


def no_cue(folder: Path) -> None:
    chat_template(folder, lambda text: text.replace("add_generation_prompt", "false"))


def dated_template(folder: Path) -> None:
    chat_template(folder, lambda text: "{{ strftime_now('%d %b %Y') }}" + text)
    edit(folder / FILE, chat={"thoughts": "template"})  # of a version that kept no date


def anything(folder: Path) -> None:
    """Nothing is planted: the fault is in the options."""


@dataclass(frozen=True)
class Fault:
    """What is planted, and the line that finds it; ``also`` names what follows from it elsewhere."""

    plant: Callable[[Path], None]
    check: str
    level: str
    says: str
    also: set[str] = field(default_factory=set)
    options: dict[str, Any] = field(default_factory=dict)


_ANSWERS = {"label_mass", "orders"}  # what a judge says of prompts that it has not learned
FAULTS = {
    "no such folder": Fault(shutil.rmtree, "folder", "error", "no such folder"),
    "broken config": Fault(
        lambda folder: edit(folder / "config.json", vocab_size="many"), "folder", "error", "'vocab_size'"
    ),
    "unknown architecture": Fault(
        lambda folder: edit(folder / "config.json", model_type="nosuch"),
        "config",
        "error",
        "nosuch",
        {"files"},
    ),
    "broken gram.json": Fault(
        lambda folder: edit(folder / FILE, kind="oracle"), "manifest", "error", "field 'kind'"
    ),
    "lost gram.json": Fault(lost_manifest, "manifest", "warning", "has gram-train.json", _ANSWERS),
    "a date that is none": Fault(
        lambda folder: edit(folder / FILE, chat={"date": "today"}), "chat_template", "error", "'chat.date'"
    ),
    "changed weights": Fault(other_embedding, "files", "warning", "model.safetensors changed"),
    "lost file": Fault(
        lambda folder: (folder / "chat_template.jinja").unlink(),
        "files",
        "error",
        "saved with chat_template.jinja",
    ),
    "no tokenizer": Fault(
        without("tokenizer.json", "tokenizer_config.json"),
        "tokenizer",
        "error",
        "no tokenizer in this folder",
    ),
    "pad is eos": Fault(
        lambda folder: special(folder, pad_token="<|end|>"), "special_tokens", "warning", "are one token"
    ),
    "another family's chat template": Fault(
        lambda folder: chat_template(folder, lambda text: CHATML),
        "chat_template",
        "warning",
        r"writes <\|im_end\|>, <\|im_start\|>, and this tokenizer has no such tokens",
        _ANSWERS,
    ),
    "no cue for the assistant": Fault(no_cue, "chat_template", "error", "without the cue", _ANSWERS),
    "a template that is random": Fault(
        lambda folder: chat_template(folder, lambda text: "{{ range(100000) | random }}" + text),
        "chat_template",
        "error",
        "another text each time",
    ),
    "date in the template": Fault(dated_template, "date", "warning", "asks for today's date", _ANSWERS),
    "thoughts opened and closed": Fault(
        lambda folder: opens_thoughts(folder, "template"), "thoughts", "warning", "opens <think>", _ANSWERS
    ),
    "thoughts left open": Fault(
        lambda folder: opens_thoughts(folder, "text"), "thoughts", "error", "inside of thoughts", _ANSWERS
    ),
    "edited template": Fault(
        lambda folder: edit(folder / FILE, template_hash="other"), "prompts", "error", "it was edited"
    ),
    "another template": Fault(
        anything, "prompts", "warning", "trained with gram-compact", _ANSWERS, {"template": "default"}
    ),
    "cut-off cue": Fault(anything, "cue", "error", "max_length 20 is too small", options={"max_length": 20}),
    "double bos": Fault(begins_twice, "begin_tokens", "error", r"<\|system\|> twice", _ANSWERS),
    "two-token label": Fault(two_token_label, "label_tokens", "error", "must be one token in its place"),
    "labels of other ids": Fault(
        lambda folder: edit(folder / FILE, label_ids=[7, 8]),
        "label_tokens",
        "error",
        r"trained with label ids \[7",
    ),
    "weights that are no numbers": Fault(not_finite, "weights", "error", "not finite"),
    "numbers that drift": Fault(cancels, "dtype", "warning", "in fp32 and bf16 differs by 0.", _ANSWERS),
    "one order only": Fault(anything, "orders", "warning", "one order only", options={"single_order": True}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, folder: Path) -> None:
    """It has a line of its own, with something to do; nothing is said that does not follow from it."""
    fault = FAULTS[name]
    fault.plant(folder)
    found = findings(folder, **fault.options)
    [line] = [item for item in found if item["check"] == fault.check and item["level"] == fault.level]
    assert re.search(fault.says, line["says"]) and line["do"], line
    assert {check for check, _ in bad(found)} - fault.also == {fault.check}, bad(found)


def test_at_least_fifteen_are_planted() -> None:
    assert len(FAULTS) >= 15


# --- Faults of what the model says ---


def test_labels_that_the_model_would_not_say(judge_folder: Path) -> None:
    """Of a model that has learned nothing, two of 400 words have a probability of about 2/400."""
    assert ("label_mass", "error") in bad(findings(judge_folder))


def test_a_judge_that_only_knows_a_place(preset: LoadedModel, renderer: Renderer, tmp_path: Path) -> None:
    found = findings(taught(preset, renderer, tmp_path / "first", always_first=True))
    [line] = [item for item in found if item["check"] == "orders"]
    assert bad(found) == [("orders", "warning")] and "6 of 6 pairs" in line["says"]
    assert "the first place wins (by 0.9" in line["says"] or "the first place wins (by 1.0" in line["says"]


def test_numbers_that_depend_on_the_batch(judge: Path) -> None:
    """A pair alone has log-odds 1, and each other pair in the call adds a tenth: six give 1.5."""

    class Crowded:
        def compare(self, pairs: list[Any]) -> Verdicts:
            return Verdicts(np.full((len(pairs), 2), 0.9 + len(pairs) / 10), np.ones((len(pairs), 2)))

    facts = Facts(DoctorOptions(model=str(judge), device="cpu"))
    facts.known["asked"] = Crowded()
    [found] = examine(facts, [check for check in CHECKS if check.name == "batches"])
    assert found.level == "error" and "change by 0.5 with what else is in the batch" in found.says


def test_encoders_are_told_apart(preset: LoadedModel, tmp_path: Path) -> None:
    """A classifier that pools the first token, which is padding when padded on the left; a two-way reader."""
    import transformers as hf

    shape: dict[str, Any] = small_shape(len(preset.tokenizer)) | {"max_position_embeddings": MAX_LENGTH}
    del shape["num_key_value_heads"]
    one_output: dict[str, Any] = {**shape, "num_labels": 1}
    classifier = hf.BertForSequenceClassification(hf.BertConfig(**one_output))
    reader = hf.BertLMHeadModel(hf.BertConfig(**shape))
    for name, model in (("classifier", classifier), ("reader", sharpened(reader))):
        model.save_pretrained(tmp_path / name)
        preset.tokenizer.save_pretrained(tmp_path / name)
    found = findings(tmp_path / "classifier", kind="scalar")
    assert bad(found) == [("weights", "error")] and "no scalar head on a decoder" in text_of(found, "weights")
    found = findings(tmp_path / "reader", template="compact")
    assert bad(found) == [("neighbours", "error")]
    assert "reads in both directions" in text_of(found, "neighbours")


@pytest.mark.parametrize("lost", [True, False])
def test_a_classifier_is_asked_for_its_score(lost: bool, scalar_folder: Path, tmp_path: Path) -> None:
    """Nothing is wrong with its files: without ``gram.json`` it is the kind that has to be named."""
    folder = Path(shutil.copytree(scalar_folder, tmp_path / "model"))
    if lost:
        (folder / FILE).unlink()
    found = findings(folder, kind=None if lost else "judge")
    [line] = [item for item in found if item["level"] == "error"]
    assert (line["check"], line["do"]) == ("kind", "give --kind scalar")
    assert "a sequence classifier" in line["says"]
    assert text_of(found, "weights") == "not checked: see kind"
    assert not bad(findings(folder, kind="scalar"))


def test_a_language_model_has_no_score(likelihood_folder: Path) -> None:
    found = findings(likelihood_folder, kind="scalar")
    [line] = [item for item in found if item["level"] == "error"]
    assert line["check"] == "weights" and line["do"].endswith("leave --kind scalar out")


def text_of(found: Findings, check: str) -> str:
    return " ".join(item["says"] for item in found if item["check"] == check)


def test_turns_that_the_template_refuses(likelihood_folder: Path, tmp_path: Path) -> None:
    """No system turns is worth a warning; no longer conversations an error, and such rows are counted."""
    folder = Path(shutil.copytree(likelihood_folder, tmp_path / "model"))
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    chat_template(folder, lambda text: refuses + text)
    found = findings(folder)
    assert bad(found) == [("roles", "warning")] and "refuses system turns" in text_of(found, "roles")
    refuses = "{% if messages | length > 2 %}{{ raise_exception('too many') }}{% endif %}"
    chat_template(folder, lambda text: refuses + text)
    turns = [{"role": role, "content": "hm"} for role in ("user", "assistant", "user")]
    data = tmp_path / "turns.jsonl"
    data.write_text(json.dumps({"prompt": turns, "chosen": "yes", "rejected": "no"}))
    found = findings(folder, data=str(data))
    assert {("roles", "error"), ("lengths", "error")} <= set(bad(found))
    assert "1 of 1 rows cannot be shown" in text_of(found, "lengths")


# --- Faults of the data ---


def only(check: str, model: Path, data: Path, **options: Any) -> list[tuple[str, str]]:
    """Level and text of what one check finds."""
    facts = Facts(DoctorOptions(model=str(model), data=str(data), device="cpu", **options))
    return [(item.level, item.says) for item in examine(facts, [c for c in CHECKS if c.name == check])]


def test_columns_that_say_nothing(judge: Path, tmp_path: Path) -> None:
    """The same margin everywhere, an id that is never there, and a name with a typo."""
    columns: dict[str, Any] = {"margin": 2, "id": None, "p_chosn": lambda place: place / 12, "lang": "en"}
    data = written(tmp_path / "rows.jsonl", **columns)
    assert only("columns", judge, data) == [
        ("warning", "'margin' is the same in all 12 rows that have it ('2')"),
        ("warning", "'id' is empty in every row"),
        ("warning", "nothing reads 'p_chosn'; is it 'p_chosen'?"),
    ]
    [(level, says)] = only("columns", judge, data, columns="p_chosen=p_chosn,ignore=margin,ignore=id")
    assert (level, says.partition("; ")[2]) == ("ok", "not read: lang")


def test_rows_that_cannot_be_used(judge: Path, tmp_path: Path) -> None:
    """Every third answer is empty: rows 0, 3, 6 and 9, of which the first is line 1."""
    data = written(tmp_path / "rows.jsonl", chosen=lambda place: "" if place % 3 == 0 else f"answer {place}")
    [(level, says)] = only("rows", judge, data)
    assert level == "warning" and says.startswith("4 of 12 rows cannot be used; the first: ")
    assert "rows.jsonl:1: field 'chosen'" in says
    [(level, says)] = only("rows", judge, written(tmp_path / "rows.jsonl", chosen=""))
    assert level == "error" and says.startswith("none of the 12 rows can be used")
    assert [level for level, _ in only("lengths", judge, tmp_path / "rows.jsonl")] == ["skipped"]
    [(level, says)] = only("rows", judge, tmp_path / "nowhere.jsonl")
    assert level == "error" and "nowhere.jsonl" in says


@pytest.mark.parametrize(
    ("long", "level", "share"), [(0, "ok", "0%"), (2, "warning", "17%"), (9, "error", "75%")]
)
def test_rows_that_are_cut(long: int, level: str, share: str, judge: Path, tmp_path: Path) -> None:
    """``long`` of 12 pairs are longer than 512 tokens; of a judge each pair is one prompt."""
    data = written(
        tmp_path / "rows.jsonl", rejected=lambda place: f"no {place}" + " word" * (600 if place < long else 1)
    )
    assert only("lengths", judge, data, max_length=MAX_LENGTH) == [
        (level, f"{long} of 12 prompts ({share}) are longer than 512 tokens and lose their middle")
    ]


def test_plain_texts_are_rows_without_pairs(judge: Path, tmp_path: Path) -> None:
    data = tmp_path / "texts.jsonl"
    data.write_text('{"text": "Salt dissolves in water."}')
    assert only("rows", judge, data) == [("ok", "1, all can be used")]
    assert [level for level, _ in only("lengths", judge, data)] == ["skipped"]


# --- Whatever happens, there is a result ---


def test_a_check_that_fails_is_a_line(judge: Path) -> None:
    """An error is said once; who else needs the same says where it stands."""

    def divides(facts: Facts) -> list[Finding]:
        raise ZeroDivisionError("of one\nby zero")

    def fine(facts: Facts) -> list[Finding]:
        return [ok("fine")]

    checks = [Check("one", divides, "stop"), Check("two", divides, "stop"), Check("three", fine, "")]
    assert list(examine(Facts(DoctorOptions(model=str(judge))), checks)) == [
        Finding("error", "ZeroDivisionError: of one by zero", "stop", "one"),
        Finding("skipped", "not checked: see one", "", "two"),
        Finding("ok", "fine", "", "three"),
    ]


def test_the_command(judge: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines for people on stderr, one JSON line on stdout, and 1 where there is an error."""
    code, result, told = run(capsys, "doctor", "--model", judge, "--device", "cpu")
    assert code == 0 and (result["errors"], result["warnings"]) == (0, 0)
    assert result["model"] == str(judge) and result["ok"] == len(result["findings"])
    assert all(set(item) == {"check", "level", "says", "do"} for item in result["findings"])
    assert [line.split()[:2] for line in told.splitlines()][:-1] == [
        [item["level"], item["check"]] for item in result["findings"]
    ]
    (folder / "tokenizer.json").unlink()
    unrecorded(folder)
    code, result, told = run(capsys, "doctor", "--model", folder, "--device", "cpu")
    assert code == 1 and result["errors"] == 1 and result["skipped"] > 5
    assert "-> save the tokenizer beside the model" in told and told.endswith("1 errors, 0 warnings\n")


def test_the_page_has_every_check() -> None:
    page = (Path(__file__).parent.parent / "docs" / "doctor.md").read_text()
    listed = [
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line[:30])
    ]
    assert listed[4:] == [check.name for check in CHECKS]
