"""Send a publication to the Hub: one commit that is there whole or not at all, and never over another model."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import CONFIG_NAME

from ..errors import InputError, one_line
from .publication import SPACE_IDENTITY, SPACE_MARK, Publication, identity_of

logger = logging.getLogger(__name__)
ATTEMPTS = 5
PAUSE = 1.0
"""Seconds before the second attempt; each later one waits twice as long, or as long as the Hub asks."""
WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".safetensors", ".gguf", ".h5", ".msgpack", ".onnx")
CONFLICT = 412


def check_login(api: HfApi | None = None) -> str:
    """Name of the user whose token is used; before a training, so that its result can be pushed.

    Raises:
        InputError: no token, one that the Hub does not know, or no Hub.
    """
    with _as_input_error("cannot push to the Hub"):
        return (api or HfApi()).whoami()["name"]


def check_free(publication: Publication, *, revision: str | None = None, api: HfApi | None = None) -> None:
    """Refuse to push over a repository that holds something else.

    Raises:
        InputError: another architecture, weights of another kind, or a Space that is not ours.
    """
    api = api or HfApi()
    with _as_input_error(f"cannot look at {publication.repo_id} on the Hub"):
        try:
            files = api.list_repo_files(
                publication.repo_id, repo_type=publication.repo_type, revision=revision or "main"
            )
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return  # a new one
        theirs = _their_identity(api, publication, files, revision)
    if theirs is not None and theirs != publication.identity:
        differing = [key for key, value in publication.identity.items() if theirs.get(key) != value]
        known = ", ".join(f"{key} {theirs.get(key)!r}, not {publication.identity[key]!r}" for key in differing)
        raise InputError(
            f"{publication.repo_id} holds another model ({known}): choose another --repo_id, or another --revision"
        )


def _their_identity(
    api: HfApi, publication: Publication, files: list[str], revision: str | None
) -> dict[str, Any] | None:
    """What the repository holds; None where it is empty."""
    if publication.kind == "space":
        taken = any(name.endswith(".py") for name in files)
        return (SPACE_IDENTITY if SPACE_MARK in files else {"space": "another program"}) if taken else None
    if CONFIG_NAME not in files:
        weights = [name for name in files if name.endswith(WEIGHTS)]
        return {"model_type": f"unknown, with {weights[0]}"} if weights else None
    path = api.hf_hub_download(publication.repo_id, CONFIG_NAME, revision=revision)
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        return {"model_type": f"an unreadable {CONFIG_NAME}"}
    return identity_of(config) if isinstance(config, Mapping) else {"model_type": None}


def publish(
    publication: Publication,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Push all files in one commit, on top of what was looked at; tried again where the Hub stumbles.

    Args:
        publication: what :func:`hf_vipriors.hub.publication.model_publication` gathered.
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
    repo_id, kind = publication.repo_id, publication.repo_type
    check_login(api)
    check_free(publication, revision=revision, api=api)
    with _as_input_error(f"cannot push to {repo_id}"):
        _make_repository(api, publication, private, revision)
    seen = None
    for attempt in range(1, ATTEMPTS + 1):
        with _as_input_error(f"cannot push to {repo_id}; nothing there has changed, run the same again"):
            head = api.repo_info(repo_id, repo_type=kind, revision=revision).sha
            if seen not in (None, head):  # whoever came between may have pushed another model
                check_free(publication, revision=revision, api=api)
            seen = head
            try:
                commit = api.create_commit(
                    repo_id,
                    _operations(publication),
                    repo_type=kind,
                    revision=revision,
                    parent_commit=head,
                    commit_message=message or f"Push {publication.kind} with hf_vipriors",
                )
                return commit.commit_url
            except (HfHubHTTPError, httpx.TransportError, OSError) as error:
                pause = _worth_another_try(error, attempt)
                if pause is None:
                    raise
                logger.warning(
                    "the Hub says %s: attempt %d of %d in %.0f s", _short(error), attempt + 1, ATTEMPTS, pause
                )
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _make_repository(api: HfApi, publication: Publication, private: bool, revision: str | None) -> None:
    repo_id, kind = publication.repo_id, publication.repo_type
    space = {"space_sdk": "gradio"} if kind == "space" else {}
    # None leaves it to the organisation whether new repositories are private.
    api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True, **space)
    if private and not api.repo_info(repo_id, repo_type=kind).private:
        raise InputError(f"{repo_id} exists and is public: make it private in its settings, or leave out --private")
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type=kind, exist_ok=True)


def _operations(publication: Publication) -> list[CommitOperationAdd]:
    """New ones for each attempt: an operation remembers that it was uploaded."""
    return [CommitOperationAdd(path, content) for path, content in sorted(publication.files.items())]


def _worth_another_try(error: Exception, attempt: int) -> float | None:
    """Seconds to wait, or None where another attempt would end alike."""
    if attempt == ATTEMPTS:
        return None
    pause = PAUSE * 2 ** (attempt - 1)
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 500
        if status == CONFLICT:
            return 0.0
        if status == 429:
            asked = error.response.headers.get("retry-after", "")
            return float(asked) if asked.isdigit() else pause
        return pause if status >= 500 else None
    return pause


@contextmanager
def _as_input_error(failure: str) -> Iterator[None]:
    """Whatever the client raises, as one line without secrets."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # huggingface_hub, httpx, the operating system: each has its own kinds
        raise InputError(f"{failure}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, LocalTokenNotFoundError):
        return "you are not logged in: run `hf auth login` with a token that may write, or set HF_TOKEN"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: unset it to reach the Hub"
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        if status == 401:
            return "the Hub does not know your token: run `hf auth login` with a token that may write"
        if status == 403:
            return "your token may not write there: use one with write access, and a --repo_id of your own"
        if status == CONFLICT:
            return "others push to it all the time"
        return f"the Hub answers {_short(error)}"
    return _short(error)


def _short(error: Exception) -> str:
    """Status and kind, or the first line of the message: addresses of uploads may hold signatures."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason_phrase}"
    return f"{type(error).__name__}: {one_line(error, None).split('http', 1)[0].strip()[:200]}"
