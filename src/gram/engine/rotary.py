"""How a model's attention turns queries by their positions: found by watching it, and applied again.

Each attention module is called with angles that a rotary module made, and turns queries with the function of
its own file; both are used here as they are, so that partial embeddings, scaling and angles by kind of layer
are the model's own. Knows modules of transformers and how they call each other; knows no rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gram.engine.stand_in import Call, calls_of

_LEAST = 1024  # positions in a table of angles, which doubles when one is not enough


@dataclass(frozen=True)
class _Turn:
    """How one attention module turns: the call that made its angles, and its function that applies them."""

    source: Call
    apply: Callable[..., Any]  # to queries and keys together, or, in Gemma's later families, to one of them

    def of(self, queries: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(1, heads, n, d) turned queries."""
        if list(inspect.signature(self.apply).parameters)[1] == "cos":
            return self.apply(queries, cos, sin)
        return self.apply(queries, queries[:, :1], cos, sin)[0]


class Rotary:
    """Turns queries of a model as if they stood earlier.

    Args:
        turns: by attention module; see ``find_rotary``.
    """

    def __init__(self, turns: Mapping[nn.Module, _Turn]) -> None:
        self._turns = turns
        self._tables: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def turned_back(self, attention: nn.Module, queries: Tensor, shifts: Tensor) -> Tensor:
        """(heads, n, d) queries as if each stood ``shifts`` (n,) positions before its own.

        A key that was read at position p and stands at p + shift for a query is met so without being moved.
        """
        turn = self._turns[attention]
        cos, sin = self._angles(turn, int(shifts.max()) + 1, queries.device)
        cos, sin = cos[shifts][None], -sin[shifts][None]  # (1, n, d or fewer) each
        return turn.of(queries[None], cos, sin)[0].to(queries.dtype)

    def _angles(self, turn: _Turn, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """(positions or more, d) cosines and sines of the angles of positions 0, 1, 2, ..."""
        key = id(turn.source), device
        if key not in self._tables or len(self._tables[key][0]) < positions:
            count = max(_LEAST, 1 << (positions - 1).bit_length())
            # The tables may serve a training step later.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
                cos, sin = (part[0].float() for part in _again(turn.source, count, device))
                scale = cos[:1].clone()  # some families scale queries and keys by the same two tables
                self._tables[key] = cos / scale, sin / scale
        return self._tables[key]


def find_rotary(model: PreTrainedModel) -> Rotary | None:
    """How ``model`` turns its queries; None where it does not with rotary angles, or not in a known way."""
    ids = torch.ones(1, 2, dtype=torch.long, device=model.device)
    positions = torch.arange(2, device=model.device)[None]
    body: Any = model.base_model
    with torch.inference_mode():
        calls = calls_of(
            model.modules(), lambda: body(input_ids=ids, position_ids=positions, use_cache=False)
        )
    # Calls end in the order in which they are recorded: of equal outputs the first is that of the maker.
    makers: dict[int, Call] = {}
    for call in calls:
        if isinstance(call.output, tuple) and all(isinstance(part, Tensor) for part in call.output):
            makers.setdefault(id(call.output), call)
    turns = {}
    for call in calls:
        maker = makers.get(id(call.keywords.get("position_embeddings")))
        apply = getattr(inspect.getmodule(type(call.module)), "apply_rotary_pos_emb", None)
        if maker is not None and apply is not None:
            turns[call.module] = _Turn(maker, apply)
    return Rotary(turns) if turns else None


def _again(call: Call, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(1, positions, d) cosines and sines, in fp32, by the call that made those of other positions."""

    def instead(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.is_floating_point():  # hidden states, which give the precision and the device
            return torch.zeros(1, 1, 1, device=device)
        return torch.arange(positions, device=device)[None]

    values = [instead(value) for value in call.values]
    return call.module(*values, **{name: instead(value) for name, value in call.keywords.items()})
