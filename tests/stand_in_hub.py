"""A stand-in for the Hugging Face Hub's API, for huggingface_hub itself: repositories in memory, over HTTP.

It makes repositories, validates cards, takes small files in a commit and large ones by git's LFS protocol,
and gives all of them back. It refuses what the Hub refuses: no token, a name that is taken, a wrong card.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_test"


class Hub:
    """What was sent: repositories by name, each a mapping of file names to their bytes."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.commits: list[dict[str, Any]] = []
        self.large: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def hub_at_work() -> Iterator[Hub]:
    """A hub that answers at ``hub.url`` during the block."""
    hub = Hub()

    class Handler(_Handler):
        of = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    of: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        self.of.asked.append(f"{self.command} {urlsplit(self.path).path}")

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": _faults(json.loads(body)["content"]), "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{self.of.url}/lfs/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            return self._answer(200, {"transfer": "basic", "objects": objects})
        _, _, _, owner, name, action, _ = path.split("/", 6)
        if f"{owner}/{name}" not in self.of.repositories:
            return self._answer(404, {"error": "Repository not found"})
        if action == "preupload":
            files = [
                {
                    "path": item["path"],
                    "uploadMode": "lfs" if item["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for item in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        return self._commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])

    def do_PUT(self) -> None:
        content, oid = self._body(), self.path.removeprefix("/lfs/")
        if hashlib.sha256(content).hexdigest() != oid:
            return self._answer(400, {"error": "another content"})
        self.of.large[oid] = content
        return self._answer(200, {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.of.repositories.get(name)
        if files is None:
            return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        sha = f"{len(self.of.commits):040x}"
        if parts[0] == "api" and "tree" in parts:
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self._answer(200, listed)
        if parts[0] == "api":
            siblings = [{"rfilename": path} for path in files]
            return self._answer(200, {"id": name, "sha": sha, "siblings": siblings, "private": False})
        content = files.get("/".join(parts[4:]))
        if content is None:
            missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
            return self._answer(404, {"error": "Entry not found"}, missing)
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": sha}
        return self._answer(200, content, headers)

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.of.repositories:
            self._answer(
                409, {"error": "You already created this model repo", "url": f"{self.of.url}/{name}"}
            )
            return
        self.of.repositories[name] = {}
        if wanted.get("visibility") == "private" or wanted.get("private"):
            self.of.private.add(name)
        self._answer(200, {"url": f"{self.of.url}/{name}"})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files: dict[str, bytes] = {}
        for line in lines[1:]:
            value = line["value"]
            whole = line["key"] == "file"
            files[value["path"]] = (
                base64.b64decode(value["content"]) if whole else self.of.large[value["oid"]]
            )
        self.of.repositories[name] |= files
        self.of.commits.append({"repository": name, "summary": lines[0]["value"]["summary"], "files": files})
        oid = f"{len(self.of.commits):040x}"
        self._answer(200, {"commitUrl": f"{self.of.url}/{name}/commit/{oid}", "commitOid": oid})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _faults(card: str) -> list[dict[str, str]]:
    """What the Hub would say against a card's metadata: here the form of ``model-index``, by its own page."""
    try:
        data = yaml.safe_load(card.split("---\n")[1])
        for model in data.get("model-index", []):
            assert isinstance(model["name"], str)
            for result in model["results"]:
                assert isinstance(result["task"]["type"], str)
                assert isinstance(result["dataset"]["name"], str) and isinstance(
                    result["dataset"]["type"], str
                )
                for metric in result["metrics"]:
                    assert isinstance(metric["type"], str) and isinstance(metric["value"], int | float)
    except (yaml.YAMLError, KeyError, TypeError, AssertionError, IndexError) as error:
        return [{"message": f"Invalid metadata: {error!r}"}]
    return []
