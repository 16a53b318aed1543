"""Faults and hooks that a test orders for requests to come. Each is a plain value, applied by the server.

Example::

    hub.order(Status(429, retry_after=1), "GET", "/resolve/", times=2)
    hub.order(CutReply(after=1000), "GET", "^/cdn/")
    hub.once("POST", "/commit/", lambda: repository.push({"a.txt": b"theirs"}))
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .protocol import Request


@dataclass(frozen=True)
class Status:
    """The request is read and refused; nothing is done."""

    status: int
    retry_after: int | None = None  # seconds, sent as Retry-After


@dataclass(frozen=True)
class CutUpload:
    """The connection goes down after this many bytes of the request's body; nothing is done."""

    after: int


@dataclass(frozen=True)
class CutReply:
    """The request is done, then the connection goes down after this many bytes of the reply's body.

    With ``after=0``, or for a HEAD, not even a status arrives: the client cannot know that its request took effect.
    An orderly close (FIN) and a ``reset`` (RST) are different errors to the client.
    """

    after: int = 0
    reset: bool = False


@dataclass(frozen=True)
class Truncate:
    """A reply that announces and delivers only the first bytes: no error on the wire."""

    to: int


@dataclass(frozen=True)
class Alter:
    """A reply of the right length with one bit changed in the middle."""


Fault = Status | CutUpload | CutReply | Truncate | Alter


@dataclass
class Order:
    """One ordered fault or hook; ``left`` None is for ever."""

    what: Fault | Callable[[], object]
    method: str
    path: re.Pattern[str]
    left: int | None = 1
    fired: int = 0

    def matches(self, method: str, path: str) -> bool:
        return self.left != 0 and self.method == method and self.path.search(path) is not None


@dataclass
class Orders:
    """The orders of one kind, oldest first; a request uses up at most one of them."""

    orders: list[Order] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: Fault | Callable[[], object], method: str, path: str, times: int | None) -> None:
        with self.lock:
            self.orders.append(Order(what, method, re.compile(path), times))

    def take(self, method: str, path: str) -> Fault | Callable[[], object] | None:
        with self.lock:
            for order in self.orders:
                if order.matches(method, path):
                    order.fired += 1
                    order.left = None if order.left is None else order.left - 1
                    return order.what
        return None

    def unused(self) -> list[str]:
        """Orders that no request has met, or not as often as ordered: what the test meant has not happened."""
        return [
            f"{order.what} for {order.method} {order.path.pattern}: {order.fired} times"
            for order in self.orders
            if order.left or not order.fired
        ]


@dataclass(frozen=True)
class Access:
    """One line of the access log. ``token`` is a name, None without a token, ``"unknown"`` for one never issued.

    ``status`` is None where the connection was cut before one was sent.
    """

    method: str
    path: str
    status: int | None
    token: str | None
    range: str | None
    fault: Fault | None

    @classmethod
    def of(cls, request: Request, status: int | None, token: str | None, fault: Fault | None) -> Access:
        return cls(request.method, request.path, status, token, request.headers.get("Range"), fault)
