"""A score does not depend on its neighbours: every small architecture is proved, or refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as hf

from gram.engine.base import TokenRow
from gram.engine.choose import choose_engine, refuse_dependence
from gram.engine.runner import Runner
from gram.errors import CheckpointError
from small_models import ARCHITECTURES, SHARING, causal, classifier

pytestmark = pytest.mark.law(3)

VOCAB = 60
DECODERS = sorted({*ARCHITECTURES, *SHARING})
# Decoders beyond those of small_models: two layers of 32 each, by the names their configurations use.
OTHERS: dict[str, dict[str, Any]] = {
    "gpt_neox": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    },
    "opt": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64,
        "word_embed_proj_dim": 32,
    },
    "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "olmo2": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "gemma2": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "head_dim": 16,
    },
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "recurrent_gemma": {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
        "lru_width": 32, "head_dim": 16,
    },
}  # fmt: skip


def rows(count: int = 6) -> list[TokenRow]:
    ids = torch.randint(2, VOCAB, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    return [TokenRow(ids[k : k + 4 + 9 * k]) for k in range(count)]


def read(runner: Runner, some: list[TokenRow], head: str) -> Any:
    return runner.scores(some) if head == "score" else runner.next_logprobs(some, range(VOCAB))


def alone_and_together(model: Any, head: str) -> None:
    for engine in ("tree", "plain"):
        runner = Runner(model, engine=engine)
        together = read(runner, rows(), head)
        for k, row in enumerate(rows()):
            assert together[k] == pytest.approx(read(runner, [row], head)[0], abs=1e-4), (engine, k)


@pytest.mark.parametrize("head", ["lm", "score"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_rows_alone_are_rows_together(architecture: str, head: str) -> None:
    alone_and_together((causal if head == "lm" else classifier)(architecture, VOCAB), head)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_decoders_are_proved(kind: str) -> None:
    shape = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, **OTHERS[kind]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = hf.AutoModelForCausalLM.from_config(hf.AutoConfig.for_model(kind, **shape)).eval()
    refuse_dependence(model)
    alone_and_together(model, "lm")


def test_a_model_that_looks_at_its_neighbours_is_refused() -> None:
    """One that pools the first column, as encoders do: the same for training and for scoring."""
    model = copy.deepcopy(classifier("llama", VOCAB))
    plain = model.model.forward

    def first_column(*arguments: Any, **options: Any) -> Any:
        output = plain(*arguments, **options)
        first = output.last_hidden_state[:, :1].expand_as(output.last_hidden_state)
        output.last_hidden_state = first
        return output

    model.model.forward = first_column
    for training in (False, True):
        with pytest.raises(CheckpointError, match="changes beside a longer one"):
            choose_engine(model, "plain", training=training)
