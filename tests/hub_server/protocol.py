"""What passes between the socket and the routes: a request, a reply, and the error that a route raises."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Token:
    """Who sends a request. ``name`` is what the access log shows in place of the secret."""

    name: str
    user: str
    role: str  # "write" or "read"


@dataclass(frozen=True)
class Request:
    """One request, read to its end. ``path`` is still percent-encoded: a revision may hold an encoded slash."""

    method: str
    path: str
    query: str
    headers: Any  # case-insensitive, as http.client parses them
    body: bytes
    token: Token | None

    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode("utf-8"))

    def values(self, name: str) -> list[str]:
        """Every value of one query parameter."""
        return parse_qs(self.query).get(name, [])

    def flag(self, name: str) -> bool:
        return self.values(name) in (["true"], ["True"], ["1"])


@dataclass
class Reply:
    """One reply. Without a ``Content-Length`` of its own it announces the length of ``body``."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Reply:
        return cls(status, json.dumps(value).encode("utf-8"), {"Content-Type": "application/json; charset=utf-8"})


class HubError(Exception):
    """A refusal in the Hub's own form: the client picks its exception by ``X-Error-Code``, then by the status.

    Args:
        status: HTTP status.
        message: sent in the body and in ``X-Error-Message``.
        code: ``RepoNotFound``, ``RevisionNotFound``, ``EntryNotFound`` or ``GatedRepo``.
        headers: further headers, such as the commit in which an entry is missing.
        body: further keys of the JSON body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code or ''} {message}")
        self.status, self.message, self.code = status, message, code
        self.headers, self.body = headers or {}, body or {}

    def reply(self) -> Reply:
        reply = Reply.json({"error": self.message, **self.body}, self.status)
        # A header holds one line of Latin-1; the body has the message as it is.
        line = " ".join(self.message.split()).encode("latin-1", "replace").decode("latin-1")
        reply.headers |= {"X-Error-Message": line, **self.headers}
        if self.code:
            reply.headers["X-Error-Code"] = self.code
        return reply


def content_reply(request: Request, content: bytes, headers: dict[str, str]) -> Reply:
    """``content`` whole, or the part that the ``Range`` header asks for (206).

    Raises:
        HubError: 416, the part begins behind the end.
    """
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    wanted = RANGE.fullmatch(request.headers.get("Range", ""))
    if wanted is None:
        return Reply(200, content, headers)
    start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
    if start >= len(content):
        raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{len(content)}"})
    part = content[start : end + 1]
    headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
    return Reply(206, part, headers)
