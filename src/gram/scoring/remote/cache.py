"""Answers of servers in one file, by what was asked: SQLite, which several processes may share.

Knows keys and JSON; knows no server.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from gram.errors import ConfigError, OutputError
from gram.paths import at_home

_MARK = 0x6772616D  # "gram", as SQLite's application id
_PATIENCE = 60.0  # seconds to wait for another process


class AnswerFile:
    """Answers kept on disk. An answer is there as soon as ``keep`` returns.

    Raises:
        ConfigError: the file is something else, or cannot be written.

    Example:
        >>> answers = AnswerFile("answers.sqlite")
        >>> answers.find("http://host/v1/x", {"prompt": "2 + 2?"}) is None
        True
        >>> answers.keep("http://host/v1/x", {"prompt": "2 + 2?"}, {"text": "4"})
        >>> AnswerFile("answers.sqlite").find("http://host/v1/x", {"prompt": "2 + 2?"})
        {'text': '4'}
    """

    def __init__(self, path: str | Path) -> None:
        self._path = at_home(path)
        self._connection = self._opened()

    def find(self, url: str, body: Any) -> Any:
        """The answer to ``body`` at ``url``, or None.

        Raises:
            ConfigError: the file is damaged.
        """
        asked = "SELECT answer FROM answers WHERE asked = ?"
        try:
            found = self._connection.execute(asked, (_key(url, body),)).fetchone()
            return None if found is None else json.loads(found[0])
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise ConfigError(f"{self._path}: the answers kept in it cannot be read: {error}") from None

    def keep(self, url: str, body: Any, answer: Any) -> None:
        """Keep an answer; one that another process has kept meanwhile is replaced.

        Raises:
            OutputError: the disk is full, or the file cannot be written any more.
        """
        values = (_key(url, body), json.dumps(answer, separators=(",", ":")))
        try:
            with self._connection:
                self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", values)
        except sqlite3.Error as error:
            raise OutputError(f"{self._path}: an answer cannot be kept: {error}") from None

    def _opened(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, timeout=_PATIENCE, check_same_thread=False)
            mark = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if mark != _MARK and tables:
                raise ConfigError(f"{self._path}: is a database of something else; name another file")
            connection.execute(f"PRAGMA application_id = {_MARK}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS answers (asked TEXT PRIMARY KEY, answer TEXT)")
            connection.commit()
        except sqlite3.Error as error:
            raise ConfigError(f"{self._path}: cannot be used to keep answers: {error}") from None
        return connection


def _key(url: str, body: Any) -> str:
    return hashlib.sha256(json.dumps([url, body], sort_keys=True).encode()).hexdigest()
