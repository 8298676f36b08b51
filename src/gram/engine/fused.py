"""The fused arithmetic of ``layer`` put under the decoder layers of a Hugging Face model, for bf16 on a CPU.

It is used where a layer is recognised (``recognise``) and hidden states are bf16; every layer in fp32, which
is the reference, and all that is not recognised stay as they are. Knows modules and their weights; knows no
rows, prompts or losses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers.modeling_layers import GradientCheckpointingLayer

from gram.engine.changes import state_of
from gram.engine.heads import core
from gram.engine.layer import ROWS, After, Before, Norm, after, before
from gram.engine.products import Product, order
from gram.engine.recognise import Keywords, in_bf16, is_known, kernel_of, keywords_of
from gram.engine.stand_in import Call, calls_of, is_free, put, put_there, take_away

_ORDERED = 2_000_000_000
"""Most bytes of frozen weights that are kept in oneDNN's order too, as a second copy of them."""
_ROUNDING = 0.05  # of what a layer adds; measured 0.005 to 0.01, and near 1 where a norm or an angle is wrong


def fuse(model: nn.Module, read: Callable[[], object]) -> float:
    """Put fused arithmetic under the decoder layers of ``model`` that are recognised, and prove it.

    It runs where hidden states are bf16 (or under autocast to it), on a CPU and without a cache of keys;
    elsewhere the layer's own forward pass does. Weights in training and adapters of peft are read anew in
    every call.

    Args:
        read: runs a few prompts through the model. Each layer is then given the same input again, fused.

    Returns:
        The greatest difference of a layer, over what the rounding of bf16 explains; above 1 the model is as
        it was. 0 where no layer is known.
    """
    layers: list[Any] = [m for m in core(model).modules() if is_known(m) and is_free(m)]
    calls = calls_of(layers, read)
    size = sum(p.numel() * p.element_size() for layer in layers for p in layer.parameters())
    weights = _Weights(ahead=size <= _ORDERED)
    for layer in layers:
        put(layer, _forward, weights)
    difference = max((_apart(call) for call in calls), default=0.0)
    if not difference <= 1:
        take_away(layers)
    return difference


def _apart(call: Call) -> float:
    """How far the fused layer is from what it said, over what rounding explains.

    That is 5% of what the layer adds to the residual stream, and half a step of bf16 of the stream itself.
    """
    output = call.output.float()
    stream = (call.values[0] if call.values else call.keywords["hidden_states"]).float()
    difference = (call.module.forward(*call.values, **call.keywords).float() - output).norm()
    return float(difference / (_ROUNDING * (output - stream).norm() + 2**-8 * output.norm()))


def is_fused(model: nn.Module) -> bool:
    """Whether there are layers that run fused where hidden states are bf16."""
    return any(put_there(module) is _forward for module in core(model).modules())


def _forward(
    weights: _Weights,
    layer: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past_key_values: Any = None,
    use_cache: bool | None = False,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **rest: Any,
) -> Tensor:
    """The forward pass of a decoder layer, as transformers calls it."""
    rest |= {"position_ids": position_ids, "use_cache": use_cache}
    parts = None
    if past_key_values is None and position_embeddings is not None and _serves(hidden_states):
        parts = weights.of(layer)
    if parts is None or position_embeddings is None:
        rest |= {"attention_mask": attention_mask, "past_key_values": past_key_values}
        return type(layer).forward(layer, hidden_states, position_embeddings=position_embeddings, **rest)
    body = partial(_fused, layer, parts, attention_mask, position_embeddings, rest)
    # transformers checkpoints in the forward pass of the layer's class, in whose place this one stands.
    if layer.training and isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing:
        return cast(Any, layer)._gradient_checkpointing_func(body, hidden_states)
    return body(hidden_states)


def _fused(
    layer: Any,
    parts: tuple[Before, After],
    attention_mask: Tensor | None,
    position_embeddings: tuple[Tensor, Tensor],
    rest: Keywords,
    hidden_states: Tensor,
) -> Tensor:
    attention, kernel, (first, second) = layer.self_attn, kernel_of(layer.self_attn), parts
    assert kernel is not None
    batch, length, width = hidden_states.shape
    x = hidden_states.reshape(-1, width).to(torch.bfloat16)  # (batch * length, width)
    cos, sin = (_angles(part, batch, first.width // 2) for part in position_embeddings)
    heads = before(x, cos, sin, first)  # (batch * length, heads, d) each
    q, k, v = (t.view(batch, length, -1, first.width).transpose(1, 2) for t in heads)
    attended, _ = kernel(
        attention,
        q,
        k,
        v,
        attention_mask,
        dropout=attention.attention_dropout if attention.training else 0.0,
        scaling=attention.scaling,
        **keywords_of(type(attention))(attention),
        **rest,
    )
    return after(attended.reshape(len(x), -1), x, second).view(batch, length, width)


def _angles(embedding: Tensor, batch: int, half: int) -> Tensor:
    """(batch * length, half) fp32 of (batch or 1, length, 2 * half), whose halves are equal."""
    return embedding[..., :half].expand(batch, -1, -1).reshape(-1, half).float()


def _serves(hidden: Tensor) -> bool:
    return hidden.device.type == "cpu" and in_bf16(hidden)


class _Weights:
    """The weights of layers as products, read off their modules.

    Args:
        ahead: keep frozen weights in oneDNN's order.
    """

    def __init__(self, *, ahead: bool) -> None:
        self._ahead = ahead
        self._ordered: Any = WeakTensorKeyDictionary()  # weight: (its state, the weight in order)

    def of(self, layer: Any) -> tuple[Before, After] | None:
        """What stands before and behind attention; None where a module is not what it was, or has hooks."""
        attention, mlp = layer.self_attn, layer.mlp
        if kernel_of(attention) is None:
            return None
        modules = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        found = [self._product(m) for m in (*modules, mlp.gate_proj, mlp.up_proj, mlp.down_proj)]
        products = [product for product in found if product is not None]
        if len(products) < len(found):
            return None
        q, k, v, *others = products
        head_norms = None
        if hasattr(attention, "q_norm"):
            head_norms = _norm(attention.q_norm), _norm(attention.k_norm)
        return (
            Before(_norm(layer.input_layernorm), (q, k, v), attention.head_dim, head_norms),
            After(_norm(layer.post_attention_layernorm), *others),
        )

    def _product(self, module: Any) -> Product | None:
        a = b = None
        scale = 0.0
        if _is_low_rank(module):
            names = [name for name in module.active_adapters if name in module.lora_A]
            if module.merged or len(names) > 1 or any(module.use_dora.get(name) for name in names):
                return None
            if names and not module.disable_adapters:
                [name] = names
                if module.training and not isinstance(module.lora_dropout[name], nn.Identity):
                    return None
                if module.lora_B[name].bias is not None or module.lora_variant.get(name) is not None:
                    return None
                a, b = module.lora_A[name].weight, module.lora_B[name].weight
                scale = float(module.scaling[name])
            module = module.base_layer
        if type(module) is not nn.Linear or module._forward_hooks or module._forward_pre_hooks:
            return None
        return Product(module.weight, module.bias, a, b, scale, self._in_order(module.weight))

    def _in_order(self, weight: Tensor) -> Tensor | None:
        if not self._ahead or weight.dtype != torch.bfloat16 or weight.is_inference():
            return None
        if weight.requires_grad and torch.is_grad_enabled():
            return None
        known, ordered = self._ordered.get(weight, (None, None))
        if known != (state := state_of(weight)):
            with torch.inference_mode(False):
                ordered = order(weight, ROWS)
            self._ordered[weight] = state, ordered
        return ordered


def _norm(module: Any) -> Norm:
    return Norm(module.weight, module.variance_epsilon)


def _is_low_rank(module: nn.Module) -> bool:
    kind = type(module)
    return (kind.__module__, kind.__name__) == ("peft.tuners.lora.layer", "Linear")
