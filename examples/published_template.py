"""The judge prompt of GRAM's published models as a template file, out of the authors' own evaluation script:

git clone --depth 1 https://github.com/NiuTrans/GRAM
python examples/published_template.py GRAM/evaluation/gram_eval.py > published.json
gram score --model wangclnlp/GRAM-Qwen3-1.7B-RewardModel --template published.json --raw-control-tokens ...
"""

import ast
import json
import sys
from pathlib import Path

SLOTS = {"{input}": "{prompt}", "{response_a}": "{a}", "{response_b}": "{b}"}  # theirs, and ours


def template_in(script: Path) -> dict[str, object]:
    """The template in ``script``; nothing of it is run."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and all(slot in node.value for slot in SLOTS)
        ):
            text = node.value
            for theirs, ours in SLOTS.items():
                text = text.replace(theirs, ours)
            return {"name": script.stem, "text": text, "labels": ["A", "B"]}
    raise SystemExit(f"{script}: no text with the slots {', '.join(SLOTS)}")


if __name__ == "__main__":
    print(json.dumps(template_in(Path(sys.argv[1])), ensure_ascii=False, indent=1))
