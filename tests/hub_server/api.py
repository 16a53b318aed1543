"""The routes under ``/api``: who am I, create, look, branch, tag, and the two steps of a commit."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from .card import SDKS, card_data, check_card
from .files import large_file
from .protocol import HubError, Reply, Request
from .storage import Blob, Commit, Repository

if TYPE_CHECKING:
    from .server import HubServer


def whoami(hub: HubServer, request: Request) -> Reply:
    if request.token is None:
        raise HubError(401, "Invalid username or password.")
    token = {"displayName": request.token.name, "role": request.token.role}
    user = {"type": "user", "id": request.token.user, "name": request.token.user, "fullname": request.token.user}
    return Reply.json({**user, "orgs": [], "auth": {"type": "access_token", "accessToken": token}})


def validate_yaml(hub: HubServer, request: Request) -> Reply:
    card = request.json()
    errors, warnings = check_card(card["content"], card["repoType"])
    found = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return Reply.json(found, 400 if errors else 200)


def create(hub: HubServer, request: Request) -> Reply:
    if request.token is None:
        raise HubError(401, "Invalid username or password.")
    wanted = request.json()
    kind, owner = wanted.get("type", "model"), wanted.get("organization") or request.token.user
    if request.token.role != "write" or owner != request.token.user:
        raise HubError(403, f"You don't have the rights to create a {kind} under the namespace {owner!r}")
    if kind == "space" and wanted.get("sdk") not in SDKS:
        raise HubError(400, f'"sdk" must be one of [{", ".join(SDKS)}]')
    name = f"{owner}/{wanted['name']}"
    url = hub.page(kind, name)
    with hub.lock:
        if (kind, name) in hub.repositories:
            raise HubError(409, f"You already created this {kind} repo", body={"url": url})
        added = hub.add(name, kind, private=wanted.get("visibility") == "private", sdk=wanted.get("sdk"))
        if wanted.get("sdk") == "static":  # the real Hub puts a page of its own there
            added.push({"index.html": b"<h1>Welcome to your static Space!</h1>", "style.css": b""})
    return Reply.json({"url": url, "name": name, "id": name})


def info(hub: HubServer, request: Request, kind: str, name: str, revision: str = "main") -> Reply:
    repository = hub.readable(request, kind, name)
    commit = repository.resolve(revision)
    readme = commit.files.get("README.md")
    try:
        data = card_data(readme.content.decode("utf-8")) if readme else {}
    except yaml.YAMLError:
        data = {}
    found = {
        "_id": hashlib.sha1(name.encode()).hexdigest()[:24],
        "id": name,
        "author": repository.owner,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": repository.history(commit.oid)[-1].date,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": data.get("tags", []),
        "cardData": data,
        "siblings": [_sibling(path, blob, request.flag("blobs")) for path, blob in sorted(commit.files.items())],
    }
    if kind == "space":
        found["sdk"] = repository.sdk
    else:
        found |= {"modelId": name, "library_name": data.get("library_name"), "pipeline_tag": data.get("pipeline_tag")}
    if wanted := request.values("expand"):
        found = {key: value for key, value in found.items() if key in ("_id", "id", *wanted)}
    return Reply.json(found)


def _sibling(path: str, blob: Blob, details: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path}
    if details:
        sibling |= {"size": blob.size, "blobId": blob.oid}
        sibling |= {"lfs": blob.lfs("sha256")} if blob.large else {}
    return sibling


def auth_check(hub: HubServer, request: Request, kind: str, name: str, write: str | None) -> Reply:
    if write:
        hub.writable(request, kind, name)
    else:
        hub.check_gate(request, hub.readable(request, kind, name))
    return Reply.json({})


def refs(hub: HubServer, request: Request, kind: str, name: str) -> Reply:
    repository = hub.readable(request, kind, name)
    branches = [
        {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": oid}
        for branch, oid in repository.branches.items()
    ]
    tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid} for tag, oid in repository.tags.items()]
    return Reply.json({"branches": branches, "converts": [], "tags": tags, "pullRequests": []})


def commits(hub: HubServer, request: Request, kind: str, name: str, revision: str) -> Reply:
    history = hub.readable(request, kind, name).history(revision)
    found = [
        {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
        for c in history
    ]
    return Reply.json(found)


def create_branch(hub: HubServer, request: Request, kind: str, name: str, branch: str) -> Reply:
    repository = hub.writable(request, kind, name)
    commit = repository.resolve(request.json().get("startingPoint", "main"))
    _add_ref(repository, repository.branches, branch, commit)
    return Reply.json({})


def create_tag(hub: HubServer, request: Request, kind: str, name: str, revision: str) -> Reply:
    repository = hub.writable(request, kind, name)
    _add_ref(repository, repository.tags, request.json()["tag"], repository.resolve(revision))
    return Reply.json({})


def _add_ref(repository: Repository, references: dict[str, str], name: str, commit: Commit) -> None:
    with repository.lock:
        if name in references:
            raise HubError(409, f"Reference already exists: {name}")
        references[name] = commit.oid


def tree(hub: HubServer, request: Request, kind: str, name: str, revision: str, path: str = "") -> Reply:
    commit = hub.readable(request, kind, name).resolve(revision)
    entries = _entries(commit.files)
    prefix = f"{path}/" if path else ""
    if path and path not in entries:
        raise HubError(404, f"{path} does not exist on {revision!r}", "EntryNotFound")
    inside = [entry for other, entry in entries.items() if other.startswith(prefix)]
    if not request.flag("recursive"):
        inside = [entry for entry in inside if "/" not in entry["path"].removeprefix(prefix)]
    return Reply.json(inside)


def paths_info(hub: HubServer, request: Request, kind: str, name: str, revision: str) -> Reply:
    entries = _entries(hub.readable(request, kind, name).resolve(revision).files)
    return Reply.json([entries[path] for path in request.form().get("paths", []) if path in entries])


def _entries(files: Mapping[str, Blob]) -> dict[str, dict[str, Any]]:
    """Every file and folder of a tree by its path, as the Hub describes them."""
    entries: dict[str, dict[str, Any]] = {}
    for path, blob in sorted(files.items()):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            below = "".join(other.oid for name, other in sorted(files.items()) if name.startswith(f"{folder}/"))
            oid = hashlib.sha1(below.encode()).hexdigest()
            entries.setdefault(folder, {"type": "directory", "oid": oid, "size": 0, "path": folder})
        entries[path] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
        entries[path] |= {"lfs": blob.lfs("oid")} if blob.large else {}
    return entries


def preupload(hub: HubServer, request: Request, kind: str, name: str, revision: str) -> Reply:
    repository = hub.writable(request, kind, name)
    present = repository.resolve(revision).files
    answers = []
    for file in request.json()["files"]:
        path = file["path"]
        mode = "lfs" if repository.is_large(path, file["size"], revision) else "regular"
        answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        # What is there already: the client leaves out files that it finds unchanged.
        answer |= {"oid": present[path].etag} if path in present else {}
        answers.append(answer)
    return Reply.json({"files": answers})


def commit(hub: HubServer, request: Request, kind: str, name: str, revision: str) -> Reply:
    repository = hub.writable(request, kind, name)
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    changes: dict[str, Blob | None] = {}
    for line in lines:
        if line["key"] != "header":
            changes |= _change(hub, repository, revision, line["key"], line["value"])
    readme = changes.get("README.md")
    if readme is not None and (errors := check_card(readme.content.decode("utf-8"), kind)[0]):
        raise HubError(400, "\n".join(errors))
    done = repository.commit(
        changes,
        title=header["summary"],
        message=header.get("description", ""),
        author=request.token.user,
        branch=revision,
        parent=header.get("parentCommit"),
    )
    url = f"{hub.page(kind, name)}/commit/{done.oid}"
    return Reply.json({"success": True, "commitOid": done.oid, "commitUrl": url, "hookOutput": ""})


def _change(
    hub: HubServer, repository: Repository, revision: str, key: str, value: dict[str, Any]
) -> dict[str, Blob | None]:
    path = value["path"]
    if not path or any(part in ("", ".", "..", ".git") for part in path.removesuffix("/").split("/")):
        raise HubError(400, f"Invalid path: {path!r}")
    if key == "file":
        return {path: Blob(base64.b64decode(value["content"], validate=True), large=False)}
    if key == "lfsFile":
        content = large_file(hub, value["oid"])
        if content is None:
            raise HubError(
                400, f"Your push was rejected because an LFS pointer pointed to a file that does not exist: {path}"
            )
        return {path: Blob(content, large=True)}
    if key == "deletedFile":
        return {path: None}
    if key == "deletedFolder":
        folder = f"{path.removesuffix('/')}/"
        return {each: None for each in repository.resolve(revision).files if each.startswith(folder)}
    raise HubError(400, f"Unknown operation {key!r}")
