"""References that are missing, or cannot be written: a failure of their rows, which ends no run."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest

from gram.errors import DataError, TemplateError
from gram.modeling.loading import LoadedModel
from gram.modeling.writer import Writer
from gram.rl import LikelihoodReward, ReferenceReward
from gram.rl.openrlhf import OpenRlhfReward
from gram.rl.trl import TrlReward
from gram.rl.verl import VerlReward
from gram.types import Chat
from oracles import NumberJudge, NumberScorer

MISSING = [None, "", float("nan"), []]
"""What stands in a row without a reference, in some data set or other."""


@pytest.mark.parametrize("missing", MISSING)
def test_a_row_without_reference_fails_by_itself(missing: Any) -> None:
    """5 - 1 = 4 and 5 - 3 = 2; of the row between them it is told which it is."""
    reward = ReferenceReward(NumberJudge())
    references = ["1", missing, "3"]
    assert TrlReward(reward)(["p", "q", "r"], ["5"] * 3, reference=references) == [4.0, None, 2.0]
    assert reward.failures.count == 1
    assert reward.failures.last.startswith("field 'references[1]': missing: a reward against a reference")
    assert TrlReward(reward)(["p", "q"], ["5"] * 2, reference=[missing] * 2) == [
        None,
        None,
    ]
    assert reward.failures.count == 3


@pytest.mark.parametrize("missing", MISSING)
def test_one_row_alone_or_one_prompt_alone_fails_by_itself(missing: Any) -> None:
    """OpenRLHF and verl ask for one row, and TRL's first batch may be the answers to one prompt."""
    openrlhf = OpenRlhfReward(ReferenceReward(NumberJudge()))(["q3"], ["q"], [missing])
    assert (openrlhf["rewards"].tolist(), openrlhf["extra_logs"]["gram_failed"].tolist()) == ([0.0], [1.0])
    verl = VerlReward(ReferenceReward(NumberJudge()), neutral=-1.0)
    assert verl.compute_score("d", "3", missing, {"prompt": "q"})["score"] == -1.0
    group = TrlReward(ReferenceReward(NumberJudge()))
    assert group(["q"] * 4, ["1", "2", "3", "4"], reference=[missing] * 4) == [None] * 4


def test_no_reference_anywhere_is_an_error() -> None:
    """No column, or an empty one, is no fault of a row; it does not matter to other rewards."""
    columns_of_calls: list[dict[str, Any]] = [{}, {"reference": [None, ""]}, {"other": ["1", "2"]}]
    for columns in columns_of_calls:
        with pytest.raises(DataError, match="needs one per prompt, or a way to write it"):
            TrlReward(ReferenceReward(NumberJudge()))(["p", "q"], ["1", "2"], **columns)
        assert TrlReward(LikelihoodReward(NumberScorer()))(["p", "q"], ["1", "2"], **columns) == [1.0, 2.0]
    assert ReferenceReward(NumberJudge())([None], ["1"]).rewards == [None]  # type: ignore[list-item]


def test_a_writer_that_fails_costs_the_rows_of_its_prompt() -> None:
    """Asked for p, q and r, then for halves; q fails alone, for its two rows, and is asked again later."""
    asked: list[list[str]] = []

    def write(prompts: Sequence[Chat]) -> list[str]:
        names = [prompt[0].content for prompt in prompts]
        asked.append(names)
        if "q" in names:
            raise DataError("refused")
        return ["1"] * len(names)

    reward = ReferenceReward(NumberJudge(), answer=write)
    assert reward(["p", "q", "q", "r"], ["3"] * 4).rewards == [2.0, None, None, 2.0]
    assert asked == [["p", "q", "r"], ["p"], ["q", "r"], ["q"], ["r"]]
    assert (reward.failures.count, reward.failures.last) == (1, "refused")
    assert reward(["p", "q"], ["3"] * 2, [None, "2"]).rewards == [2.0, 1.0]
    assert reward(["p", "q"], ["3"] * 2).rewards == [2.0, None] and asked[5:] == [["q"]]


# --- The writer of this package ---

REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
ASKED = [{"role": "user", "content": "what is the bread ?"}]
REFUSED = [{"role": "system", "content": "be brief ."}, *ASKED]


def test_a_prompt_that_the_template_refuses_is_a_failure(preset: LoadedModel) -> None:
    """As Gemma's does with a system turn: the other prompt gets what it gets alone."""
    tokenizer: Any = copy.deepcopy(preset.tokenizer)
    tokenizer.chat_template = REFUSING + tokenizer.chat_template
    writer = Writer(preset.model, tokenizer, max_new_tokens=4)
    reason = r"prompts\[1\]': the tokenizer's chat template refuses turns of \(system, user\): no system role"
    with pytest.raises(DataError, match=reason):
        writer([ASKED, REFUSED])
    reward = TrlReward(ReferenceReward(NumberJudge(), answer=writer))
    assert reward([ASKED, REFUSED], ["3", "5"]) == [3.0, None]
    assert reward.reward.failures.count == 1


def test_a_writer_puts_prompts_into_tokens_as_transformers_does(
    preset: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the model reads, of prompts of different length, is what apply_chat_template gives with tokens."""
    read: list[Any] = []

    def generate(**options: Any) -> Any:
        read.append(options)
        return options["input_ids"]

    monkeypatch.setattr(preset.model, "generate", generate)
    assert Writer(preset.model, preset.tokenizer)([ASKED, REFUSED]) == ["", ""]
    expected: Any = preset.tokenizer.apply_chat_template(
        [ASKED, REFUSED],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
        padding=True,
        tokenizer_kwargs={"padding_side": "left"},
    )
    for name in ("input_ids", "attention_mask"):
        assert read[0][name].tolist() == expected[name].tolist()
    assert expected["attention_mask"].sum() < expected["attention_mask"].numel()  # else nothing is padded


def test_a_writer_needs_a_template_that_can_be_used(preset: LoadedModel) -> None:
    tokenizer = copy.deepcopy(preset.tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(TemplateError, match="the tokenizer has no chat template"):
        Writer(preset.model, tokenizer)
    tokenizer.chat_template = "{% for i in range(90000) %}{{ 'x' * 20 }}{% endfor %}"
    with pytest.raises(TemplateError, match="it is not used"):
        Writer(preset.model, tokenizer)
