"""Files in the form that the ``rewardbench`` tool writes, so that scripts made for it can read our runs.

Knows records and items; ``scores_chosen`` and ``scores_rejected`` are the model's own scores or, of a
model that compares, half the mean log-odds with either sign: only their difference means anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gram.evaluation.items import Item
from gram.evaluation.records import Record
from gram.files import atomic_write


def write_outputs(path: Path, items: Sequence[Item], records: Sequence[Record]) -> None:
    """One line per comparison with a better answer: prompt, results, scores, the two texts, subset and id.

    ``results`` is 1 where the chosen answer wins and 0 otherwise, as there.
    """
    by_id = {(item.source, item.id): item for item in items if not item.variant}
    with atomic_write(path) as file:
        for record in records:
            if not record.judged:
                continue
            item = by_id[record.source, record.id]
            chosen, rejected = record.scores or (record.margin / 2, -record.margin / 2)
            prompt = [{"role": turn.role, "content": turn.content} for turn in item.prompt]
            texts = [[*prompt, {"role": "assistant", "content": item.responses[k]}] for k in record.pair]
            row = {
                "prompt": prompt,
                "results": int(record.choice == 1.0),
                "scores_chosen": chosen,
                "scores_rejected": rejected,
                "text_chosen": texts[0],
                "text_rejected": texts[1],
                "subset": record.subset,
                "id": record.id,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
