"""How a client comes to this Hub: the environment of a new process, and the constants of this one."""

from __future__ import annotations

import os
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, hf_api

# Whatever else a machine has set for these libraries must not reach a test.
FOREIGN = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_", "TRANSFORMERS_")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def environment(url: str, home: str | os.PathLike, token: str | None = None) -> dict[str, str]:
    """The whole environment of a process that knows no Hub but the one at ``url`` and has its cache in ``home``.

    Xet is off. With it the client sends large files to a storage service of its own choice, whatever the Hub says.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and name.upper() not in PROXIES
    }
    ours = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return kept | ours | ({} if token is None else {"HF_TOKEN": token})


def enter(url: str, home: str | os.PathLike, patch: pytest.MonkeyPatch) -> None:
    """Point this process, and those that it starts, at the Hub at ``url`` until ``patch`` is undone.

    huggingface_hub reads its environment once, at import, but its constants at each call; so do transformers and timm,
    which go through it.
    """
    for name in set(os.environ) - set(ours := environment(url, home)):
        patch.delenv(name)
    for name, value in ours.items():
        patch.setenv(name, value)
    home = Path(home)
    for name, value in {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():
        patch.setattr(constants, name, value)
    patch.setattr(hf_api.api, "endpoint", url)  # behind huggingface_hub.create_repo and its like
    huggingface_hub.close_session()  # the pooled connections were made under the old proxies
