"""Which decoder layers of a Hugging Face model read as Llama's: told by their own source.

The forward passes of the layer, its MLP, norms and rotary embedding must be those of Llama, and that of its
attention one of a family listed here, in the transformers that is installed, whatever the model is called.
Knows classes and their source, and how their hidden states are computed; runs nothing.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Keywords: TypeAlias = dict[str, Any]

_ATTENTIONS: dict[tuple[str, str], Callable[[Any], Keywords]] = {
    ("llama", "LlamaAttention"): lambda attention: {},
    ("qwen2", "Qwen2Attention"): lambda attention: {"sliding_window": attention.sliding_window},
    ("qwen3", "Qwen3Attention"): lambda attention: {"sliding_window": attention.sliding_window},
    ("mistral", "MistralAttention"): lambda attention: {
        "sliding_window": attention.config.sliding_window,
    },
}
"""Attention that is recognised, and the keywords with which it calls its kernel."""


def is_known(module: Any) -> bool:
    """Whether a module is a decoder layer of a shape that ``layer`` computes."""
    return (
        all(hasattr(module, name) for name in ("self_attn", "mlp", "input_layernorm"))
        and _reads_as(type(module), "llama", "LlamaDecoderLayer")
        and is_attention(module.self_attn)
        and _reads_as(type(module.mlp), "llama", "LlamaMLP")
        and type(module.mlp.act_fn).__name__ in ("SiLU", "SiLUActivation")
        and is_norm(module.input_layernorm)
        and is_norm(module.post_attention_layernorm)
    )


def is_norm(module: Any) -> bool:
    """Whether a module is Llama's RMSNorm."""
    return _reads_as(type(module), "llama", "LlamaRMSNorm")


def is_attention(module: Any) -> bool:
    """Whether a module is attention of a listed family, with Llama's rotary embedding and norms, if any."""
    return (
        keywords_of(type(module)) is not None
        and (not hasattr(module, "q_norm") or (is_norm(module.q_norm) and is_norm(module.k_norm)))
        and _same(
            getattr(inspect.getmodule(type(module)), "apply_rotary_pos_emb", None),
            _reference("llama", "apply_rotary_pos_emb"),
        )
    )


def kernel_of(attention: Any) -> Callable[..., tuple[Tensor, Any]] | None:
    """The function that attention calls; None: it cannot be called by name."""
    name = attention.config._attn_implementation
    return None if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]


def in_bf16(hidden: Tensor) -> bool:
    """Whether hidden states are bf16, or products of them are, under autocast."""
    if hidden.dtype == torch.bfloat16:
        return True
    device = hidden.device.type
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16


@lru_cache(maxsize=64)
def keywords_of(attention: type) -> Any:
    """The entry of ``_ATTENTIONS`` for a class; None where it is not known."""
    found = (keywords for place, keywords in _ATTENTIONS.items() if _reads_as(attention, *place))
    return next(found, None)


@lru_cache(maxsize=256)
def _reads_as(kind: type, family: str, name: str) -> bool:
    """Whether the forward pass of a class is, but for types and comments, that of a class of transformers."""
    reference: Any = _reference(family, name)
    return _same(kind.forward, reference.forward)  # type: ignore[attr-defined]


def _reference(family: str, name: str) -> Any:
    return getattr(import_module(f"transformers.models.{family}.modeling_{family}"), name)


def _same(one: Any, two: Any) -> bool:
    return one is two or (one is not None and _code(one) == _code(two) != "")


@lru_cache(maxsize=256)
def _code(function: Any) -> str:
    """The source of a function without its name, types, decorators and docstring; empty if unknown."""
    try:
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError):
        return ""
    if not isinstance(tree, ast.FunctionDef):
        return ""
    arguments = [*tree.args.args, *tree.args.kwonlyargs, *filter(None, [tree.args.kwarg])]
    for argument in arguments:
        argument.annotation = None
    body = [
        line
        for line in tree.body
        if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
    ]
    return "\n".join(map(ast.unparse, [tree.args, *body]))
