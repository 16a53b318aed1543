"""Which route answers which request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from . import api, files, xet
from .protocol import HubError, Reply, Request

if TYPE_CHECKING:
    from .server import HubServer

API = r"/api/(?P<kind>model|space)s/(?P<name>[^/]+/[^/]+)"
PAGE = r"/(?:(?P<kind>space)s/)?(?P<name>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"  # a slash of its own comes percent-encoded
DIGEST = r"(?P<digest>[0-9a-f]{64})"

ROUTES = [
    ("GET", "/api/whoami-v2", api.whoami),
    ("POST", "/api/validate-yaml", api.validate_yaml),
    ("POST", "/api/repos/create", api.create),
    ("GET", f"{API}", api.info),
    ("GET", f"{API}/revision/{REVISION}", api.info),
    ("GET", f"{API}/auth-check(?P<write>/write)?", api.auth_check),
    ("GET", f"{API}/refs", api.refs),
    ("GET", f"{API}/commits/{REVISION}", api.commits),
    ("POST", f"{API}/branch/(?P<branch>[^/]+)", api.create_branch),
    ("POST", f"{API}/tag/{REVISION}", api.create_tag),
    ("GET", f"{API}/tree/{REVISION}", api.tree),
    ("GET", f"{API}/tree/{REVISION}/(?P<path>.+)", api.tree),
    ("POST", f"{API}/paths-info/{REVISION}", api.paths_info),
    ("POST", f"{API}/preupload/{REVISION}", api.preupload),
    ("POST", f"{API}/commit/{REVISION}", api.commit),
    ("GET", f"{API}/xet-(?P<role>read|write)-token/{REVISION}", xet.token),
    ("POST", f"{PAGE}\\.git/info/lfs/objects/batch", files.lfs_batch),
    ("POST", f"{PAGE}\\.git/info/lfs/verify", files.lfs_verify),
    ("PUT", f"/lfs/{DIGEST}", files.lfs_upload),
    ("GET", f"/cdn/{DIGEST}", files.cdn),
    ("GET", f"{PAGE}/resolve/{REVISION}/(?P<path>.+)", files.resolve),
]
TABLE = [(method, re.compile(pattern), answer) for method, pattern, answer in ROUTES]


def dispatch(hub: HubServer, request: Request) -> Reply:
    """Answer ``request``. A HEAD is answered as the GET that it asks about.

    Raises:
        HubError: the route refuses, or there is none (404 without a code).
    """
    method = "GET" if request.method == "HEAD" else request.method
    for known, pattern, answer in TABLE:
        found = pattern.fullmatch(request.path) if known == method else None
        if found is not None:
            parts = {name: value and unquote(value) for name, value in found.groupdict().items()}
            if "kind" in parts:
                parts["kind"] = parts["kind"] or "model"
            return answer(hub, request, **parts)
    raise HubError(404, f"Sorry, we can't find {request.method} {request.path}")
