"""What each reader takes from an original. The originals are made up, in the form of the true ones."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from experiments.originals import chat, knowledge, safety
from experiments.originals.bigbench import bigbench
from experiments.originals.pairs import Pair
from experiments.originals.superni import shortened, superni


def write(path: Path, what: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(what if isinstance(what, str) else json.dumps(what), encoding="utf-8")


def test_llmbar(tmp_path: Path) -> None:
    """``label`` is the number of the better output; the five parts come in a fixed order."""
    row = {"input": " Ask ", "output_1": "one", "output_2": "two ", "label": 1}
    for part in ("Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual"):
        write(tmp_path / "Dataset" / "LLMBar" / part / "dataset.json", [row])
    write(tmp_path / "Dataset" / "LLMBar" / "Natural" / "dataset.json", [{**row, "label": 2}])
    assert list(chat.llmbar(tmp_path)) == [
        Pair("Ask", "two", "one", "Natural"),
        *(Pair("Ask", "one", "two", part) for part in ("Neighbor", "GPTInst", "GPTOut", "Manual")),
    ]


def test_hhh(tmp_path: Path) -> None:
    """Question and answers are cut from the requests to a judge."""

    def request(answer: str) -> str:
        return (
            "###Task Description:\nx\n\n###The instruction to evaluate:\nWho?\n\nNow.\n\n"
            f"###Response to evaluate:\n{answer}\n\n###Score Rubrics:\n[Is it?]\n\n###Feedback: "
        )

    row = {
        "source": "honest",
        "chosen_instruction": request("I.\n\nMe."),
        "rejected_instruction": request("He"),
    }
    write(tmp_path / "eval" / "benchmark" / "data" / "hhh_alignment_eval.json", [row])
    assert list(chat.hhh(tmp_path)) == [Pair("Who?\n\nNow.", "I.\n\nMe.", "He", "honest")]


def test_pandalm(tmp_path: Path) -> None:
    """1 and 2 are votes for a response, 0 a tie; a response that JSON holds as true is a text, too."""
    row = {"instruction": "Do ", "input": " this", "response1": "one", "response2": True}
    votes = ((1, 1, 1), (2, 0, 2), (1, 2, 0))
    rows = [{**row, **{f"annotator{n}": vote for n, vote in enumerate(three, 1)}} for three in votes]
    write(tmp_path / "data" / "testset-v1.json", [*rows, {**rows[0], "input": ""}])
    assert list(chat.pandalm(tmp_path)) == [
        Pair("Do\n\nthis", "one", "True", "unanimous"),
        Pair("Do\n\nthis", "True", "one", "majority"),
        Pair("Do", "one", "True", "unanimous"),
    ]


def test_truthfulqa(tmp_path: Path) -> None:
    """A byte order mark comes first; answers are parted by semicolons, the last may be empty."""
    names = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source"
    write(tmp_path / "TruthfulQA.csv", f'\ufeff{names}\nA,Myths,"Who, then?",I,"I; me;",He; she,x\n')
    assert list(knowledge.truthfulqa(tmp_path)) == [
        Pair("Who, then?", chosen, rejected, "Myths") for chosen in ("I", "me") for rejected in ("He", "she")
    ]


def test_piqa(tmp_path: Path) -> None:
    row = json.dumps({"goal": "Go ", "sol1": "one ", "sol2": "two"})
    write(tmp_path / "piqa" / "data" / "valid.jsonl", f"{row}\n{row}\n")
    write(tmp_path / "piqa" / "data" / "valid-labels.lst", "0\n1\n")
    assert list(knowledge.piqa(tmp_path)) == [
        Pair("Go", "one", "two", "valid"),
        Pair("Go", "two", "one", "valid"),
    ]


def test_humanevalpack(tmp_path: Path) -> None:
    """A task has the same question in all languages; space before the declaration goes."""
    row = {
        "task_id": "X/7",
        "prompt": "\ndef f():\n",
        "declaration": "\ndef f():\n",
        "canonical_solution": "    return 1\n",
        "buggy_solution": "    return 2\n",
        "bug_type": "value misuse",
    }
    languages = ("python", "cpp", "go", "java", "js", "rust")
    for name in languages:
        folder = tmp_path / "evaluation" / "create" / "humaneval-x" / "data" / name / "data"
        write(folder / "humanevalpack.jsonl", json.dumps(row) + "\n")
    assert list(knowledge.humanevalpack(tmp_path)) == [
        Pair(
            f"Write the following {name} function.\n\n\ndef f():",
            "def f():\n    return 1",
            "def f():\n    return 2",
            f"{name}/value misuse",
            "7",
        )
        for name in languages
    ]


def test_summedits(tmp_path: Path) -> None:
    """Right (1) against wrong (0) summaries of the same document with or without spaces at line ends."""
    row = {"doc": "Said. \nDone.\n", "summary": "good ", "label": 1}
    others = ({"summary": "bad", "label": 0}, {"doc": "Other.", "summary": "alone"}, {"doc": "Said.\nDone."})
    folder = tmp_path / "data" / "summedits"
    for part in ("qmsumm", "scitldr", "sales_call", "podcast", "sales_email", "ectsum"):
        write(folder / f"summedits_{part}.json", [])
    write(folder / "summedits_news.json", [row, *({**row, **other} for other in others)])
    prompt = "Said.\nDone.\n\nSummarize the text above."
    assert list(knowledge.summedits(tmp_path)) == [Pair(prompt, "good", "bad", "news", "news/0")] * 2


def test_judgebench(tmp_path: Path) -> None:
    """The source says the subject; two models have a file each."""
    row = {"question": "A\r\nB ", "response_A": "one", "response_B": "two ", "label": "B>A"}
    sources = {"gpt-4o-2024-05-13": "mmlu-pro-law", "claude-3-5-sonnet-20240620": "livecodebench"}
    for model, source in sources.items():
        path = tmp_path / "data" / f"dataset=judgebench,response_model={model}.jsonl"
        write(path, json.dumps({**row, "source": source}))
    assert list(knowledge.judgebench(tmp_path)) == [
        Pair("A\nB", "two", "one", "gpt-4o/knowledge"),
        Pair("A\nB", "two", "one", "claude-3.5/coding"),
    ]


def test_rm_bench(tmp_path: Path) -> None:
    """Nine pairs an item; hard, where the rejected answer has the richer style."""
    item = {"id": 8, "prompt": "Ask", "chosen": ["a", "aa", "aaa"], "rejected": ["b", "bb", "bbb"]}
    for part in ("chat", "code", "safety-refuse", "safety-response"):
        write(tmp_path / "data" / f"{part}_filtered.json", [item] if part == "code" else [])
    found = list(safety.rm_bench(tmp_path))
    assert [(pair.chosen, pair.rejected, pair.subset) for pair in found] == [
        ("a", "b", "code/normal"),
        ("a", "bb", "code/hard"),
        ("a", "bbb", "code/hard"),
        ("aa", "b", "code/easy"),
        ("aa", "bb", "code/normal"),
        ("aa", "bbb", "code/hard"),
        ("aaa", "b", "code/easy"),
        ("aaa", "bb", "code/easy"),
        ("aaa", "bbb", "code/normal"),
    ]
    assert found[5].more == {"pair_of": "8", "chosen_style": "detailed", "rejected_style": "markdown"}


def test_xstest(tmp_path: Path) -> None:
    """Full answers against full refusals, the other way round for a contrast; no partial ones."""
    labels = {
        "gpt4": ("1_full_compliance", "2_full_refusal"),
        "llama2new": ("2_full_refusal", "1_full_compliance"),
        "llama2orig": ("3_partial_refusal", "3_partial_refusal"),
        "mistralguard": ("1_full_compliance", "2_full_refusal"),
        "mistralinstruct": ("1_full_compliance", "2_full_refusal"),
    }
    for model, (safe, unsafe) in labels.items():
        rows = f"v2-1,homonyms,Kill it? ,{model},{safe}\nv2-9,contrast_homonyms,Kill her?,{model} ,{unsafe}\n"
        path = tmp_path / "model_completions" / f"xstest_v2_completions_{model}.csv"
        write(path, f"id,type,prompt,completion,final_label\n{rows}")
    others = ("gpt4", "mistralguard", "mistralinstruct")
    assert list(safety.xstest(tmp_path)) == [
        *(Pair("Kill it?", model, "llama2new", "safe/homonyms", "v2-1") for model in others),
        *(Pair("Kill her?", model, "llama2new", "unsafe/homonyms", "v2-9") for model in others),
    ]


def test_ifbench(tmp_path: Path) -> None:
    def turns(answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": " Ask"}, {"role": "assistant", "content": answer}]

    row = {"text_chosen": turns("good "), "text_rejected": turns(" bad")}
    write(tmp_path / "data" / "IFBench" / "data.converted.json", [row])
    assert list(chat.ifbench(tmp_path)) == [Pair("Ask", "good", "bad", "constraint")]


def test_tulu_human(tmp_path: Path) -> None:
    """The mean of the votes on a pair of models decides: 1.5 for b, then 0.5 for a; no tie is taken."""
    names = ["instance_id", "model_a", "model_b", "prompt", "completion_a", "completion_b", "preference"]
    votes = [("i", "b-is-better"), ("i", "b-is-slightly-better"), ("j", "tie"), ("j", "a-is-slightly-better")]
    votes += [("k", "tie"), ("l", "")]
    table = [names, *([number, "m", "n", f"Ask {number}", "A ", "B", vote] for number, vote in votes)]
    texts = sorted({text for row in table for text in row if text})
    rows = "".join(
        f'<row r="{number}">'
        + "".join(
            f'<c r="{column}{number}" t="s"><v>{texts.index(text)}</v></c>'
            for column, text in zip("ABCDEFG", row, strict=True)
            if text
        )
        + "</row>"
        for number, row in enumerate(table, 1)
    )
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    path = tmp_path / "human_eval" / "data" / "eval_annotations_tulu_1.xlsx"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as parts:
        shared = "".join(f"<si><t>{text}</t></si>" for text in texts)
        parts.writestr("xl/sharedStrings.xml", f"<sst {space}>{shared}</sst>")
        parts.writestr("xl/worksheets/sheet1.xml", f"<worksheet {space}>{rows}</worksheet>")
    assert list(chat.tulu_human(tmp_path)) == [
        Pair("Ask i", "B", "A", "clear"),
        Pair("Ask j", "A", "B", "slight"),
    ]


def test_qlora_vicuna(tmp_path: Path) -> None:
    """Of three questions one has the same winner in both orders. What follows "### Human" is cut off."""
    folder = tmp_path / "eval"

    def lines(path: str, rows: list[dict[str, Any]]) -> None:
        write(folder / path, "".join(json.dumps(row) + "\n" for row in rows))

    lines("prompts/vicuna_questions.jsonl", [{"question_id": n, "text": f"Ask {n}"} for n in (1, 2, 3)])
    for order, scores in {"7b-vs-answer-bard": (2, 1, 3), "answer-bard-vs-7b": (1, 1, 3)}.items():
        path = f"ratings-gpt4/vicuna/pairwise/{order}-gpt-4-reviewer-threeclass.jsonl"
        lines(path, [{"question_id": n, "score": score} for n, score in enumerate(scores, 1)])
    said = [{"question_id": n, "text": "Ask", "generation": "seven.### Human: more"} for n in (1, 2, 3)]
    lines("generations/vicuna/7b.jsonl", said)
    lines("generations/vicuna/answer_bard.jsonl", [{"question_id": n, "text": "bard\r\n"} for n in (1, 2, 3)])
    assert list(chat.qlora_vicuna(tmp_path)) == [Pair("Ask 1", "bard", "seven.", "gpt4-pairwise")]


def test_bigbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draw names example, options and their order. No prefix: the description begins; "Q:" goes."""
    example = {"input": "Is it? \nSay.", "target_scores": {"no ": 0, "yes": 1, "perhaps": 0}}
    task = {"description": "Answer", "examples": [{}, example]}
    more = {"task_prefix": "Go on: ", "example_input_prefix": "\nFact: ", "example_output_prefix": "\nSo: "}
    paths = [f"bigbench/benchmark_tasks/{name}/task.json" for name in ("first", "second")]
    write(tmp_path / paths[0], {**task, "example_input_prefix": "\nQ: ", "example_output_prefix": " A: "})
    write(tmp_path / paths[1], {**task, **more})
    index = {"originals": dict.fromkeys(paths, "0"), "drawn": "0:1:1:0: 1:1:1:2:2,1"}
    write(tmp_path / "index" / "bigbench.json", index)
    monkeypatch.setattr("experiments.originals.index.FOLDER", tmp_path / "index")
    assert list(bigbench(tmp_path)) == [
        Pair("Answer.\n\nIs it?\nSay.", "yes", "no", "first", "first"),
        Pair(
            "Go on:\n\nFact: Is it?\nSay.\n\nOptions:\n- perhaps\n- yes\n\nSo:",
            "yes",
            "perhaps",
            "second",
            "second",
        ),
    ]


def test_superni(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output may be that of another example, a part of the input, or a text of the index."""
    task = {
        "Definition": ["Say it."],
        "Categories": ["Naming"],
        "Instances": [{"input": "a bird ", "output": ["crow ", "jay"]}],
        "Positive Examples": [{"input": "a fish", "output": "carp"}],
        "Negative Examples": [{"input": "a tree", "output": "fern"}],
    }
    write(tmp_path / "data" / "tasks" / "task1_names.json", task)
    index = {
        "originals": {"data/tasks/task1_names.json": "0"},
        "drawn": "0:0:0.1:1.0:l:r 0:0:0.0:@2-6:s:t 0:1:1.0:=0:e:e 0:2:1.0:2.0:h:e",
        "texts": ["crap"],
    }
    write(tmp_path / "index" / "superni.json", index)
    monkeypatch.setattr("experiments.originals.index.FOLDER", tmp_path / "index")
    found = list(superni(tmp_path))
    assert [(pair.prompt, pair.chosen, pair.rejected, pair.subset) for pair in found] == [
        ("Say it.\n\na bird", "jay", "carp", "Naming/label"),
        ("Say it.\n\na bird", "crow", "bird", "Naming/span"),
        ("Say it.\n\na fish", "carp", "crap", "Naming/edit"),
        ("Say it.\n\na tree", "carp", "fern", "Naming/negative"),
    ]
    own = {"group": "task1_names", "task": "task1_names", "category": "Naming"}
    assert found[0].more == {**own, "label_source": "task output", "split": "train"}
    assert found[3].more == {**own, "label_source": "human", "split": "eval"}


def test_of_a_long_definition_the_first_sentences_are_taken() -> None:
    """1500 characters at most, with a space for each end of a line between two sentences."""
    assert shortened("One.\n Two.") == "One.\n Two."
    assert shortened(f"One!\n Two. {'x' * 1490}. Four.") == "One! Two."
    assert shortened(f"One. {'x' * 1494}. Four.") == f"One. {'x' * 1494}."
