"""``gram export gguf``: transformers' reader finds equal weights in the file, and llama.cpp equal verdicts.

llama.cpp runs where the package ``xllamacpp`` (its server, compiled) is installed; else that test is skipped.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import torch

import gram
from conftest import make_manifest, make_preferences, run, sharpened
from gram.errors import CheckpointError
from gram.modeling.saving import save_checkpoint
from gram.publishing.gguf_words import lost_words, splitting
from gram.rendering import Renderer, load_template
from gram.scoring.judge import JudgeModel
from small_models import causal, small_shape
from small_models import config_of as small_config
from small_tokenizers import CHATML, byte_level, tokenizer_of

gguf = pytest.importorskip("gguf")

LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, tied": ("Llama", {"tie_word_embeddings": True}),
    "llama, a key head per query head": ("Llama", {"num_key_value_heads": 4}),
    "qwen2": ("Qwen2", {}),
    "qwen3, tied": ("Qwen3", {"head_dim": 128, "tie_word_embeddings": True}),
}
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 3.1's rotary embedding": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "qwen3 with small heads": ("Qwen3", {"head_dim": 16}),
}
"""What transformers' reader of GGUF files knows nothing of, and llama.cpp does."""
LINES = [
    "What is the capital of France ?",
    "User: hello\n\n  there's 1234 of it, naïve 🙂",
    "",
    "<|endoftext|>x",
]


def config_of(kind: str) -> Any:
    import transformers as hf

    name, more = (KINDS | MORE)[kind]
    shape = small_shape(len(words())) | {"vocab_size": len(words()) + 7}  # rows that no word stands for
    return getattr(hf, f"{name}Config")(**shape | {"tie_word_embeddings": False} | more)


def words() -> Any:
    tokenizer = copy.deepcopy(tokenizer_of("base"))
    tokenizer.chat_template = CHATML
    return tokenizer


def saved(folder: Path, kind: str = "llama, tied") -> Path:
    """A judge with sharpened random weights, biases too."""
    from transformers import AutoModelForCausalLM

    tokenizer = words()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = sharpened(AutoModelForCausalLM.from_config(config_of(kind)).eval(), 3.0)
        for name, weight in model.named_parameters():
            if name.endswith(".bias"):
                torch.nn.init.normal_(weight)
    manifest = make_manifest("judge", Renderer(tokenizer, load_template("compact"), 512))
    save_checkpoint(folder, model, tokenizer, manifest)
    return folder


def loaded(folder: Path) -> Any:
    """The tokenizer as transformers loads it: of a Qwen 2 model always one that splits as Qwen's own does."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def exported(folder: Path, output: Path, capsys: Any, *more: object) -> dict[str, Any]:
    code, result, err = run(capsys, "export", "gguf", "--model", folder, "--output", output, *more)
    assert code == 0, err
    assert result["file"] == str(output / "model.gguf")
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_reads_equal_weights(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bit by bit in fp32, Llama's turned rows turned back; and its tokenizer gives the same tokens."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, output = saved(tmp_path / "model", kind), tmp_path / "gguf"
    result = exported(folder, output, capsys)
    assert (result["dtype"], result["tokenizer"]) == ("fp32", "qwen2" if kind == "qwen2" else "gpt-2")
    assert [text.partition(":")[0] for text in result["lost"]] == ["decomposed characters"] * (
        kind == "qwen2"
    )
    assert [path.name for path in output.iterdir()] == ["model.gguf"]
    ours: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs: Any = AutoModelForCausalLM.from_pretrained(output, gguf_file="model.gguf", dtype=torch.float32)
    found, wanted = theirs.state_dict(), ours.state_dict()
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert torch.equal(found[name], weight), name
    ids = torch.tensor([[3, 17, 42, 99, 7]])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, ours(ids).logits, rtol=1e-5, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(output, gguf_file="model.gguf")
    for line in LINES:
        assert tokenizer(line)["input_ids"] == loaded(folder)(line)["input_ids"], line


def test_what_stands_in_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """gram.json as it is, the chat template, a word for every row of the embedding, the tied layer once."""
    folder = saved(tmp_path / "model")
    result = exported(folder, tmp_path / "gguf", capsys, "--dtype", "bf16")
    reader = gguf.GGUFReader(tmp_path / "gguf" / "model.gguf")
    field = {name: value.contents() for name, value in reader.fields.items()}
    assert field["general.architecture"] == "llama" and field["llama.attention.head_count_kv"] == 2
    assert json.loads(field["gram.json"]) == json.loads((folder / "gram.json").read_text())
    assert field["tokenizer.chat_template"] == CHATML
    size = len(words())
    tokens, kinds = field["tokenizer.ggml.tokens"], field["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == size + 7 and tokens[size] == f"[PAD{size}]" and kinds[size] == 5
    assert kinds[words().eos_token_id] == 3 and field["tokenizer.ggml.eos_token_id"] == words().eos_token_id
    assert field["tokenizer.ggml.add_bos_token"] is False
    names = [tensor.name for tensor in reader.tensors]
    assert "output.weight" not in names and len(names) == result["tensors"] == 2 + 2 * 9
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.0.attn_q.weight"] == "BF16" and types["blk.0.attn_norm.weight"] == "F32"


def test_bf16_is_rounded_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM

    folder = saved(tmp_path / "model", "qwen2")
    exported(folder, tmp_path / "gguf", capsys, "--dtype", "bf16")
    ours: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path / "gguf", gguf_file="model.gguf", dtype=torch.float32
    )
    for (name, found), weight in zip(theirs.state_dict().items(), ours.state_dict().values(), strict=True):
        assert torch.equal(found, weight if weight.dim() == 1 else weight.bfloat16().float()), name


@pytest.mark.parametrize("kind", [*KINDS, *MORE])
def test_llama_cpp_gives_our_verdicts(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The log-odds of the two labels at the end of our prompts, in both orders, from its server, in fp32.

    llama.cpp keeps keys and values in fp16 by default, and is told to keep them in fp32. It is given our
    tokens; that it makes the same ones of a text is asked apart.
    """
    xllamacpp = pytest.importorskip("xllamacpp")
    folder = saved(tmp_path / "model", kind)
    exported(folder, tmp_path / "gguf", capsys)
    server = served(xllamacpp, tmp_path / "gguf" / "model.gguf")
    pairs = [item.pair for item in make_preferences(6)]
    judge = gram.load(folder, device="cpu")
    assert isinstance(judge, JudgeModel)
    tokenizer = loaded(folder)
    renderer = Renderer(tokenizer, load_template("compact"), 512)
    first, second = renderer.label_ids
    ours, theirs = judge.compare(pairs).log_odds, []
    for pair in pairs:
        both = []
        for order, shown in enumerate((pair, pair.swapped())):
            [prompt] = renderer.judge([shown])
            logprobs = next_token(server, prompt.ids, say=first)
            both.append((logprobs[first] - logprobs[second]) * (-1 if order else 1))
        theirs.append(both)
    np.testing.assert_allclose(theirs, ours, atol=1e-3)
    assert np.ptp(ours) > 0.1
    for line in LINES[:2]:
        told = ask(server, "/tokenize", {"content": line, "add_special": False})
        assert told["tokens"] == tokenizer(line)["input_ids"]
    decomposed = "nai\u0308ve"
    told = ask(server, "/tokenize", {"content": decomposed, "add_special": False})
    assert (told["tokens"] == tokenizer(decomposed)["input_ids"]) == (not lost_words(tokenizer, "m"))


def served(xllamacpp: Any, file: Path) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel, params.warmup = 1024, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return xllamacpp.Server(params)


def ask(server: Any, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = Request(server.listening_address + path, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urlopen(request) as answer:
        return json.load(answer)


def next_token(server: Any, ids: list[int], say: int) -> dict[int, float]:
    """Log-probabilities of all tokens behind ``ids``, before sampling.

    Args:
        say: a token with a text, to be sampled: behind half a character or the end llama.cpp tells none.
    """
    size = len(words()) + 7
    body: dict[str, Any] = {"prompt": ids, "n_predict": 1, "n_probs": size, "cache_prompt": False}
    body |= {"temperature": 0.0, "logit_bias": [[say, 1000.0]]}
    [told] = ask(server, "/completion", body)["completion_probabilities"]
    found = {part["id"]: part["logprob"] for part in told["top_logprobs"]}
    assert len(found) == size
    return found


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another architecture, a scalar model, a window; nothing is left behind."""
    from transformers import AutoModelForCausalLM

    tokenizer = words()

    def says(model: Any, kind: Any = "judge") -> str:
        folder = tmp_path / f"{kind}-{model.config.model_type}"
        save_checkpoint(
            folder, model, tokenizer, make_manifest(kind, Renderer(tokenizer, load_template(None), 64))
        )
        code, _, err = run(capsys, "export", "gguf", "--model", folder, "--output", tmp_path / "out")
        assert code == 1 and not (tmp_path / "out").exists()
        return err

    size = len(tokenizer)
    assert "a gpt2 model; written are llama, qwen2, qwen3" in says(copy.deepcopy(causal("gpt2", size)))
    assert "is a scalar model" in says(copy.deepcopy(causal("llama", size)), "scalar")
    config: Any = small_config("qwen2", size)
    config.layer_types = ["full_attention", "sliding_attention"]
    config.use_sliding_window, config.sliding_window = True, 16
    assert "attend to a window" in says(AutoModelForCausalLM.from_config(config))
    code, _, err = run(
        capsys, "export", "decision", "--model", "x", "--output", tmp_path / "out", "--dtype", "bf16"
    )
    assert code == 1 and "dtype is for gguf" in err


RULE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("rule", "ignore_merges", "name"),
    [("{1,3}", True, "llama-bpe"), ("", False, "qwen2"), ("{1,3}", False, None)],
)
def test_a_way_of_splitting_is_known_by_its_rule(rule: str, ignore_merges: bool, name: str | None) -> None:
    """Those of Llama 3 and Qwen, as their tokenizer.json has them; one off is refused, and our tests' own."""
    from tokenizers import Regex, pre_tokenizers

    tokenizer: Any = byte_level(["<|end|>"])
    with pytest.raises(CheckpointError, match="no name for among gpt-2, smollm, llama-bpe and qwen2"):
        splitting(tokenizer, "m")
    core = tokenizer.backend_tokenizer
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(RULE % rule), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.model.ignore_merges = ignore_merges
    if name:
        assert splitting(tokenizer, "m") == name
    else:
        with pytest.raises(CheckpointError, match="ignore_merges=False"):
            splitting(tokenizer, "m")


def test_a_tokenizer_that_changes_the_text_first_is_refused() -> None:
    """But for NFC, as Qwen 2 has it, which changes decomposed characters alone, and is told."""
    from tokenizers import normalizers

    tokenizer: Any = byte_level(["<|end|>"], newer=False)
    core = tokenizer.backend_tokenizer
    assert core.normalizer is None and lost_words(tokenizer, "m") == []
    for kept in (normalizers.NFC(), normalizers.Sequence([normalizers.NFC()])):
        core.normalizer = kept
        assert splitting(tokenizer, "m") == "gpt-2"
        assert lost_words(tokenizer, "m")[0].startswith("decomposed characters")
    for name in ("Lowercase", "NFKC", "NFD", "Strip", "StripAccents"):
        other = getattr(normalizers, name)()
        for refused in (other, normalizers.Sequence([normalizers.NFC(), other])):
            core.normalizer = refused
            with pytest.raises(CheckpointError, match=rf"m: .* changes the text first \({name}\)"):
                splitting(tokenizer, "m")


@pytest.mark.parametrize("mark", ["lstrip", "rstrip", "single_word"])
def test_a_token_that_takes_the_space_around_it_is_refused(mark: str) -> None:
    from tokenizers import AddedToken

    tokenizer: Any = byte_level(["<|end|>"], newer=False)
    tokenizer.add_tokens([AddedToken("<odd>", **{mark: True})])
    with pytest.raises(CheckpointError, match="its token <odd> takes the space around it"):
        splitting(tokenizer, "m")


def test_other_tokens_around_a_text_than_bos_and_eos_are_refused() -> None:
    """The file says of bos and eos whether they are put there, and of no other token."""
    from tokenizers import processors

    tokenizer: Any = byte_level(["<|end|>", "<cls>"], newer=False)
    place = tokenizer.convert_tokens_to_ids("<cls>")
    around = processors.TemplateProcessing(single="<cls> $A", special_tokens=[("<cls>", place)])
    tokenizer.backend_tokenizer.post_processor = around
    with pytest.raises(CheckpointError, match="puts other tokens around a text"):
        splitting(tokenizer, "m")
    tokenizer.bos_token = "<cls>"
    tokenizer.backend_tokenizer.post_processor = around
    assert splitting(tokenizer, "m") == "gpt-2"


def test_digits_one_by_one_is_smollm() -> None:
    from tokenizers import pre_tokenizers

    tokenizer: Any = byte_level(["<|end|>"], newer=False)
    assert splitting(tokenizer, "m") == "gpt-2"
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    assert splitting(tokenizer, "m") == "smollm"


def test_a_sentencepiece_tokenizer_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no byte-level BPE"):
        splitting(tokenizer_of("inst"), "m")
