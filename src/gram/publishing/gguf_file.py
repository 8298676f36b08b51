"""``gram export gguf``: a language model as one GGUF file, for llama.cpp and what is built on it.

Written with the package ``gguf`` for Llama, Qwen 2 and Qwen 3 with byte-level tokenizers; anything else is
refused, since llama.cpp would read a file that says nearly the right thing and give other numbers. Knows
weights; knows no prompt: ``gram.json`` stands in the file as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gram.asking import Asking, Precision
from gram.claims import Reads, claimed_folder, refuse_full
from gram.errors import CheckpointError
from gram.extras import need
from gram.files import atomic_folder, naming
from gram.modeling.adapter_folder import base_of
from gram.modeling.manifest import FILE, completed
from gram.modeling.on_hub import file_of, manifest_at
from gram.modeling.shipped import find_place
from gram.modeling.source import ModelSource
from gram.publishing.gguf_words import add_words, lost_words

if TYPE_CHECKING:
    from torch import Tensor

    from gram.modeling.loading import LoadedModel

NAME = "model.gguf"
ARCHITECTURES = ("llama", "qwen2", "qwen3")


def export_gguf(source: ModelSource, output: Path, dtype: Precision | None = None) -> dict[str, Any]:
    """Write the model to ``output``/model.gguf; an adapter is merged.

    Args:
        dtype: of the matrices; None: bf16 for a model whose weights are, else fp32. Vectors are fp32 always.

    Returns:
        A JSON-able summary: ``file``, ``architecture``, ``dtype``, ``tensors`` (how many), ``tokenizer``
        (llama.cpp's name of how it splits text), ``lost`` (texts that it reads as other tokens, in words).

    Raises:
        ConfigError: ``output`` holds something.
        MissingLibraryError: ``gguf`` is not installed.
        CheckpointError: a scalar model, or one that the file could not say exactly.
    """
    need("gguf")
    from gram.modeling.loading import load_model

    place = find_place(source.model, source.revision)
    manifest = manifest_at(place)
    if completed(Asking(), manifest).kind == "scalar":
        raise CheckpointError(
            f"{source.model}: is a scalar model; the GGUF file of a language model has no score head"
        )
    if completed(Asking(), manifest).layout == "fan":
        raise CheckpointError(f"{source.model}: reads answers in the fan layout, which llama.cpp does not")
    reads = Reads([place.folder or source.model, base_of(source.model, source.base, source.revision)])
    with claimed_folder(output, reads=reads, whole=True):
        refuse_full(output)
        loaded = load_model(
            source.model,
            "lm",
            revision=source.revision,
            base=source.base,
            trust_remote_code=source.trust_remote_code,
            dtype="auto",
        )
        kept = "bf16" if str(loaded.model.dtype) == "torch.bfloat16" else "fp32"
        with atomic_folder(output, last=NAME) as draft, naming(output):
            about = _write(draft / NAME, loaded, source.model, dtype or kept, file_of(place, FILE))
    return {"file": str(output / NAME), **about}


def _write(
    path: Path, loaded: LoadedModel, name: str, dtype: Precision, manifest: Path | None
) -> dict[str, Any]:
    import gguf

    config: Any = loaded.model.config
    kind = str(config.model_type)
    _check_architecture(config, name)
    tensors = named_tensors(loaded, name)
    writer = gguf.GGUFWriter(path, kind)
    types = gguf.LlamaFileType
    writer.add_name(Path(name).name)
    writer.add_file_type(types.MOSTLY_BF16 if dtype == "bf16" else types.ALL_F32)
    _add_shape(writer, loaded.model)
    rows: Any = loaded.model.get_input_embeddings().num_embeddings
    splits = add_words(writer, loaded.tokenizer, int(rows), name)
    if manifest is not None:
        writer.add_string(FILE, manifest.read_text(encoding="utf-8"))
    for key, tensor in tensors.items():
        _add_tensor(writer, key, tensor, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    about = {"architecture": kind, "dtype": dtype, "tensors": len(tensors), "tokenizer": splits}
    return about | {"lost": lost_words(loaded.tokenizer, name)}


def _check_architecture(config: Any, name: str) -> None:
    """Refuse what the file would not say: other architectures, windows, unknown rotary scalings."""
    if config.model_type not in ARCHITECTURES:
        raise CheckpointError(
            f"{name}: a {config.model_type} model; written are {', '.join(ARCHITECTURES)}, and llama.cpp's "
            "own convert_hf_to_gguf.py knows more"
        )
    if "sliding_attention" in (config.layer_types if config.model_type != "llama" else ()):
        raise CheckpointError(f"{name}: some layers attend to a window only, which the file could not say")
    rope = config.rope_parameters["rope_type"]
    if rope not in ("default", "llama3"):
        raise CheckpointError(f"{name}: rotary embedding of type {rope}; written are default and llama3")
    if config.hidden_act != "silu":
        raise CheckpointError(f"{name}: activation {config.hidden_act}; llama.cpp computes silu")


def _add_shape(writer: Any, model: Any) -> None:
    config, head = model.config, model.model.layers[0].self_attn.head_dim
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(config.vocab_size)


def named_tensors(loaded: LoadedModel, name: str) -> dict[str, Tensor]:
    """The weights under llama.cpp's names; a tied output layer stands there once.

    Rows of Llama's queries and keys are put in llama.cpp's order, which turns neighbours instead of halves.

    Raises:
        CheckpointError: a weight that llama.cpp has no name for.
    """
    import gguf

    model: Any = loaded.model
    config = model.config
    arch = gguf.MODEL_ARCH[config.model_type.upper()]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    tensors: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" and tied:
            continue
        found = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise CheckpointError(f"{name}: {key} has no name in llama.cpp's {config.model_type}")
        if config.model_type == "llama" and ".q_proj." in key:
            tensor = _neighbours(tensor, config.num_attention_heads)
        if config.model_type == "llama" and ".k_proj." in key:
            tensor = _neighbours(tensor, config.num_key_value_heads)
        tensors[found] = tensor
    if (factors := _rotary_factors(model)) is not None:
        tensors["rope_freqs.weight"] = factors
    return tensors


def _neighbours(rows: Tensor, heads: int) -> Tensor:
    """(heads * size, ...) rows, in which the two halves of each head alternate."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _rotary_factors(model: Any) -> Tensor | None:
    """(size / 2,) by what the frequencies of Llama 3.1 are divided; None where they are the plain ones."""
    import torch

    rope = model.config.rope_parameters
    if rope["rope_type"] == "default":
        return None
    scaled = model.model.rotary_emb.inv_freq.float().cpu()
    exponents = torch.arange(len(scaled), dtype=torch.float32) / len(scaled)
    return rope["rope_theta"] ** -exponents / scaled


def _add_tensor(writer: Any, name: str, tensor: Tensor, dtype: Precision) -> None:
    import gguf
    import torch

    if dtype == "fp32" or tensor.dim() == 1:
        writer.add_tensor(name, tensor.float().cpu().contiguous().numpy())
        return
    kind = gguf.GGMLQuantizationType.BF16
    rounded = tensor.to(torch.bfloat16).float().cpu().contiguous().numpy()
    writer.add_tensor(name, gguf.quants.quantize(rounded, kind), raw_dtype=kind)
