"""A language head beside a score head: the numbers of both models at once, from one body."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, GraniteConfig

from conftest import sharpened
from gram.engine.base import Engine
from gram.engine.choose import choose_engine
from gram.engine.heads import TiedHead, language_layer
from gram.engine.plain import Plain
from gram.engine.tree import Tree
from gram.errors import ConfigError
from gram.modeling.language_head import drop_language_head, keep_language_head
from gram.modeling.trainable import LoraSettings, add_lora, merged
from small_models import SHARING, config_of, family, fresh, small_shape
from test_engine_agreement import assert_same_gradients, close, gradients, per_row, scalar

VOCAB = 60
TIED = {"llama", "gemma", "gemma3", "qwen3", "gpt2"}


def scorer_on(lm: Any, config: Any) -> Any:
    """A classifier with the body of ``lm`` and a head of its own."""
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        scorer: Any = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    scorer.base_model.load_state_dict(lm.base_model.state_dict())
    with torch.no_grad():
        scorer.score.weight.mul_(20)
    return scorer.eval()


def pair_of(architecture: str) -> tuple[Any, Any]:
    """A language model, and a classifier on a copy of its body with its language head."""
    lm = fresh(architecture, VOCAB)
    scorer = scorer_on(lm, config_of(architecture, VOCAB))
    keep_language_head(scorer, copy.deepcopy(lm))
    return lm, scorer


def ask(engine: Engine, model: Any) -> tuple[Tensor, Tensor]:
    scores, logprobs, scored = engine.scores_and_logprobs(model, engine.lay_out(family(VOCAB)))
    return scores, per_row(logprobs, scored)


@pytest.mark.parametrize("architecture", SHARING)
def test_both_engines_give_the_scorers_scores_and_the_language_models_logprobs(architecture: str) -> None:
    """Values and gradients; and the values are those that each model alone gives each row alone."""
    lm, theirs = pair_of(architecture)
    _, ours = pair_of(architecture)
    assert choose_engine(ours).name == "tree"
    found = [ask(Tree(), ours), ask(Plain(), theirs)]
    close(found[0][0], found[1][0])
    close(found[0][1], found[1][1])
    for row, score, logprobs in zip(family(VOCAB), *found[0], strict=True):
        ids = torch.tensor([list(row.ids)])
        with torch.no_grad():
            close(score, theirs.score(theirs.base_model(ids)[0][0, -1])[0])
            every = lm(ids).logits[0].log_softmax(dim=-1)
        places = torch.from_numpy(row.scored)
        close(logprobs[: len(places)], every[places - 1, ids[0, places]])
    assert found[0][0].std() > 0.05 and found[0][1].std() > 0.05
    for scores, logprobs in found:
        (scalar(scores) + scalar(logprobs)).backward()
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("architecture", SHARING)
def test_a_tied_head_is_nothing_new_and_another_goes_again(architecture: str, tmp_path: Path) -> None:
    """The saved files are those of a classifier that never had a language head."""
    _, scorer = pair_of(architecture)
    tied = architecture in TIED
    assert isinstance(language_layer(scorer), TiedHead) == tied
    assert any("language_head" in name for name in scorer.state_dict()) != tied
    drop_language_head(scorer)
    bare = scorer_on(fresh(architecture, VOCAB), config_of(architecture, VOCAB))
    assert scorer.state_dict().keys() == bare.state_dict().keys()
    if not tied:
        with pytest.raises(ValueError, match="has no language head"):
            language_layer(scorer)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_adapters_train_the_body_and_leave_the_language_head(architecture: str) -> None:
    """A language head that learned would take from the body what the regulariser is to keep there."""
    _, scorer = pair_of(architecture)
    adapted = add_lora(scorer, LoraSettings(rank=2), score_head=True)
    engine = Plain()
    _, logprobs, _ = engine.scores_and_logprobs(adapted, engine.lay_out(family(VOCAB)))
    logprobs.sum().backward()
    trained = gradients(adapted)
    assert trained and all("lora_" in name and "layers" in name for name in trained)
    assert not any("language_head" in name and "lora" in name for name in adapted.state_dict())
    whole = merged(adapted)
    drop_language_head(whole)
    assert not any("language_head" in name for name in whole.state_dict())


def test_a_head_that_does_more_than_one_linear_layer_is_refused() -> None:
    """Granite divides its logits by a number: the same layer on a scorer would say something else."""
    config = GraniteConfig(**small_shape(VOCAB), logits_scaling=4.0)
    torch.manual_seed(0)
    lm: Any = sharpened(AutoModelForCausalLM.from_config(config).eval())
    with pytest.raises(ConfigError, match="its language head is no plain linear layer"):
        keep_language_head(scorer_on_granite(lm, config), lm)


def scorer_on_granite(lm: Any, config: GraniteConfig) -> Any:
    """Transformers has no Granite classifier: a Llama's, on Granite's body."""
    scorer: Any = fresh("llama", VOCAB, head="score")
    scorer.model = copy.deepcopy(lm.model)
    scorer.config.tie_word_embeddings = config.tie_word_embeddings
    return scorer
