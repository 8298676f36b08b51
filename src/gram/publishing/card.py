"""A model's card: what ``gram.json`` and a run of ``gram eval`` say, for people and for the Hub's metadata.

The metadata has its evaluation results in the Hub's form ``model-index``, written by huggingface_hub. Knows
files, not models; says nothing that no file says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gram.asking import Kind
from gram.data.formats import is_file_name
from gram.data.sources import parse_source
from gram.modeling.adapter_folder import is_adapter
from gram.modeling.kinds import kind_of_folder
from gram.modeling.manifest import Manifest
from gram.publishing.measured import Run

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

README = "README.md"
_START, _END = "<!-- gram eval -->", "<!-- end gram eval -->"
_LICENCE = ("license", "license_name", "license_link")
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")
_WHAT: dict[Kind, str] = {
    "judge": "A judge: it reads a prompt and two answers, and its probabilities of two label tokens say "
    "which answer is better. Pairs are asked in both orders.",
    "likelihood": "A likelihood model: an answer's score is its log-likelihood, in nats.",
    "scalar": "A scalar model: a sequence classifier with one output, which is the answer's score.",
}
_TASK: dict[Kind, str] = {
    "judge": "text-generation",
    "likelihood": "text-generation",
    "scalar": "text-classification",
}


def evaluation_results(run: Run) -> list[EvalResult]:
    """The score of each benchmark, with its interval, and of a judge how often both orders agree."""
    from huggingface_hub import EvalResult

    found: list[EvalResult] = []
    data = {part["source"]: part for part in run.results.get("data", [])}
    for part in run.results["benchmarks"]:
        score, files = part["scores"]["score"], data.get(part["source"], {}).get("files", [])
        about: dict[str, Any] = {
            "task_type": "text-ranking",
            "task_name": "Reward modeling",
            "dataset_type": part["source"] if part["benchmark"] == "preferences" else part["benchmark"],
            "dataset_name": part["source"],
            "dataset_split": files[0]["split"] if len(files) == 1 else None,
            "dataset_args": {
                file["name"]: {"rows": file["records"], "sha256": file["sha256"]} for file in files
            },
        }
        interval = {"confidence": 0.95, "low": score["low"], "high": score["high"], "n": score["n"]}
        asked = {"asked": dict(run.asked)} if run.asked else {}
        name = part["scores"]["metric"]
        if score["value"] is not None:
            found.append(
                EvalResult(
                    **about,
                    metric_type="accuracy",
                    metric_name=name,
                    metric_value=score["value"],
                    metric_args=interval | asked,
                )
            )
        agreement = part["summary"]["overall"]["consistency"]
        if agreement is not None and run.kind == "judge":
            found.append(
                EvalResult(
                    **about,
                    metric_type="consistency",
                    metric_name="both orders prefer the same answer",
                    metric_value=agreement,
                    metric_args=asked or None,
                )
            )
    return found


def card_text(
    folder: Path, name: str, manifest: Manifest | None, run: Run | None, licence: str | None
) -> str:
    """The card of the model in ``folder``, as ``README.md`` on the Hub.

    A card that is there keeps its text and its metadata, and gets the metadata that it lacks. What is named
    here wins: the licence replaces the one there, the results of a run those of the same data set and metric,
    and its report the one of an earlier run; if there is none, the report is put at the end.

    Args:
        name: ``owner/name`` on the Hub.
    """
    from huggingface_hub import ModelCard, ModelCardData

    fields: Any = _metadata(folder, manifest) | ({"license": licence} if licence else {})
    results = evaluation_results(run) if run else []
    data = ModelCardData(model_name=name.partition("/")[2], eval_results=results or None, **fields)
    path = folder / README
    if not path.is_file():
        return f"---\n{data.to_yaml()}\n---\n\n{_body(folder, name, manifest, run)}"
    card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    there: Any = card.data
    kept = there.to_dict()
    if licence:
        kept = {key: value for key, value in kept.items() if key not in _LICENCE}
    both: Any = data.to_dict() | kept
    both.pop("model-index", None)
    both["model_name"] = getattr(there, "model_name", None) or data.model_name
    both["eval_results"] = _merged(getattr(there, "eval_results", None) or [], results) or None
    text = _with_report(card.text, run) if run else card.text
    return f"---\n{ModelCardData(**both).to_yaml()}\n---\n{text}"


def _merged(old: Sequence[EvalResult], new: Sequence[EvalResult]) -> list[EvalResult]:
    """The results of a card, those that were measured again in their places, and then the others."""
    latest = {_measured(result): result for result in new}
    places = {_measured(result): latest.get(_measured(result), result) for result in old}
    return list((places | latest).values())


def _measured(result: EvalResult) -> tuple[str | None, ...]:
    """What a result is of: the data set and the metric."""
    data = result.dataset_type, result.dataset_name, result.dataset_config, result.dataset_split
    return (*data, result.metric_type, result.metric_config)


def _with_report(text: str, run: Run) -> str:
    """The text of a card with the report of ``run`` in place of an earlier one, or at its end."""
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not (start and end):
        return f"{text.rstrip()}\n\n{_report(run)}\n"
    return f"{before}{_report(run)}{after}"


def _report(run: Run) -> str:
    """The report of a run between two marks, by which the next push finds it."""
    lines = [_START, run.report.strip(), ""]
    if run.asked:
        asked = ", ".join(f"{name}={value!r}" for name, value in run.asked.items())
        lines += [f"Measured with `{asked}`, which is not how `gram.load` asks this model by default.", ""]
    if limit := run.results.get("limit"):
        lines += [f"At most {limit} items of each source were asked (seed {run.results.get('seed')}).", ""]
    return "\n".join([*lines, _END])


def _metadata(folder: Path, manifest: Manifest | None) -> dict[str, Any]:
    """What the Hub sorts models by: the library, the task, what it was made of, and tags."""
    kind = kind_of_folder(folder, manifest)
    fields: dict[str, Any] = {
        "library_name": "peft" if is_adapter(folder) else "transformers",
        "tags": ["reward-model", "gram", *([kind] if manifest or kind == "scalar" else [])],
        "pipeline_tag": _TASK[kind],
    }
    if manifest is None:
        return fields
    if base := manifest.base.get("name"):
        source, is_there = str(base), not manifest.base.get("files")
    else:
        source, is_there = str(manifest.training.get("from") or ""), manifest.training.get("from_hub")
    if _on_the_hub(source, is_there, "model"):
        fields["base_model"] = source.partition("@")[0]
    trained_on = [
        (parse_source(str(part.get("name", "")))[0], part.get("hub"))
        for part in manifest.data
        if part.get("use") == "train"
    ]
    names = {name.partition("@")[0] for name, there in trained_on if _on_the_hub(name, there, "dataset")}
    if names:
        fields["datasets"] = sorted(names)
    return fields


def _on_the_hub(name: str, is_there: object, kind: Literal["model", "dataset"]) -> bool:
    """Whether a name in ``gram.json`` is one of the Hub.

    ``runs/base`` has the form of such a name. So it is one if training read it there, as newer files tell
    (``is_there``); of an older one, if this machine has it from there.
    """
    if not _HUB_NAME.fullmatch(name) or is_file_name(name):
        return False
    if isinstance(is_there, bool):
        return is_there
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=name.partition("@")[0], repo_type=kind)
    return not Path(name).exists() and (Path(HF_HUB_CACHE) / folder).is_dir()


def _body(folder: Path, name: str, manifest: Manifest | None, run: Run | None) -> str:
    kind = kind_of_folder(folder, manifest)
    asked = ', kind="scalar"' if kind == "scalar" and not manifest else ""
    of_words = kind == "judge" and not manifest  # nobody said that it is a judge
    lines = [f"# {name.partition('/')[2]}", ""]
    lines += ["A language model without gram.json." if of_words else _WHAT[kind], ""]
    lines += ["## Use", "", "```python", "import gram", "", f'model = gram.load("{name}"{asked})']
    if kind != "judge":
        lines += ['model.score(["What is 2 + 2?"], ["4"])  # a higher number is better']
    lines += ['model.compare([gram.Pair("What is 2 + 2?", a="4", b="5")]).p_a  # P(a is better)', "```", ""]
    if kind == "scalar":
        text = "chat template up to the end of the answer's turn" if manifest else "whole chat template"
        lines += [
            f"Or without gram: `AutoModelForSequenceClassification.from_pretrained`, on the {text}; the one "
            "logit is the score.",
            "",
        ]
    if manifest:
        lines += _training(manifest)
    if run:
        lines += [_report(run), ""]
    return "\n".join(lines)


def _training(manifest: Manifest) -> list[str]:
    """What ``gram.json`` says of the training: only what stands there."""
    facts = [(key, value) for key, value in manifest.training.items() if isinstance(value, str | int | float)]
    facts += [(f"objective: {key}", value) for key, value in manifest.objective.items() if value is not None]
    facts += [("longest prompt (tokens)", manifest.max_length)]
    if "temperature" in manifest.calibration:
        facts += [("temperature (fitted)", manifest.calibration["temperature"])]
    facts += [(f"version: {key}", value) for key, value in manifest.versions.items()]
    lines = [
        "## Training",
        "",
        "| | |",
        "|---|---|",
        *(f"| {_cell(key)} | {_cell(value)} |" for key, value in facts),
    ]
    if manifest.data:
        lines += ["", "| data | use | split | rows | sha256 of the examples |", "|---|---|---|---:|---|"]
        for part in manifest.data:
            cells = [part.get(key, "") for key in ("name", "use", "split", "records", "sha256")]
            lines.append("| " + " | ".join(_cell("" if cell is None else cell) for cell in cells) + " |")
    return [*lines, ""]


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
