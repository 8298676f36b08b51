"""Which decoder layers of a Hugging Face model read as Llama's: told by their own source.

The forward passes of the layer, its MLP, norms and rotary embedding must be those of Llama, and that of its
attention one of a family listed here, in the transformers that is installed, whatever the model is called.
Knows classes and their source; runs nothing.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeAlias

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
        and keywords_of(type(module.self_attn)) is not None
        and _reads_as(type(module.mlp), "llama", "LlamaMLP")
        and type(module.mlp.act_fn).__name__ in ("SiLU", "SiLUActivation")
        and all(
            _reads_as(type(norm), "llama", "LlamaRMSNorm")
            for norm in (
                module.input_layernorm,
                module.post_attention_layernorm,
                *([module.self_attn.q_norm] if hasattr(module.self_attn, "q_norm") else []),
            )
        )
        and _same(
            getattr(inspect.getmodule(type(module.self_attn)), "apply_rotary_pos_emb", None),
            _reference("llama", "apply_rotary_pos_emb"),
        )
    )


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
