"""The files of a folder and the splits that their names say, by the rules of ``datasets``.

Knows names of files and folders, and whether a card says which files there are; opens no file of rows. Files
that hold no rows by their names (notes, licences, pictures) count for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from glob import escape, iglob
from pathlib import Path

from gram.data.formats import KINDS, is_file_name, stem_of
from gram.errors import DataError

_NO_ROWS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*")
_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_GAP = "[-._ 0-9]"
_FOLDER = ("{word}/.*", "{word}{gap}[^/]*/.*", "[^/]*{gap}{word}/.*", "[^/]*{gap}{word}{gap}[^/]*/.*")
_FILE = ("{word}{gap}[^/]*", "[^/]*{gap}{word}{gap}[^/]*")


def has_card(folder: Path) -> bool:
    """Whether the folder's card (the head of its README.md) lists configurations with their files."""
    if (folder / ".huggingface.yaml").is_file():
        return True
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    head = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    return head is not None and re.search(r"^configs\s*:", head[1], re.MULTILINE) is not None


def files_by_split(folder: Path, split: str | None) -> dict[str, list[Path]]:
    """The files of a folder without a card by their splits, each in the order in which it is read.

    Args:
        split: the split that is to be read. Files that lie in none are an error unless it is chosen by
            its name.

    Raises:
        DataError: no file of rows; files of no split; the same name with two endings.

    Example:
        >>> (folder := Path("pairs")).mkdir()
        >>> _ = [(folder / name).write_text("") for name in ("train.jsonl", "test.csv", "notes.txt")]
        >>> for split, files in files_by_split(folder, None).items():
        ...     print(split, *files)
        train pairs/train.jsonl
        test pairs/test.csv
    """
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in map(Path, iglob(f"{escape(str(folder))}/**", recursive=True))  # noqa: PTH207 (links)
        if path.is_file() and is_file_name(path.name) and path.name not in _NO_ROWS
    )
    names = [name for name in found if not any(part.startswith("__") for part in name.split("/")[:-1])]
    if not names:
        raise DataError(f"not a dataset folder: it holds no file of rows ({KINDS})", file=str(folder))
    splits = _splits(names)
    _check_endings(folder, [splits[split]] if split in splits else splits.values())
    placed = {name for names in splits.values() for name in names}
    if split not in splits and (lone := [name for name in names if name not in placed]):
        reason = (
            f"by their names these files are in no split: {_listed(lone)}; there are: {', '.join(splits)}; "
            f"'{folder}::<split>' leaves them out; rename them, or give them by name, to have them read"
        )
        raise DataError(reason, file=str(folder))
    return {split: [folder / name for name in names] for split, names in splits.items()}


def _splits(names: Sequence[str]) -> dict[str, list[str]]:
    """Names by split: shards, else words in the names of folders, else in those of files, else one split."""
    shards: dict[str, list[str]] = {}
    for name in names:
        if match := _SHARD.fullmatch(name):
            shards.setdefault(match[1], []).append(name)
    if shards:
        order = [*_WORDS, *sorted(shards.keys() - _WORDS.keys())]
        return {split: shards[split] for split in order if split in shards}
    for forms in (_FOLDER, _FILE):
        splits = {split: _with_word(names, words, forms) for split, words in _WORDS.items()}
        if any(splits.values()):
            return {split: found for split, found in splits.items() if found}
    return {"train": list(names)}


def _with_word(names: Sequence[str], words: Sequence[str], forms: Sequence[str]) -> list[str]:
    """The names in which one of ``words`` stands by itself."""
    rules = [re.compile("(?:.*/)?" + form.format(word=word, gap=_GAP)) for word in words for form in forms]
    return list(dict.fromkeys(name for rule in rules for name in names if rule.fullmatch(name)))


def _check_endings(folder: Path, splits: Iterable[Sequence[str]]) -> None:
    """Refuse one name with two endings in a split: the same rows in two formats, as far as anyone knows."""
    for names in splits:
        stems: dict[str, str] = {}
        for name in names:
            if (other := stems.setdefault(stem_of(name), name)) != name:
                reason = f"{other} and {name} seem to hold the same rows twice: keep one, or rename it"
                raise DataError(reason, file=str(folder))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
