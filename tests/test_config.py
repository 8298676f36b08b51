"""Options from YAML files and flags: strict names and types, flags win, and what ``TrainConfig`` refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

import pytest
import yaml

from gram.claims import refuse_overlap
from gram.cli.main import COMMANDS
from gram.config_file import read_config, read_values
from gram.described import described
from gram.errors import ConfigError
from gram.flags import config_path, parse
from gram.modeling.shipped import model_folder
from gram.training.config import TrainConfig, load_config
from gram.training.folder import reads_of

MakeFile = Callable[[str], Path]

REQUIRED = "model: preset:tiny\ndata: [rows.jsonl]\noutput: runs/x\n"


@dataclass(frozen=True)
class Everything:
    """One option of every kind."""

    name: str
    """A string."""
    where: Path
    """A path."""
    many: list[str] = field(default_factory=list)
    """A list."""
    count: int = 1
    """A whole number."""
    limit: int | None = 500
    """A whole number or nothing."""
    rate: float = 0.5
    """A number."""
    on: bool = False
    """A switch."""
    colour: Literal["red", "green"] = "red"
    """A choice."""
    source: str | Path | None = None
    """A name or a path."""
    shade: Literal["light", "dark"] | None = None
    """A choice or nothing."""


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    def make(text: str) -> Path:
        path = tmp_path / "some.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


# --- One option ---


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("name: abc", "abc"),
        ("name: '12'", "12"),
        ("where: a/b", Path("a/b")),
        ("source: a/b", "a/b"),
        ("source: null", None),
        ("many: [a, b]", ["a", "b"]),
        ("many: []", []),
        ("count: 3", 3),
        ("count: -3", -3),
        ("limit: null", None),
        ("limit: 7", 7),
        ("rate: 0.25", 0.25),
        ("rate: 2", 2.0),
        ("rate: 1.0e-3", 1e-3),
        ("rate: 1e-3", 1e-3),  # a string to YAML 1.1, which wants the dot
        ("rate: 5E-5", 5e-5),
        ("on: true", True),
        ("colour: green", "green"),
        ("shade: dark", "dark"),
        ("shade: null", None),
    ],
)
def test_a_value_is_converted(line: str, value: object, make_file: MakeFile) -> None:
    name = line.partition(":")[0]
    found = read_values(Everything, make_file(line.replace("on: true", "'on': true")))
    assert found == {name: value}
    assert type(found[name]) is type(value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("name: 12", "must be str, got 12"),
        ("name: null", "must be str, got None"),
        ("name: [a]", "must be str"),
        ("name: yes", "must be str, got True"),
        ("where: 3", "must be Path, got 3"),
        ("where: ''", "is empty: leave it out, or name one"),
        ("source: 3", "must be str, got 3"),
        ("many: a", "must be a list, got 'a'"),
        ("many: [a, 1]", "must be str, got 1"),
        ("many: null", "must be a list, got None"),
        ("count: 3.0", "must be int, got 3.0"),
        ("count: '3'", "must be int, got '3'"),
        ("count: true", "must be int, got True"),
        ("count: null", "must be int, got None"),
        ("limit: many", "must be int, got 'many'"),
        ("rate: fast", "must be float, got 'fast'"),
        ("rate: true", "must be float, got True"),
        ("rate: null", "must be float, got None"),
        ("'on': 1", "must be bool, got 1"),
        ("'on': 'true'", "must be bool, got 'true'"),
        ("colour: blue", "'blue' is not one of red, green"),
        ("colour: [red]", "is not one of red, green"),
        ("shade: none", "'none' is not one of light, dark"),
        ("size: 3", "unknown option 'size'; there are: name, where, many, count,"),
        ("3: 3", "unknown option '3'"),
    ],
)
def test_a_wrong_value_names_file_and_option(line: str, reason: str, make_file: MakeFile) -> None:
    path = make_file(line)
    with pytest.raises(ConfigError) as caught:
        read_values(Everything, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert line.partition(":")[0] in str(caught.value)
    assert reason in str(caught.value)


def test_dashes_and_underscores_are_the_same(make_file: MakeFile) -> None:
    path = make_file(REQUIRED + "batch-size: 3\nmax_steps: 4\n")
    assert read_values(TrainConfig, path)["batch_size"] == 3
    assert load_config(path).max_steps == 4


# --- A whole file ---


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "not YAML"),
        ("- a\n- b", "must map option names"),
        ("a", "must map"),
        ("a: " + "[" * 5_000 + "]" * 5_000, "not YAML"),
        ("a: " + "9" * 5_000, "not YAML"),
    ],
)
def test_a_file_that_is_no_mapping(text: str, reason: str, make_file: MakeFile) -> None:
    path = make_file(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_values(Everything, path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="not YAML"):
        read_values(Everything, tmp_path / "x.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such configuration file"):
        read_values(Everything, tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "null", "~", "false", "0", "{}"])
def test_an_empty_file_gives_nothing(text: str, make_file: MakeFile) -> None:
    assert read_values(Everything, make_file(text)) == {}


@pytest.mark.parametrize(
    "text",
    ["count: 1\ncount: 2\n", "name: a\nnumber: 1\ncount: 2\n", "columns: {ignore: a, ignore: b}\n"],
)
def test_what_stands_twice_is_refused(text: str, make_file: MakeFile) -> None:
    """At any depth, and under an old name beside the new one: nobody knows which of the two was meant."""
    with pytest.raises(ConfigError, match=r"option '(count|ignore)' stands there 2 times"):
        read_values(Everything, make_file(text), {"number": "count"})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_can_stand_in_a_file(command: str, make_file: MakeFile) -> None:
    """Text where text may stand, else the first of what may."""
    kind = import_module(f"gram.cli.{command}").Config
    for option in described(kind):
        name = option.name.replace("-", "_")
        plain = {"INTEGER": 1, "NUMBER": 1, "": True}.get(option.value, "x")
        word = option.choices[0] if option.choices else plain
        path = make_file(yaml.safe_dump({name: [word] if option.several else word}))
        assert list(read_values(kind, path)) == [name]


def test_missing_required_options_are_named(make_file: MakeFile) -> None:
    path = make_file("count: 2")
    with pytest.raises(ConfigError, match="missing options: name, where"):
        read_config(Everything, path)
    assert read_config(Everything, make_file("name: a\nwhere: b")) == Everything("a", Path("b"))


# --- Flags over a file ---


def both(make_file: MakeFile, text: str, *flags: str) -> Any:
    return parse(Everything, ["--config", str(make_file(text)), *flags], "some")


def test_every_option_comes_through_a_file_as_through_flags(make_file: MakeFile) -> None:
    text = (
        "name: a\nwhere: b\nmany: [c, d]\ncount: -2\nlimit: null\nrate: -1e-3\n'on': true\n"
        "colour: green\nshade: dark\n"
    )
    wanted = Everything("a", Path("b"), ["c", "d"], -2, None, -1e-3, True, colour="green", shade="dark")
    assert both(make_file, text) == read_config(Everything, make_file(text)) == wanted


def test_flags_win(make_file: MakeFile) -> None:
    text = "name: a\nwhere: b\nmany: [c, d]\ncount: 2\nlimit: null\nrate: 1e-3\n'on': true\nshade: dark\n"
    flags = ["--name", "x", "--many", "y", "--count", "3", "--limit", "9", "--rate", "2", "--no-on"]
    found = both(make_file, text, *flags, "--shade", "None")
    assert found == Everything("x", Path("b"), ["y"], 3, 9, 2.0, False)


def test_an_old_name_is_read_with_a_warning(make_file: MakeFile, capsys: pytest.CaptureFixture[str]) -> None:
    """As a flag, with and without an equals sign, and in a file, where it is named with the file."""
    required, renamed = ["--name", "a", "--where", "b"], {"number": "count"}
    assert parse(Everything, [*required, "--number", "7"], "gram some", renamed).count == 7
    assert parse(Everything, [*required, "--number=8"], "gram some", renamed).count == 8
    told = capsys.readouterr().err
    assert told.count("gram some: --number is now --count; the old name goes with the next release") == 2
    path = make_file("number: 9")
    assert parse(Everything, ["--config", str(path), *required], "gram some", renamed).count == 9
    assert f"{path}: number is now count" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(Everything, [*required, "--number", "7"], "gram some")


@pytest.mark.parametrize("again", [["--many", "d"], ["--many=d"], ["--many", "c"]])
def test_a_list_is_given_once(again: list[str], make_file: MakeFile) -> None:
    """Of ``--many c --many d`` only d would count. A number may still be changed by a later one."""
    text = "name: a\nwhere: b\nmany: [x]\n"
    assert both(make_file, text, "--many", "c", "d").many == ["c", "d"]
    with pytest.raises(ConfigError, match="--many is given 2 times: give all values after one --many"):
        both(make_file, text, "--many", "c", "--count", "1", *again)
    assert both(make_file, text, "--count", "1", "--count", "2").count == 2


@pytest.mark.parametrize("spelled", ["--config {}", "--config={}"])
def test_a_configuration_file_is_given_once(spelled: str, tmp_path: Path) -> None:
    """Of two files only the last was read. Now neither is, so that no file is passed over."""
    paths = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    for path, text in zip(paths, ("name: a\nwhere: b\n", "count: 2\n"), strict=True):
        path.write_text(text)
    flags = ["--config", str(paths[0]), *spelled.format(paths[1]).split(), "--name", "a", "--where", "b"]
    for reader in (lambda: parse(Everything, flags, "gram some"), lambda: config_path(flags)):
        with pytest.raises(ConfigError, match="--config is given 2 times: give one file"):
            reader()


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "report"])
def test_no_command_takes_a_list_in_two_pieces(command: str) -> None:
    """Whatever its lists are called, in either spelling; what ``report`` lists has no flag."""
    kind = import_module(f"gram.cli.{command}").Config
    for name, hint in get_type_hints(kind).items():
        if get_origin(hint) is list:
            with pytest.raises(ConfigError, match="after one --"):
                parse(kind, [f"--{name.replace('_', '-')}", "x", f"--{name}=y"], "some")


def test_config_may_stand_anywhere_and_with_an_equals_sign(make_file: MakeFile) -> None:
    path = make_file("name: a\nwhere: b\ncount: 2\n")
    for arguments in (["--count", "3", "--config", str(path)], [f"--config={path}", "--count=3"]):
        assert parse(Everything, arguments, "some").count == 3


def test_the_home_folder_in_a_path(
    make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file, and behind an equals sign, where no shell expands it; the ~name of nobody stays."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = make_file("name: a\nwhere: ~/x.jsonl\n")
    assert read_config(Everything, file).where == tmp_path / "x.jsonl"
    assert parse(Everything, ["--config=~/some.yaml"], "some").where == tmp_path / "x.jsonl"
    given = ["--name=~/y", "--where=~/z", "--many=a//~"]
    assert parse(Everything, given, "some") == Everything(f"{tmp_path}/y", tmp_path / "z", ["a//~"])
    nobody = make_file("name: a\nwhere: ~nobody-here/x\n")
    assert read_config(Everything, nobody).where == Path("~nobody-here/x")


def test_what_is_read_at_home_is_seen_there(
    make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model, and data that an output would replace, named from a file as the output is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "out").mkdir()
    assert model_folder("~/out") == tmp_path / "out"
    (tmp_path / "out" / "gram-train.json").touch()
    rows = tmp_path / "out" / "rows.jsonl"
    rows.touch()
    config = load_config(
        make_file("model: preset:tiny\ndata: [~/out/rows.jsonl]\noutput: ~/out\noverwrite: true\n")
    )
    with pytest.raises(ConfigError, match=r"holds ~/out/rows\.jsonl, which this run reads"):
        refuse_overlap([], reads_of(config), whole=config.output)
    assert rows.exists()


def test_config_without_a_file() -> None:
    with pytest.raises(ConfigError, match="--config needs a file"):
        parse(Everything, ["--config"], "some")


def test_a_wrong_flag_leaves_with_2(make_file: MakeFile, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--count", "many"], ["--size", "3"], ["--colour", "blue"]):
        with pytest.raises(SystemExit) as caught:
            both(make_file, "name: a\nwhere: b\n", *flags)
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert out == "" and flags[0] in err


# --- TrainConfig ---


def config(**options: Any) -> TrainConfig:
    return TrainConfig(**{"model": "m", "data": ["d"], "output": Path("o")} | options)


def test_the_defaults_are_the_papers_two_stages() -> None:
    assert config(stage="pretrain").objective_name == "language"
    assert config().objective_name == "preference"
    assert config(objective="scalar").objective_name == "scalar"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"data": []}, "data: give at least one source"),
        (
            {"stage": "pretrain", "objective": "preference"},
            "'preference' does not belong to stage 'pretrain'",
        ),
        ({"objective": "language"}, "'language' does not belong to stage 'finetune'"),
        ({"freeze": True, "lora": True}, "freeze and lora: choose one"),
        ({"unfreeze_layers": 1}, "unfreeze_layers goes with freeze"),
        ({"unfreeze_layers": 1, "lora": True}, "unfreeze_layers goes with freeze"),
        ({"epochs": 0.0}, "epochs must be a finite number above 0 and at most 1000000"),
        ({"learning_rate": -1e-3}, "learning_rate must be in (0, 1]"),
        ({"learning_rate": math.nan}, "learning_rate must be in (0, 1]"),
        ({"text_regulariser": 1.0}, r"text_regulariser must be in \[0, 1\)"),
        ({"text_regulariser": math.nan}, r"text_regulariser must be in \[0, 1\)"),
        ({"centring": math.nan}, "centring must be a finite number at least 0 and"),
        ({"text_regulariser": 0.1}, "text_regulariser goes with objective scalar"),
        ({"margin": True}, "margin goes with objective scalar"),
        ({"centring": 0.1, "objective": "likelihood"}, "centring goes with objective scalar"),
        (
            {"objective": "scalar", "text_regulariser": 0.1, "freeze": True},
            "text_regulariser changes nothing under a frozen model",
        ),
        ({"vocab_size": 261}, "vocab_size must be at least 262"),
        ({"warmup": 1.0}, "warmup must be in"),
        ({"warmup": -0.1}, "warmup must be in"),
        ({"label_smoothing": 0.5}, "label_smoothing must be in"),
        ({"label_smoothing": -0.1}, "label_smoothing must be in"),
        ({"label_smoothing": math.nan}, "label_smoothing must be in"),
        ({"reference": "other"}, "reference goes with objective likelihood"),
        *(
            ({name: 0}, f"{name} must be at least 1.* got 0")
            for name in (
                "batch_size",
                "token_budget",
                "max_steps",
                "eval_steps",
                "save_steps",
                "log_steps",
                "max_per_source",
                "max_eval_per_source",
                "max_length",
                "pairs_per_prompt",
                "lora_rank",
            )
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason.replace("(", r"\(")):
        config(**options)


def test_every_option_is_documented() -> None:
    """The text below each field is its help; an option without one would be a bare name there."""
    import ast
    import inspect
    import itertools

    [body] = [
        node.body for node in ast.parse(inspect.getsource(TrainConfig)).body if isinstance(node, ast.ClassDef)
    ]
    named = [
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    followed = [
        node.target.id
        for node, after in itertools.pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    ]
    assert named == followed == [item.name for item in fields(TrainConfig)]


def test_a_config_error_in_a_file_says_what_is_wrong(make_file: MakeFile) -> None:
    with pytest.raises(ConfigError, match="freeze and lora: choose one"):
        load_config(make_file(REQUIRED + "freeze: true\nlora: true\n"))


def test_the_settings_of_a_fit_have_the_defaults_of_a_run() -> None:
    """Two classes list them, one for the command and one for a run in memory: they must not drift apart."""
    from dataclasses import fields

    from gram.training.fit import FitSettings

    ours = {item.name: item.default for item in fields(TrainConfig)}
    shared = {item.name: item.default for item in fields(FitSettings) if item.name in ours}
    assert len(shared) == 16
    assert (shared["dtype"], ours["dtype"]) == ("fp32", "auto")  # auto is decided before a fit begins
    for name in shared.keys() - {"device", "dtype", "report_to"}:
        assert shared[name] == ours[name], name
