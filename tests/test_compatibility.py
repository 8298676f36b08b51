"""What docs/compatibility.md calls stable is a list here: it changes on purpose, or not at all."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

import gram
from gram.cli.main import COMMANDS, RENAMED
from gram.config_file import option_of
from gram.evaluation import Record
from gram.evaluation.records import VERSION
from gram.modeling.manifest import FAN_FORMAT, FORMAT, Manifest, read_manifest

pytestmark = pytest.mark.law(9)

ROOT = Path(__file__).parent.parent

# Names of options, as in a YAML file; their flags have dashes. Add here, and say so in CHANGELOG.md. A name
# that goes stands in cli.main.RENAMED for one release.
CALL = "cache connections deadline spend tokenizer"
ASK = """
    base baseline cache centre_on connections context deadline device dtype engine ensemble ensemble_penalty
    ensemble_with kind layout length_power max_length model raw_control_tokens reference revision single_order
    spend template token_budget tokenizer trust_remote_code workers
"""
HERE = " ".join(set(ASK.split()) - set(CALL.split())) + " "
FLAGS = {
    "demo": "output quick seed",
    "train": """
        adam_beta2 adapter base batch_size beta centring columns context data device distil dtype engine
        epochs eval_data eval_split eval_steps freeze gradient_checkpointing label_smoothing layout
        learning_rate
        length_power likelihood_form log_steps lora lora_alpha lora_rank margin max_eval_per_source
        max_grad_norm max_length max_per_source max_steps model objective on_error
        output overwrite pairs_per_prompt quantise raw_control_tokens reference report_to revision
        save_steps schedule seed split stage template text_form text_regulariser token_budget tokenizer_data
        trust_remote_code unfreeze_layers vocab_size warmup weight_decay
    """,
    "plan": """
        batch_size dtype gpu_memory gpus gradient_checkpointing length lora lora_rank model pairs quantise
        revision tflops trust_remote_code
    """,
    "adapt": """
        adapter base batch_size columns data device dtype engine folds kind label_smoothing layout
        learning_rates lora_alpha lora_rank max_per_source max_steps method model on_error output overwrite
        reference revision seed
        split template token_budget trust_remote_code
    """,
    "score": ASK + "columns input on_error output split",
    "bulk": ASK.replace("workers", "")
    + "address columns cpus_per_actor input num_actors on_error output shard_rows split",
    "eval": ASK + "bench calibrate columns data max_per_source on_error output perturb seed shard split",
    "report": "output runs seed",
    "rank": ASK + "budget columns input on_error output schedule seed split",
    "mine": ASK + "budget columns input limit margin on_error output pairs schedule seed split",
    "merge": "base dtype model output revision trust_remote_code",
    "push": "dry_run evaluation license model private to update",
    "export": "base dtype model output revision trust_remote_code what",
    "serve": HERE + "host max_batch_tokens max_queue orders port token_file",
    "bench": """
        data device dtype json output pairs peer_batch plot prompt_tokens quick rounds seed shape steps
        token_budget what
    """,
    "convert": "columns input on_error output split to",
    "fetch": "from name",
    "doctor": """
        base baseline columns context data device dtype engine kind layout length_power max_length model
        raw_control_tokens reference revision single_order split template token_budget trust_remote_code
    """,
}
RECORD = """
    id subset label log_odds mass length_a length_b source unit group variant pair gold styles scores
    repetition truncated run template seed bounded
"""
PUBLIC = """
    Answer Chat Contest GramError Message Pair Preference PreferenceModel RemoteModel ResponsePair
    ScalarModel Text Verdicts best_of_n decide ensemble load rank
"""


def test_every_command_is_frozen() -> None:
    assert set(FLAGS) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_change_only_on_purpose(command: str) -> None:
    config = import_module(f"gram.cli.{command}").Config
    options = sorted(option_of(item.name) for item in fields(config) if item.init)
    assert options == sorted(FLAGS[command].split())


@pytest.mark.parametrize("command", RENAMED)
def test_an_old_name_leads_to_a_new_one(command: str) -> None:
    for old, new in RENAMED[command].items():
        assert new in FLAGS[command].split() and old not in FLAGS[command].split()


def test_public_names_change_only_on_purpose() -> None:
    assert gram.__all__ == PUBLIC.split()
    assert set(dir(gram)) == {*gram.__all__, "__version__"}
    for name in PUBLIC.split():
        assert getattr(gram, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gram.nothing


def test_extras_stay() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"data", "dev", "docs", "local", "plots", "rl", "serve", "torch", "train", "ui"} <= set(extras)
    page = (ROOT / "docs" / "installing.md").read_text()
    assert {name: page.count(f"| `{name}` |") for name in extras} == dict.fromkeys(extras, 1)


def test_records_change_only_on_purpose() -> None:
    assert [item.name for item in fields(Record)] == RECORD.split() and VERSION == 1


def test_what_a_manifest_holds_beside_is_kept_and_told(tmp_path: Path) -> None:
    """A later version may add fields: they are named, not used, and written again."""
    Manifest("judge", {"name": "t"}, "hash", 64).write(tmp_path)
    content = json.loads((tmp_path / "gram.json").read_text()) | {"colour": {"of": "later"}}
    (tmp_path / "gram.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"gram\.json: fields unknown .* kept and not used: colour"):
        manifest = read_manifest(tmp_path)
    assert manifest is not None and manifest.unknown == {"colour": {"of": "later"}}
    (tmp_path / "again").mkdir()
    manifest.write(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "gram.json").read_text()) == content
    assert content["format"] == FORMAT == 1 and "unknown" not in content


def test_a_fan_judge_is_refused_where_no_layout_is_known(tmp_path: Path) -> None:
    """A reader of format 1 alone would pass over ``layout``, and ask it in the sequence."""
    Manifest("judge", {"name": "t"}, "hash", 64, layout="fan").write(tmp_path)
    assert json.loads((tmp_path / "gram.json").read_text())["format"] == FAN_FORMAT == 2
    found = read_manifest(tmp_path)
    assert found is not None and found.layout == "fan"


def test_the_page_says_what_these_lists_hold() -> None:
    page = (ROOT / "docs" / "compatibility.md").read_text()
    for name in ("gram.json", "records.jsonl", "gram.load", "tests/test_compatibility.py", "format", "`v`"):
        assert name in page
