"""The folder of a bulk run: a manifest, and a file for each finished shard.

A shard file appears whole, once all its rows have an answer; a run that was killed goes on with the shards
that are missing. The manifest says which run the folder belongs to, and at the end what is in it. Knows files
and numbers of rows; knows no model and no other process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gram.claims import refuse_full
from gram.errors import ConfigError, DataError
from gram.files import atomic_write, finite, unique_keys

MANIFEST = "manifest.json"
_FORMAT = 1

Row = Mapping[str, Any]


class BulkFolder:
    """The output of one bulk run; its lock is held by the caller.

    Args:
        folder: exists.
        header: all that the scores depend on, see ``Journal``.
        shards: places, from 0, of the rows of each shard. On the disk rows are counted from 1.

    Raises:
        ConfigError: the folder holds something else, or a run with another header.
        DataError: a shard or the manifest does not hold what it should.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], shards: Sequence[Sequence[int]]) -> None:
        self._folder = folder
        self._header = json.loads(json.dumps(finite(dict(header)), default=str))
        self._shards = shards
        if self._is_begun():
            self.done = frozenset(number for number in range(len(shards)) if self._is_there(number))
        else:
            self.done: frozenset[int] = frozenset()
            self._write_manifest(complete=False)

    def write(self, number: int, scored: Mapping[int, Row], failed: Mapping[int, Row]) -> None:
        """A finished shard: by place of the input row, its output row, or why it has none."""
        assert scored.keys() | failed.keys() == set(self._shards[number])
        if failed:  # first: a shard file says that all of its shard is there
            self._write_rows(_rejects_name(number), failed)
        else:  # of an earlier try, whose shard file is gone
            (self._folder / _rejects_name(number)).unlink(missing_ok=True)
        self._write_rows(_name(number), scored)

    def finish(self) -> dict[str, int]:
        """Write the manifest of the whole run; returns how many rows were scored and how many failed."""
        return self._write_manifest(complete=True)

    def _is_begun(self) -> bool:
        path = self._folder / MANIFEST
        if not path.exists():
            refuse_full(self._folder)
            return False
        try:
            content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
            known = content["format"], content["header"], content["rows"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"is no manifest of gram: {error}", file=str(path)) from None
        if known != (_FORMAT, self._header, sum(map(len, self._shards))):
            raise ConfigError(
                f"output {self._folder}: holds a run with another model, input, options or version of gram; "
                "name a new folder"
            )
        return True

    def _is_there(self, number: int) -> bool:
        path = self._folder / _name(number)
        if not path.exists():
            return False
        rows = [row for file in (path, self._folder / _rejects_name(number)) for row in _rows_in(file)]
        if sorted(rows) != sorted(place + 1 for place in self._shards[number]):
            raise DataError(
                "does not hold the rows of its shard, each once; remove it to have them scored again",
                file=str(path),
            )
        return True

    def _write_rows(self, name: str, rows: Mapping[int, Row]) -> None:
        with atomic_write(self._folder / name) as file:
            for place in sorted(rows):
                line = finite({"row": place + 1, **rows[place]})
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _write_manifest(self, *, complete: bool) -> dict[str, int]:
        entries = [self._entry(number) for number in range(len(self._shards))] if complete else []
        content = {
            "format": _FORMAT,
            "complete": complete,
            "rows": sum(map(len, self._shards)),
            "scored": sum(entry["rows"] for entry in entries),
            "rejected": sum(entry["rejected"] for entry in entries),
            "header": self._header,
            "shards": entries,
        }
        with atomic_write(self._folder / MANIFEST) as file:
            file.write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        return {"rows": content["scored"], "rejected": content["rejected"]}

    def _entry(self, number: int) -> dict[str, Any]:
        content = (self._folder / _name(number)).read_bytes()
        rows = content.count(b"\n")
        return {
            "file": _name(number),
            "rows": rows,
            "rejected": len(self._shards[number]) - rows,
            "sha256": hashlib.sha256(content).hexdigest(),
        }


def _name(number: int) -> str:
    return f"shard-{number:05d}.jsonl"


def _rejects_name(number: int) -> str:
    return f"shard-{number:05d}.rejects.jsonl"


def _rows_in(path: Path) -> list[int]:
    if not path.exists():
        return []
    try:
        # Bytes, not text: splitlines of a text also splits at U+2028 and the like, which an id may contain.
        return [int(json.loads(line)["row"]) for line in path.read_bytes().splitlines()]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"is no shard of gram: {error}", file=str(path)) from None
