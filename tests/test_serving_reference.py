"""The page of all endpoints: a command for each that asks it, and nothing from another machine."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from pathlib import Path

import gram
from served import Here, serving

from gram.serving.reference import example_of  # isort: skip - needs what served.py skips without


def test_the_endpoints_are_listed_offline(judge_folder: Path) -> None:
    """Each with a command that can be copied; no script, and no address on the page but the server's."""
    with serving(Here(gram.load(judge_folder))) as served:
        _, openapi = served.get("/openapi.json")
        status, html = served.get("/docs")
        assert status == 200 and len(openapi["paths"]) > 15
        for path, methods in openapi["paths"].items():
            for method, operation in methods.items():
                section = html.split(f"{method.upper()} {path}<")[1]
                command = unescape(section.split("<pre>")[1].split("</pre>")[0])
                url, *body = shlex.split(command)[2:]
                assert url == served.url + path
                assert example_of(openapi, operation) == (json.loads(body[-1]) if body else None)
        assert set(re.findall(r"https?://[^/]+", html)) == {served.url}
        assert "<script" not in html
        assert served.get("/redoc")[0] == 404
