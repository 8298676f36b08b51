"""All endpoints on one page, from the OpenAPI: what each does, and a command that asks it.

FastAPI's own pages load their scripts from another machine, and are empty without a network. Knows OpenAPI;
knows no endpoint.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE = "body {font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em} "
_STYLE += "pre {background: #F1F3F4; color: #202124; padding: 0.7em; white-space: pre-wrap}"


def reference_routes() -> APIRouter:
    """The page at ``/docs``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        page = reference(request.app.openapi(), str(request.base_url).rstrip("/"))
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    return router


def reference(openapi: Mapping[str, Any], url: str) -> str:
    """The page, as HTML.

    Args:
        openapi: what is asked, in which shapes, with examples.
        url: of the server, without a slash at its end.
    """
    title = escape(openapi["info"]["title"])
    parts = [f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"]
    parts += [f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"]
    parts += [f"<p>{escape(openapi['info']['description'])}</p>"]
    parts += [
        "<p>Shapes and limits of every field: <a href='/openapi.json'>openapi.json</a>. A server with a "
        "token wants <code>-H 'Authorization: Bearer TOKEN'</code> too.</p>"
    ]
    for path, method, operation in _operations(openapi):
        parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
        parts.append(f"<p>{escape(operation['description'])}</p>")
        parts.append(f"<pre>{escape(_command(url + path, example_of(openapi, operation)))}</pre>")
    return "\n".join([*parts, "</body></html>"])


def _operations(openapi: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def example_of(openapi: Mapping[str, Any], operation: Mapping[str, Any]) -> Any:
    """The example of a request's body; None where it has none."""
    if "requestBody" not in operation:
        return None
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema["example"] if "example" in schema else schema["examples"][0]


def _command(url: str, example: Any) -> str:
    if example is None:
        return f"curl -s {shlex.quote(url)}"
    body = shlex.quote(json.dumps(example, indent=1, ensure_ascii=False))
    return f"curl -s {shlex.quote(url)} -H 'Content-Type: application/json' -d {body}"
