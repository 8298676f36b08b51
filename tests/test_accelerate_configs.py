"""The files in ``configs/accelerate`` say to accelerate's own launcher what they say to a reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from gram.errors import ConfigError
from gram.training import sharding
from several_processes import divided_by_deepspeed

FOLDER = Path(__file__).parent.parent / "configs" / "accelerate"
NAMES = ("ddp", "fsdp2", "qlora", "zero3")


def environment(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What ``accelerate launch --config_file`` sets for every process."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    given = ["--config_file", str(FOLDER / f"{name}.yaml"), "-m", "gram", "train"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(given))
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ""  # as the launcher does
        _, found = prepare_deepspeed_cmd_env(arguments)
        return found
    return prepare_multi_gpu_env(arguments)


def test_none_is_forgotten() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_what_accelerate_reads(name: str) -> None:
    """Unknown keys are an error there; precision is left to gram, which passes it on itself."""
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    assert config.num_processes == 8 and config.mixed_precision == "no" and not config.use_cpu


def test_the_one_that_divides_switches_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment("fsdp2", monkeypatch)
    for name, value in found.items():
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert isinstance(sharding.asked_for(), sharding.FullyShard)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert "SHARDED" in str(plugin.state_dict_type)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert sharding.asked_for() is None


@pytest.fixture
def deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were installed; to say what it is asked for, it need not be."""
    monkeypatch.setattr("gram.training.zero3.find_spec", lambda name: name)
    monkeypatch.setenv("WORLD_SIZE", "8")


@pytest.mark.usefixtures("deepspeed")
def test_the_one_for_deepspeed_asks_for_zero3(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment("zero3", monkeypatch).items():
        if name.startswith("ACCELERATE_"):
            monkeypatch.setenv(name, value)
    division = sharding.asked_for()
    assert division is not None and division.name == "ZeRO-3"
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ConfigError, match="two processes or more"):
        sharding.asked_for()


@pytest.mark.usefixtures("deepspeed")
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2", "ZeRO stage 2: set zero_stage: 3"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "mixed_precision: 'no'"),
        ("ACCELERATE_GRADIENT_CLIPPING", "1.0", "--max-grad-norm"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "--token-budget"),
        ("ACCELERATE_DEEPSPEED_CONFIG_FILE", "missing.json", "missing.json: .*No such file"),
    ],
)
def test_what_deepspeed_would_do_otherwise_is_refused(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=reason):
        sharding.asked_for()


@pytest.mark.usefixtures("deepspeed")
@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, None),
        ({"bf16": {"enabled": "auto"}}, None),
        ({"bf16": {"enabled": True}}, "half precision"),
        ({"optimizer": {"type": "AdamW"}}, "optimizer: leave it out"),
        ({"gradient_clipping": 0.5}, 'gradient_clipping: must be "auto"'),
        ({"gradient_clipping": None}, 'gradient_clipping: must be "auto"'),
        ({"zero_optimization": {"stage": 1}}, "ZeRO stage 1"),
        ({"zero_optimization": []}, "must be an object, and so zero_optimization"),
    ],
)
def test_a_file_of_deepspeeds_own_is_read(
    more: dict[str, object], reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in divided_by_deepspeed(tmp_path).items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "deepspeed.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    if reason is None:
        assert sharding.asked_for() is not None
        return
    with pytest.raises(ConfigError, match=reason):
        sharding.asked_for()


def test_without_deepspeed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gram.training.zero3.find_spec", lambda name: None)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match=r"gram-rm\[deepspeed\]"):
        sharding.asked_for()


@pytest.mark.parametrize("name", ["ddp", "qlora"])
def test_the_others_do_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ACCELERATE_USE_FSDP" not in environment(name, monkeypatch)


def test_what_would_break_a_divided_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCELERATE_USE_FSDP", "true"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="fsdp_version: 2"):
        sharding.asked_for()
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "True")
    with pytest.raises(ConfigError, match="fsdp_cpu_ram_efficient_loading: false"):
        sharding.asked_for()
