"""The routes that carry bytes: resolve, the storage host's downloads, and Git LFS uploads.

The storage host is a second name of the same server. To the client it is a foreign host, as the real CDN is: it stops
following redirects there and leaves its token behind. A signature in the address stands in for the token.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import quote

from . import xet
from .protocol import HubError, Reply, Request, content_reply

if TYPE_CHECKING:
    from .server import HubServer

LFS_JSON = "application/vnd.git-lfs+json"


def resolve(hub: HubServer, request: Request, kind: str, name: str, revision: str, path: str) -> Reply:
    repository = hub.readable(request, kind, name)
    hub.check_gate(request, repository)
    commit = repository.resolve(revision)
    headers = {"X-Repo-Commit": commit.oid}
    blob = commit.files.get(path)
    if blob is None:
        raise HubError(404, "Entry not found", "EntryNotFound", headers=headers)
    if not blob.large:
        return content_reply(request, blob.content, {**headers, "ETag": f'"{blob.etag}"'})
    hub.objects.setdefault(blob.sha256, blob.content)  # a push from elsewhere did not upload it
    headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(blob.size)}
    if blob.sha256 in hub.xet_files:
        refresh = f"{hub.url}/api/{kind}s/{name}/xet-read-token/{commit.oid}"
        headers |= {"X-Xet-Hash": hub.xet_files[blob.sha256][0], "Link": f'<{refresh}>; rel="xet-auth"'}
    headers["Location"] = f"{hub.signed('GET', f'/cdn/{blob.sha256}')}&filename={quote(path.split('/')[-1])}"
    return Reply(302, b"Found", headers)


def cdn(hub: HubServer, request: Request, digest: str) -> Reply:
    _check_signature(hub, request)
    return content_reply(request, hub.objects[digest], {"ETag": f'"{digest}"'})


def large_file(hub: HubServer, digest: str) -> bytes | None:
    """What was uploaded as ``digest``, through LFS or Xet, if it came whole."""
    if digest not in hub.objects and (content := xet.fetch(hub, digest)) is not None:
        hub.objects[digest] = content
    content = hub.objects.get(digest)
    return content if content is not None and hashlib.sha256(content).hexdigest() == digest else None


def lfs_batch(hub: HubServer, request: Request, kind: str, name: str) -> Reply:
    repository = hub.writable(request, kind, name)
    objects = []
    for wanted in request.json()["objects"]:
        oid = wanted["oid"]
        answer = {"oid": oid, "size": wanted["size"], "authenticated": True}
        if large_file(hub, oid) is None:
            verify = f"{hub.page(kind, repository.name)}.git/info/lfs/verify"
            answer["actions"] = {"upload": {"href": hub.signed("PUT", f"/lfs/{oid}")}, "verify": {"href": verify}}
        objects.append(answer)
    return _lfs({"transfer": "basic", "hash_algo": "sha256", "objects": objects})


def lfs_upload(hub: HubServer, request: Request, digest: str) -> Reply:
    """As a bucket does, take whatever comes; whether it is what was announced is seen by verify and by commit."""
    _check_signature(hub, request)
    hub.objects[digest] = request.body
    return Reply(200, b"", {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def lfs_verify(hub: HubServer, request: Request, kind: str, name: str) -> Reply:
    hub.writable(request, kind, name)
    wanted = request.json()
    content = large_file(hub, wanted["oid"])
    if content is None or len(content) != wanted["size"]:
        raise HubError(400, f"The uploaded object is not {wanted['oid']} of {wanted['size']} bytes")
    return _lfs({})


def _lfs(value: dict) -> Reply:
    reply = Reply.json(value)
    reply.headers["Content-Type"] = LFS_JSON
    return reply


def _check_signature(hub: HubServer, request: Request) -> None:
    expected = hub.signature(request.method, request.path)
    if not any(hmac.compare_digest(expected, given) for given in request.values("signature")):
        raise HubError(403, "The request signature does not match")
