"""Send files to the Hub: one commit that is there whole or not at all, and never over another model."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from transformers.utils import CONFIG_NAME

from ..errors import InputError
from .failures import CONFLICT, as_input_error, reason
from .repository_files import GENERATOR, PAGE, SPACE_MARK, RepositoryFiles, identity_of, space_identity

logger = logging.getLogger(__name__)
ATTEMPTS = 5
PAUSE = 1.0
"""Seconds before the second attempt; each later one waits twice as long, or as long as the Hub asks."""
STARTER = "Welcome to your static Space!"
"""In the page that the Hub itself puts into a new static Space."""
WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".safetensors", ".gguf", ".h5", ".msgpack", ".onnx")


def check_login(api: HfApi | None = None, failure: str = "cannot push to the Hub") -> str:
    """Name of the user whose token is used; before a training, so that its result can be pushed.

    Raises:
        InputError: no token, one that the Hub does not know, or no Hub.
    """
    with as_input_error(failure):
        return (api or HfApi()).whoami()["name"]


def check_free(files: RepositoryFiles, *, revision: str | None = None, api: HfApi | None = None) -> None:
    """Refuse to push over a repository that holds something else.

    Raises:
        InputError: another architecture, weights of another kind, or a Space that is not ours.
    """
    api = api or HfApi()
    with as_input_error(f"cannot look at {files.repo_id} on the Hub"):
        try:
            names = api.list_repo_files(files.repo_id, repo_type=files.repo_type, revision=revision or "main")
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return  # a new one
        theirs = _their_identity(api, files, names, revision)
    if theirs is not None and theirs != files.identity:
        differing = [key for key, value in theirs.items() if files.identity.get(key) != value]
        known = ", ".join(f"{key} {theirs[key]!r}, not {files.identity.get(key)!r}" for key in differing)
        what, flag = ("Space", "space") if files.kind == "space" else ("model", "repo_id")
        raise InputError(
            f"{files.repo_id} holds another {what} ({known}): choose another --{flag}, or another --revision"
        )


def _their_identity(
    api: HfApi, files: RepositoryFiles, names: list[str], revision: str | None
) -> dict[str, Any] | None:
    """What the repository holds; None where it is empty."""
    if files.kind == "space":
        return _their_space(api, files.repo_id, names, revision)
    if CONFIG_NAME not in names:
        weights = [name for name in names if name.endswith(WEIGHTS)]
        return {"model_type": f"unknown, with {weights[0]}"} if weights else None
    path = api.hf_hub_download(files.repo_id, CONFIG_NAME, revision=revision)
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        return {"model_type": f"an unreadable {CONFIG_NAME}"}
    return identity_of(config) if isinstance(config, Mapping) else {"model_type": None}


def _their_space(api: HfApi, repo_id: str, names: list[str], revision: str | None) -> dict[str, Any] | None:
    if SPACE_MARK in names:
        return space_identity("gradio")
    if PAGE in names:
        path = api.hf_hub_download(repo_id, PAGE, repo_type="space", revision=revision)
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        if GENERATOR in text:
            return space_identity("static")
        if STARTER not in text:
            return {"space": "another page"}
    taken = any(name.endswith((".py", "Dockerfile")) for name in names)
    return {"space": "another program"} if taken else None


def upload(
    files: RepositoryFiles,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Push all files in one commit, on top of what was looked at; tried again where the Hub stumbles.

    Args:
        files: what :func:`hf_vipriors.hub.repository_files.model_files` gathered.
        private: make a new repository private. One that exists must be so already.
        revision: branch; made from main where there is none.
        message: of the commit.
        api: another Hub or token than the machine's.

    Returns:
        Address of the commit.

    Raises:
        InputError: no access, another model there, or a Hub that fails again and again; what was there is untouched.
    """
    api = api or HfApi()
    repo_id, kind = files.repo_id, files.repo_type
    check_login(api)
    check_free(files, revision=revision, api=api)
    _make_repository(api, files, private, revision)
    failure = f"cannot push to {repo_id}; nothing there has changed, run the same again"
    seen = None
    for attempt in range(1, ATTEMPTS + 1):
        with as_input_error(failure):
            head = api.repo_info(repo_id, repo_type=kind, revision=revision).sha
        if seen not in (None, head):  # whoever came between may have pushed another model
            check_free(files, revision=revision, api=api)
        seen = head
        try:
            commit = api.create_commit(
                repo_id,
                # New ones for each attempt: an operation remembers that it was uploaded.
                [CommitOperationAdd(path, content) for path, content in sorted(files.files.items())],
                repo_type=kind,
                revision=revision,
                parent_commit=head,
                commit_message=message or f"Push {files.kind} with hf_vipriors",
            )
            return commit.commit_url
        except Exception as error:  # huggingface_hub, httpx, the operating system: each has its own kinds
            pause = _worth_another_try(error, attempt)
            if pause is None:
                raise InputError(f"{failure}: {reason(error)}") from error
            logger.warning("%s: attempt %d of %d in %.0f s", reason(error), attempt + 1, ATTEMPTS, pause)
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _make_repository(api: HfApi, files: RepositoryFiles, private: bool, revision: str | None) -> None:
    repo_id, kind = files.repo_id, files.repo_type
    space = {"space_sdk": files.identity["sdk"]} if kind == "space" else {}
    with as_input_error(f"cannot push to {repo_id}"):
        # None leaves it to the organisation whether new repositories are private.
        api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True, **space)
        public = private and not api.repo_info(repo_id, repo_type=kind).private
        if revision is not None and not public:
            api.create_branch(repo_id, branch=revision, repo_type=kind, exist_ok=True)
    if public:
        raise InputError(f"{repo_id} exists and is public: make it private in its settings, or leave out --private")


def _worth_another_try(error: Exception, attempt: int) -> float | None:
    """Seconds to wait, or None where another attempt would end alike."""
    if attempt == ATTEMPTS or not isinstance(error, (HfHubHTTPError, httpx.TransportError, OSError)):
        return None
    pause = PAUSE * 2 ** (attempt - 1)
    if not isinstance(error, HfHubHTTPError) or error.response is None:
        return pause
    status = error.response.status_code
    if status == CONFLICT:
        return 0.0
    if status == 429:
        asked = error.response.headers.get("retry-after", "")
        return float(asked) if asked.isdigit() else pause
    return pause if status >= 500 else None
