"""The fan: what rows fork into is read once, and segments look at several branches. See ``segments``.

A ``Tree`` that reads segments too: in training all in one pass, in scoring with what earlier passes read.
Knows no template, label or loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from gram.engine import trie
from gram.engine.base import Batch, TokenRow
from gram.engine.kept import Kept
from gram.engine.meeting import SegmentPlan, View
from gram.engine.plan import Plan
from gram.engine.rotary import Rotary
from gram.engine.segments import Key, Part, Segment
from gram.engine.tree import Tree


class Fan(Tree):
    """Reads rows as a ``Tree``, and segments: the rows of their parts, and them, in one pass.

    Rows of one batch are all segments, or none is. Batch of segments: ``input_ids``, ``position_ids`` (1, N);
    ``tree_plan``, a ``SegmentPlan``; ``last`` (n,) the packed place of each segment's last token.

    Args:
        rotary: how the model turns queries.
        kept: what earlier passes have read is not read again; None, as in training: nothing is kept.
    """

    name = "fan"

    def __init__(self, rotary: Rotary, kept: Kept | None = None) -> None:
        self._rotary = rotary
        self._kept = kept

    def cut(self, rows: Sequence[TokenRow], budget: int) -> Iterator[list[int]]:
        segments = _segments(rows)
        if segments is None:
            yield from super().cut(rows, budget)
        else:
            yield from self._packs([[segment] for segment in segments], budget)

    def cut_groups(self, groups: Sequence[Sequence[TokenRow]], budget: int) -> Iterator[list[int]]:
        segments = [found for group in groups if (found := _segments(group)) is not None]
        if len(segments) < len(groups):
            yield from super().cut_groups(groups, budget)
        else:
            yield from self._packs(segments, budget)

    def _packs(self, groups: Sequence[Sequence[Segment]], budget: int) -> Iterator[list[int]]:
        """Indices of groups of segments, those that see the same rows together."""
        if self._kept is not None:
            self._kept.check()
        numbers: dict[Key, int] = {}  # of all parts, as they come

        def place(index: int) -> tuple[int, list[int]]:
            """Behind all that see parts which came earlier: so that a part is not read before it must be."""
            seen = [numbers.setdefault(part.key, len(numbers)) for row in groups[index] for part in row.parts]
            return min(seen), sorted(seen, reverse=True)

        pack: list[int] = []
        tokens, read = 0, set[Key]()
        for _, index in sorted((place(index), index) for index in range(len(groups))):
            new = self._unread(groups[index], read)
            looking = sum(len(segment.ids) for segment in groups[index])
            cost = looking + sum(map(_size, new))
            if pack and tokens + cost > budget:
                yield pack
                pack, tokens, read = [], 0, set()
                new = self._unread(groups[index], read)
                cost = looking + sum(map(_size, new))
            tokens += cost
            read |= new
            pack.append(index)
        if pack:
            yield pack

    def _unread(self, segments: Sequence[Segment], read: set[Key]) -> set[Key]:
        """What has to be read for ``segments``: their parts, and what stands in front of these."""
        keys = {part.key for segment in segments for part in segment.parts} - read
        if self._kept is not None:
            keys = {key for key in keys if key not in self._kept}
        return keys | {(row[:start], 0) for row, start in keys if start} - read

    def lay_out(self, rows: Sequence[TokenRow]) -> Batch:
        segments = _segments(rows)
        if segments is None:
            return super().lay_out(rows)
        if self._kept is not None:
            self._kept.check()
        seen: dict[Key, _Viewers] = {}
        first = 0  # of the looking tokens of a segment, among those of all
        for segment in segments:
            for part in segment.parts:
                seen.setdefault(part.key, _Viewers()).add(part, range(first, first + len(segment.ids)))
            first += len(segment.ids)
        kept = {key: found for key in seen if self._kept and (found := self._kept.get(key)) is not None}
        fresh = [key for key in seen if key not in kept]
        sequences = [row for row, _ in fresh]
        shared = trie.build(sequences) if fresh else None
        nodes = shared.nodes if shared else []
        places = [
            shared.place(n, np.arange(start, len(row))) for n, (row, start) in enumerate(fresh) if shared
        ]
        own, hidden = _own([len(segment.ids) for segment in segments])
        positions = _joined([np.arange(s.start, s.start + len(s.ids)) for s in segments])
        depths = _joined([np.arange(node.start, node.stop) for node in nodes])
        read = _joined([np.asarray(sequences[node.row][node.start : node.stop]) for node in nodes])
        looking = _joined([np.asarray(segment.ids) for segment in segments])
        plan = SegmentPlan(
            tree=Plan.of(shared) if shared else None,
            tokens=len(read),
            places=_joined(places),
            sizes=tuple(map(_size, fresh)),
            kept=list(kept.values()),
            views=tuple(seen[key].view(key) for key in (*fresh, *kept)),
            positions=positions,
            own=own,
            hidden=hidden,
            rotary=self._rotary,
            record=self._kept is not None,
            keys=tuple(fresh),
        )
        ends = np.cumsum([len(segment.ids) for segment in segments]) - 1
        return {
            "input_ids": torch.cat([read, looking])[None],  # (1, N)
            "position_ids": torch.cat([depths, positions])[None],  # (1, N)
            "tree_plan": plan,
            "last": len(read) + torch.from_numpy(ends),  # (n,)
        }

    def next_logprobs(self, model: nn.Module, batch: Batch, tokens: Sequence[int]) -> Tensor:
        result = super().next_logprobs(model, batch, tokens)
        plan = batch["tree_plan"]
        if self._kept is not None and isinstance(plan, SegmentPlan):
            self._kept.put_all(plan.keys, plan.recorded)
        return result


@dataclass
class _Viewers:
    """The looking tokens that see a part, and how much later it stands for each."""

    tokens: list[int] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)

    def add(self, part: Part, tokens: range) -> None:
        self.tokens += tokens
        self.shifts += [part.shift] * len(tokens)

    def view(self, key: Key) -> View:
        return View(key[1], torch.tensor(self.tokens), torch.tensor(self.shifts), any(self.shifts))


def _segments(rows: Sequence[TokenRow]) -> list[Segment] | None:
    """``rows`` if they are segments; None: they are ordinary rows."""
    found = [row for row in rows if isinstance(row, Segment)]
    if not found:
        return None
    if len(found) < len(rows):
        raise ValueError("segments and ordinary rows cannot be read in one batch")
    return found


def _own(sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(M, k) which looking tokens each of M sees of its own segment, and (M, k) where there is none.

    Args:
        sizes: tokens of the segments, M in all; k is the largest.
    """
    most, total = max(sizes), sum(sizes)
    own = torch.zeros(total, most, dtype=torch.long)
    hidden = torch.ones(total, most, dtype=torch.bool)
    first = 0
    for size in sizes:
        own[first : first + size, :size] = torch.arange(first, first + size)
        hidden[first : first + size, :size] = ~torch.ones(size, size, dtype=torch.bool).tril()
        first += size
    return own, hidden


def _joined(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)) if parts else torch.empty(0).long()


def _size(key: Key) -> int:
    row, start = key
    return len(row) - start
