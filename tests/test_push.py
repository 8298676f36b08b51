"""``gram push`` against a stand-in for the Hub that huggingface_hub itself talks to, in processes of its own.

The tests' process has the Hub switched off, so each push is a command with ``HF_ENDPOINT`` set.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gram
from conftest import run
from gram.asking import LoadOptions
from gram.errors import ConfigError
from gram.modeling.manifest import Manifest
from gram.publishing.card import card_text, evaluation_results
from gram.publishing.measured import Run, read_run
from gram.publishing.measured import measured as measured_model
from stand_in_hub import TOKEN, Hub, hub_at_work

EXAMPLE = Path(__file__).resolve().parents[1] / "docs" / "example-report"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_at_work() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path, likelihood_folder: Path) -> Path:
    """A model with a journal and rejected rows beside it, which are nobody else's business."""
    folder = tmp_path / "model"
    shutil.copytree(likelihood_folder, folder)
    (folder / "rejects.jsonl").write_text('{"secret": 1}\n')
    (folder / "checkpoint-3").mkdir()
    return folder


@pytest.fixture
def measured(folder: Path, tmp_path: Path) -> Path:
    """The numbers of a real run, said to be this model's."""
    place = tmp_path / "eval"
    place.mkdir()
    content = json.loads((EXAMPLE / "results.json").read_text()) | {"model": str(folder), "kind": "judge"}
    content["measured"] = measured_model(str(folder), LoadOptions("judge"))
    (place / "results.json").write_text(json.dumps(content))
    shutil.copyfile(EXAMPLE / "report.md", place / "report.md")
    return place


def environment(hub: Hub, home: Path, token: str | None = TOKEN) -> dict[str, str]:
    names = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    return kept | names | {"HF_HUB_DISABLE_TELEMETRY": "1"} | ({"HF_TOKEN": token} if token else {})


def push(hub: Hub, folder: Path, *more: object, token: str | None = TOKEN) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "gram", "push", "--model", folder, *more]
    done = subprocess.run(
        [str(part) for part in command],
        env=environment(hub, folder.parent / "home", token),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_a_model_goes_there_and_comes_back(hub: Hub, folder: Path, measured: Path, tmp_path: Path) -> None:
    """Large files by LFS, the others in the commit; huggingface_hub downloads what was sent, byte by byte."""
    code, result, err = push(
        hub, folder, "--to", "me/small", "--evaluation", measured, "--license", "cc-by-sa-4.0"
    )
    assert code == 0, err
    there = hub.repositories["me/small"]
    assert sorted(there) == result["files"] and result["left_out"] == ["checkpoint-3", "rejects.jsonl"]
    assert {"gram.json", "config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(there)
    for name, content in there.items():
        if name != "README.md":
            assert content == (folder / name).read_bytes(), name
    assert not (folder / "README.md").exists()
    assert (
        len(hub.commits) == 1 and result["commit"] == f"{1:040x}" and result["url"] == f"{hub.url}/me/small"
    )
    assert "PUT /lfs/" in " ".join(hub.asked) and "POST /api/validate-yaml" in hub.asked and not hub.private
    script = (
        "import sys; from huggingface_hub import snapshot_download; "
        "print(snapshot_download('me/small', local_dir=sys.argv[1]))"
    )
    back = tmp_path / "back"
    subprocess.run(
        [sys.executable, "-c", script, str(back)], env=environment(hub, tmp_path / "home"), check=True
    )
    for name, content in there.items():
        assert (back / name).read_bytes() == content

    from huggingface_hub import ModelCard

    card: Any = ModelCard((back / "README.md").read_text())
    assert card.data.license == "cc-by-sa-4.0" and card.data.library_name == "transformers"
    content = json.loads((measured / "results.json").read_text())
    found = {(r.dataset_name, r.metric_type): r for r in card.data.eval_results or []}
    assert len(found) == 2 * len(content["benchmarks"])
    for part in content["benchmarks"]:
        result = found[part["source"], "accuracy"]
        assert result.metric_value == part["scores"]["score"]["value"]
        assert result.metric_args["low"] == part["scores"]["score"]["low"]
        agreement = found[part["source"], "consistency"].metric_value
        assert agreement == part["summary"]["overall"]["consistency"]
    assert found["rm-bench", "accuracy"].dataset_type == "rm-bench"
    assert (measured / "report.md").read_text().strip() in card.text


@pytest.mark.parametrize("kind", ["likelihood", "scalar"])
def test_who_loads_it_by_name_gets_its_scores(
    kind: str, hub: Hub, likelihood_folder: Path, scalar_folder: Path, tmp_path: Path
) -> None:
    """Over the network, and from the cache afterwards; without a word on stderr but the loader's.

    A file that the repository lacks is told. Raw weights, a repository without ``gram.json``, stay raw.
    """
    folder = tmp_path / "model"
    shutil.copytree(likelihood_folder if kind == "likelihood" else scalar_folder, folder)
    code, _, err = push(hub, folder, "--to", "me/small")
    assert code == 0, err
    raw = {"gram.json", "gram-train.json", "adapt.json", "README.md"}
    hub.repositories["me/raw"] = {k: v for k, v in hub.repositories["me/small"].items() if k not in raw}
    model: Any = gram.load(folder, device="cpu")
    wanted = model.score(["why ?"], ["it is old ."])
    here, without = environment(hub, tmp_path / "home"), "chat_template.jinja"
    offline = {**here, "HF_HUB_OFFLINE": "1"}
    for names in (here, offline):
        done = scored_by_name("me/small", names)
        assert json.loads(done.stdout) == wanted.tolist(), done.stderr
        assert "Warning" not in done.stderr
        if kind == "likelihood":  # a scalar model without gram.json is one of others
            done = scored_by_name("me/raw", names)
            assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    hub.commits.append({})  # another commit
    del hub.repositories["me/small"][without]
    done = scored_by_name("me/small", here)
    assert done.returncode != 0 and f"it was saved with {without}, and without it" in done.stderr


def scored_by_name(name: str, names: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = (
        "import gram, sys; model = gram.load(sys.argv[1], device='cpu', kind=sys.argv[2] or None); "
        "print(model.score(['why ?'], ['it is old .']).tolist())"
    )
    kind = "likelihood" if name == "me/raw" else ""
    command = [sys.executable, "-c", script, name, kind]
    return subprocess.run(command, env=names, capture_output=True, text=True, check=False)


def test_a_repository_that_is_there_is_asked_for(hub: Hub, folder: Path) -> None:
    """Unless ``--update`` says so nothing of it is touched; then files are replaced and others stay."""
    hub.repositories["me/small"] = {"config.json": b"mine", "notes.txt": b"mine"}
    code, _, err = push(hub, folder, "--to", "me/small")
    assert code == 1 and "to me/small: is there already; --update commits to it" in err
    assert hub.repositories["me/small"] == {"config.json": b"mine", "notes.txt": b"mine"} and not hub.commits
    code, _, err = push(hub, folder, "--to", "me/small", "--update")
    assert code == 0, err
    there = hub.repositories["me/small"]
    assert there["notes.txt"] == b"mine" and there["config.json"] == (folder / "config.json").read_bytes()


def test_without_a_token_nothing_is_sent(hub: Hub, folder: Path) -> None:
    code, _, err = push(hub, folder, "--to", "me/small", token=None)
    assert code == 1 and "me/small: cannot be pushed to the Hub" in err and "Traceback" not in err
    assert not hub.repositories and len(err.strip().splitlines()) == 1


def test_a_dry_run_shows_the_card(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, err = run(capsys, "push", "--model", folder, "--to", "me/small", "--dry-run")
    assert code == 0 and result["url"] is None and result["commit"] is None
    assert 'model = gram.load("me/small")' in err and "model.safetensors" in result["files"]


def test_what_is_refused(
    folder: Path,
    measured: Path,
    likelihood_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wrong name, numbers of another model, and an adapter that nobody else could load."""

    def says(*arguments: object) -> str:
        code, _, err = run(capsys, "push", *arguments, "--dry-run")
        assert code == 1
        return err

    assert "expected owner/name" in says("--model", folder, "--to", "small")
    assert "no such folder" in says("--model", tmp_path / "gone", "--to", "me/small")
    other = tmp_path / "other"
    shutil.copytree(likelihood_folder, other)
    content = json.loads((measured / "results.json").read_text())
    (measured / "results.json").write_text(json.dumps(content | {"measured": None}))  # of a name on the Hub
    told = says("--model", other, "--to", "me/small", "--evaluation", measured)
    assert f"measured {folder}, not {other}" in told
    (measured / "results.json").unlink()
    assert "no finished run of gram eval" in says(
        "--model", folder, "--to", "me/small", "--evaluation", measured
    )
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(other)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    told = says("--model", adapter, "--to", "me/small")
    assert f"an adapter whose base is not on the Hub ({other})" in told and "gram merge" in told


def test_a_card_that_is_there_keeps_its_words(folder: Path, measured: Path) -> None:
    """It gets the metadata that it lacks, the licence that is named and the report; its own stay."""
    from huggingface_hub import ModelCard

    own = "---\nlicense: other\nlicense_name: mine\ntags:\n- mine\n---\n# My own words\n"
    (folder / "README.md").write_text(own)
    run_of_it = read_run(measured, folder)
    card: Any = ModelCard(card_text(folder, "me/small", None, run_of_it, "apache-2.0"))
    assert card.data.license == "apache-2.0" and card.data.tags == ["mine"]
    assert "license_name" not in card.data.to_dict()
    assert card.data.library_name == "transformers" and card.data.eval_results
    assert card.text.strip().startswith("# My own words\n\n<!-- gram eval -->\n" + run_of_it.report[:40])
    unnamed: Any = ModelCard(card_text(folder, "me/small", None, None, None))
    assert unnamed.data.license == "other" and unnamed.data.license_name == "mine"
    assert unnamed.text.strip() == "# My own words" and not unnamed.data.eval_results


def one_score(value: float, source: str = "held_out") -> Run:
    """A run with one accuracy, and half of the pairs with the same answer in both orders."""
    scores = {
        "score": {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 100},
        "metric": "accuracy",
    }
    part = {"source": source, "benchmark": "preferences", "scores": scores}
    part["summary"] = {"overall": {"consistency": 0.5}}
    return Run({"data": [], "benchmarks": [part]}, f"## {source} says {value}", "judge", {})


def test_numbers_that_were_measured_again_replace_the_old_ones(folder: Path) -> None:
    """By data set and metric: the report too. What others measured stays, and another data set is added."""
    from huggingface_hub import EvalResult, ModelCard

    def pushed(run_of_it: Run) -> Any:
        text = card_text(folder, "me/small", None, run_of_it, None)
        (folder / "README.md").write_text(text)
        return ModelCard(text)

    def values(card: Any) -> dict[tuple[str, str], float]:
        return {(r.dataset_name, r.metric_type): r.metric_value for r in card.data.eval_results}

    card = pushed(one_score(0.4))
    theirs = EvalResult("text-generation", "theirs/set", "theirs", "accuracy", 0.7)
    card.data.eval_results.append(theirs)
    (folder / "README.md").write_text(f"---\n{card.data.to_yaml()}\n---\n{card.text}\nMy words at the end.\n")
    card = pushed(one_score(0.9))
    expected = {("held_out", "accuracy"): 0.9, ("held_out", "consistency"): 0.5, ("theirs", "accuracy"): 0.7}
    assert values(card) == expected
    assert "says 0.9" in card.text and "says 0.4" not in card.text
    assert card.text.count("<!-- gram eval -->") == 1 and card.text.rstrip().endswith("My words at the end.")
    card = pushed(one_score(0.6, "other"))
    more = {("other", "accuracy"): 0.6, ("other", "consistency"): 0.5}
    assert values(card) == expected | more and card.data.model_name == "small"


@pytest.mark.parametrize(
    ("name", "from_hub", "named"),
    [
        ("owner/base", True, "owner/base"),
        ("owner/base@v2", True, "owner/base"),
        ("runs/base", False, None),
        ("runs/base", None, None),
        ("cached/base", None, "cached/base"),
        ("runs/base/", False, None),
        ("./base", False, None),
    ],
)
def test_only_names_of_the_hub_are_told_as_such(
    name: str, from_hub: bool | None, named: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path of the machine that trained is no base model for others, and a file no data set.

    Wherever the push runs: training wrote down which it was. Of older models only what this machine has from
    the Hub is told (in the test: ``cached/base``).
    """
    from huggingface_hub import ModelCard, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    (folder / "cache" / "models--cached--base").mkdir(parents=True)
    data: list[dict[str, Any]] = [
        {"use": "train", "name": "data/rows.jsonl", "hub": False},
        {"use": "train", "name": "data/train", "hub": False},
        {"use": "train", "name": "data/older"},
        {"use": "train", "name": "owner/rows::train", "hub": True},
    ]
    start = {"from": name} | ({} if from_hub is None else {"from_hub": from_hub})
    manifest = Manifest("scalar", {}, "", 512, training=start, data=data)
    card: Any = ModelCard(card_text(folder, "me/small", manifest, None, None))
    assert card.data.base_model == named and card.data.datasets == ["owner/rows"]
    assert card.data.pipeline_tag == "text-classification"
    assert "AutoModelForSequenceClassification" in card.text


def test_a_score_that_is_none_is_not_told(measured: Path) -> None:
    """Of a benchmark without a usable row; and a model that is no judge has no two orders."""
    content = json.loads((measured / "results.json").read_text())
    content["benchmarks"] = content["benchmarks"][:2]
    content["benchmarks"][0]["scores"]["score"]["value"] = None
    found = evaluation_results(Run(content, "", "scalar", {}))
    assert [(part.dataset_name, part.metric_type) for part in found] == [
        (content["benchmarks"][1]["source"], "accuracy")
    ]
    with pytest.raises(ConfigError, match="not the results of gram eval"):
        (measured / "results.json").write_text("{}")
        read_run(measured, Path(content["model"]))
