"""The files that can be made again, each with its reader, and the making. Knows no command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.originals import chat, knowledge, safety
from experiments.originals.bigbench import bigbench
from experiments.originals.index import changed, read_index
from experiments.originals.pairs import Pair, Said, lines
from experiments.originals.superni import superni


@dataclass(frozen=True)
class Source:
    """``pairs``: all candidates in a checkout of the original, in the order that the index counts."""

    pairs: Callable[[Path], Iterator[Pair]]
    said: Said


SOURCES: dict[str, Source] = {
    "pref/llmbar": Source(chat.llmbar, Said("LLMBar", "human")),
    "pref/hhh": Source(chat.hhh, Said("HHH-alignment", "human (authors)")),
    "pref/pandalm": Source(chat.pandalm, Said("PandaLM-testset-v1", "human")),
    "pref/truthfulqa": Source(knowledge.truthfulqa, Said("TruthfulQA", "human (authors)")),
    "pref/piqa": Source(knowledge.piqa, Said("PIQA", "human")),
    "pref/humanevalpack": Source(
        knowledge.humanevalpack, Said("humanevalpack", "human (bug written by hand)")
    ),
    "pref/summedits": Source(
        knowledge.summedits, Said("SummEdits", "human (consistency of edited summaries)")
    ),
    "pref/judgebench": Source(knowledge.judgebench, Said("JudgeBench", "objective correctness")),
    "pref/rm_bench": Source(safety.rm_bench, Said("RM-Bench", "benchmark authors (verified)")),
    "pref/xstest": Source(safety.xstest, Said("XSTest", "human")),
    "pref/ifbench": Source(chat.ifbench, Said("IFBench-RM", "verified constraints + model")),
    "pref/tulu_human": Source(chat.tulu_human, Said("open-instruct-human-eval", "human")),
    "pref/qlora_vicuna": Source(chat.qlora_vicuna, Said("qlora-vicuna80", "GPT-4 (agrees in both orders)")),
    "pref/bigbench": Source(bigbench, Said("BIG-bench", "task authors (gold option)")),
    "pref/superni": Source(superni, Said("Super-NaturalInstructions", "task output")),
}


def made(name: str, original: Path) -> bytes:
    """The rows of ``name`` (as ``pref/llmbar``), from a checkout of the original.

    Raises ``ValueError`` where a file of the original is missing or is another one; all are named.
    """
    file = name.split("/")[-1]
    index = read_index(file)
    if wrong := changed(original, index.originals):
        raise ValueError("\n".join(wrong))
    source = SOURCES[name]
    pairs = list(source.pairs(original))
    if index.rows is not None:
        pairs = [pairs[number] for number in index.rows]
    ids = index.ids or range(len(pairs))
    return "".join(lines(file, zip(ids, pairs, strict=True), source.said, index.groups)).encode()
