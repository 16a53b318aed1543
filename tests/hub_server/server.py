"""A Hugging Face Hub on loopback: the protocol of huggingface_hub on a socket, with faults that a test orders."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import socket
import struct
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import client
from .faults import Access, Alter, CutReply, CutUpload, Fault, Orders, Status, Truncate
from .protocol import HubError, Reply, Request, Token
from .routes import dispatch
from .storage import Repository


class HubServer:
    """A Hub with nothing in it, reachable from :meth:`start` to :meth:`stop`.

    Three tokens are issued. ``write_token`` and ``read_token`` belong to the user ``owner``, ``stranger_token`` (which
    may write) to ``stranger``. The access log calls them write, read and stranger.

    Attributes:
        url: where the Hub is, for ``HF_ENDPOINT`` and ``HfApi(endpoint=...)``.
        repositories: by ``(kind, "owner/name")``; see :meth:`repository`.
        objects: LFS objects by SHA-256, the announced one: what lies there may be something else.
        xet_folder: large files of clients that use Xet, and in ``xet_files`` their Xet hashes; see xet.py.
        log: the access log.
        errors: tracebacks of routes and hooks that failed. A client saw a 500; the test should fail.
    """

    def __init__(self) -> None:
        self.write_token, self.read_token, self.stranger_token = (f"hf_{secrets.token_hex(17)}" for _ in range(3))
        self.tokens = {
            self.write_token: Token("write", "owner", "write"),
            self.read_token: Token("read", "owner", "read"),
            self.stranger_token: Token("stranger", "stranger", "write"),
        }
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.xet_folder = tempfile.TemporaryDirectory(prefix="hub_xet_")
        self.xet_files: dict[str, tuple[str, int]] = {}
        self.log: list[Access] = []
        self.errors: list[str] = []
        self.lock = threading.Lock()
        self.faults, self.hooks = Orders(), Orders()
        self._key = secrets.token_bytes(16)
        self._sockets = Sockets(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self._thread = threading.Thread(
            target=self._sockets.serve_forever, kwargs={"poll_interval": 0.02}, name="hub server"
        )
        port = self._sockets.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.storage_url = f"http://localhost:{port}"  # another host to the client, see files.py

    def start(self) -> HubServer:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Refuse connections, cut the open ones and wait for every thread. May be called again."""
        if self._thread.is_alive():
            self._sockets.shutdown()
            self._sockets.cut_all()
            self._sockets.server_close()
            self._thread.join()
            self.xet_folder.cleanup()

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Stop, and raise unless something else has: the server failed, or something ordered was never met."""
        self.stop()
        if failure is None:
            assert not self.errors, "\n".join(self.errors)
            assert not self.unused(), f"never met: {self.unused()}"

    # What a test orders and looks at

    def order(self, fault: Fault, method: str, path: str, times: int | None = 1) -> None:
        """Meet the next ``times`` requests (None: all) with ``method`` and a path in which the regex ``path`` is found
        with ``fault``."""
        self.faults.add(fault, method, path, times)

    def once(self, method: str, path: str, hook: Callable[[], object]) -> None:
        """Call ``hook`` when the next such request has arrived, before anything is done about it."""
        self.hooks.add(hook, method, path, 1)

    def unused(self) -> list[str]:
        """Ordered faults and hooks that nothing has met."""
        return self.faults.unused() + self.hooks.unused()

    def requests(self, method: str, path: str = "") -> list[Access]:
        """The log's lines with ``method`` and a path in which the regex ``path`` is found."""
        return [each for each in self.log if each.method == method and re.search(path, each.path)]

    def repository(self, name: str, kind: str = "model") -> Repository:
        return self.repositories[kind, name]

    def add(self, name: str, kind: str = "model", *, private: bool = False, sdk: str | None = None) -> Repository:
        """Create a repository without a request."""
        self.repositories[kind, name] = Repository(name, kind, private=private, sdk=sdk)
        return self.repositories[kind, name]

    def environment(self, home: str | os.PathLike, token: str | None = None) -> dict[str, str]:
        """See :func:`client.environment`: ``subprocess.run(command, env=hub.environment(tmp_path))``."""
        return client.environment(self.url, home, token)

    # What the routes ask

    def page(self, kind: str, name: str) -> str:
        return f"{self.url}/{'spaces/' if kind == 'space' else ''}{name}"

    def signature(self, method: str, path: str) -> str:
        return hmac.new(self._key, f"{method} {path}".encode(), hashlib.sha256).hexdigest()

    def signed(self, method: str, path: str) -> str:
        """An address on the storage host that needs no token."""
        return f"{self.storage_url}{path}?signature={self.signature(method, path)}"

    def readable(self, request: Request, kind: str, name: str) -> Repository:
        """The repository, if whoever asks may know of it.

        Raises:
            HubError: ``RepoNotFound``, 401 without a token and 404 with one, whether it is private or not there.
        """
        repository = self.repositories.get((kind, name))
        user = request.token.user if request.token else None
        if repository is None or (repository.private and user != repository.owner):
            if request.token is None:
                raise HubError(401, "Invalid username or password.", "RepoNotFound")
            raise HubError(404, "Repository not found", "RepoNotFound")
        return repository

    def writable(self, request: Request, kind: str, name: str) -> Repository:
        """The repository, if whoever asks may change it.

        Raises:
            HubError: as :meth:`readable`; 401 without a token; 403 with somebody else's, or with a read token.
        """
        repository = self.readable(request, kind, name)
        if request.token is None:
            # The client reads any 401 about a repository as RepoNotFound, but on https only; here it needs the code.
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        if request.token.user != repository.owner:
            raise HubError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        if request.token.role != "write":
            raise HubError(403, "Authorization error.")
        return repository

    def check_gate(self, request: Request, repository: Repository) -> None:
        """Let the owner and the granted users through a gate.

        Raises:
            HubError: ``GatedRepo``, 401 without a token and 403 with one.
        """
        user = request.token.user if request.token else None
        if not repository.gated or user in {repository.owner, *repository.granted}:
            return
        restricted = f"Access to {repository.kind} {repository.name} is restricted"
        if user is None:
            raise HubError(401, f"{restricted}. You must have access to it and be authenticated.", "GatedRepo")
        raise HubError(403, f"{restricted} and you are not in the authorized list.", "GatedRepo")


class Sockets(ThreadingHTTPServer):
    """Threads that can be joined: the idle connections that clients keep open are cut first."""

    daemon_threads = False
    request_queue_size = 64

    def __init__(self, *arguments) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request, client_address) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        """A client that goes away in the middle is nobody's fault; anything else is ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            self.RequestHandlerClass.hub.errors.append(traceback.format_exc())

    def cut_all(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has just gone


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        fault = self._ordered(path)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(fault.after, length) if isinstance(fault, CutUpload) else length)
        secret = self.headers.get("Authorization", "").removeprefix("Bearer ")
        request = Request(self.command, path, query, self.headers, body, self.hub.tokens.get(secret))
        name = request.token.name if request.token else "unknown" if secret else None
        if isinstance(fault, CutUpload):
            self.hub.log.append(Access.of(request, None, name, fault))
            self._cut(reset=False)
            return
        reply = self._refusal(fault) if isinstance(fault, Status) else self._answer(request, name)
        silent = isinstance(fault, CutReply) and (fault.after == 0 or self.command == "HEAD")
        self.hub.log.append(Access.of(request, None if silent else reply.status, name, fault))
        if silent:
            self._cut(fault.reset)
        else:
            self._send(reply, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _ordered(self, path: str) -> Fault | None:
        hook = self.hub.hooks.take(self.command, path)
        try:
            if hook is not None:
                hook()
        except BaseException:  # a failed assertion of pytest's is no Exception
            self.hub.errors.append(traceback.format_exc())
        return self.hub.faults.take(self.command, path)

    def _refusal(self, fault: Status) -> Reply:
        reply = HubError(fault.status, self.responses[fault.status][0]).reply()
        if fault.retry_after is not None:
            reply.headers["Retry-After"] = str(fault.retry_after)
        return reply

    def _answer(self, request: Request, token_name: str | None) -> Reply:
        try:
            if token_name == "unknown":
                raise HubError(401, "Invalid credentials in Authorization header")
            return dispatch(self.hub, request)
        except HubError as error:
            return error.reply()
        except Exception:
            self.hub.errors.append(traceback.format_exc())
            return HubError(500, "Internal Error").reply()

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        body = reply.body
        if isinstance(fault, Truncate):
            body = body[: fault.to]
        if isinstance(fault, Alter):
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self.send_response(reply.status)
        for key, value in {**reply.headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(fault, CutReply):
            self.wfile.write(body[: fault.after])
            self._cut(fault.reset)
            return
        self.wfile.write(body)

    def _cut(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # With a linger time of zero, closing sends RST. The base class would send FIN before it closes.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments) -> None:
        """Nothing on stderr: the access log is :attr:`HubServer.log`."""
