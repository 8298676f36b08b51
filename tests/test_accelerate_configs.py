"""The files in ``configs/accelerate`` say to accelerate's own launcher what they say to a reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env

from gram.errors import ConfigError
from gram.training import sharding

FOLDER = Path(__file__).parent.parent / "configs" / "accelerate"
NAMES = ("ddp", "fsdp2", "qlora")


def environment(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What ``accelerate launch --config_file`` sets for every process."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    given = ["--config_file", str(FOLDER / f"{name}.yaml"), "-m", "gram", "train"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(given))
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
    assert sharding.is_asked_for()
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert "SHARDED" in str(plugin.state_dict_type)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not sharding.is_asked_for()


@pytest.mark.parametrize("name", ["ddp", "qlora"])
def test_the_others_do_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ACCELERATE_USE_FSDP" not in environment(name, monkeypatch)


def test_what_would_break_a_divided_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setenv("ACCELERATE_USE_DEEPSPEED", "true")
        with pytest.raises(ConfigError, match="DeepSpeed cannot train"):
            sharding.is_asked_for()
    for name, value in (("ACCELERATE_USE_FSDP", "true"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="fsdp_version: 2"):
        sharding.is_asked_for()
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "True")
    with pytest.raises(ConfigError, match="fsdp_cpu_ram_efficient_loading: false"):
        sharding.is_asked_for()
