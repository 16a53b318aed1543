"""The fixtures; ``tests/conftest.py`` offers them to every test."""

from __future__ import annotations

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import file_download
from huggingface_hub.utils import _http

from . import client
from .server import HubServer


@pytest.fixture
def hub():
    """A Hub on loopback: ``hub.url``, ``hub.write_token``, ``hub.read_token``, ``hub.environment(folder)``.

    The test fails if a fault that it ordered was never met, or if the server itself failed.
    """
    with HubServer() as server:
        yield server


@pytest.fixture
def hub_here(hub, tmp_path, monkeypatch):
    """``hub``, and it is this process's Hub: ``HfApi()``, ``from_pretrained("owner/name")``, timm's ``hf-hub:``.

    The cache is empty and lies in ``tmp_path / "hf_home" / "hub"``. Nobody is logged in; to log in, set ``HF_TOKEN``:
    ``monkeypatch.setenv("HF_TOKEN", hub.write_token)``.
    """
    client.enter(hub.url, tmp_path / "hf_home", monkeypatch)
    yield hub
    huggingface_hub.close_session()


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the client would have waited before each retry. It does not wait."""
    seconds: list[float] = []
    clock = SimpleNamespace(sleep=seconds.append)
    monkeypatch.setattr(_http, "time", clock)
    monkeypatch.setattr(file_download, "time", clock)
    return seconds


@pytest.fixture
def logged_in(hub_here, monkeypatch):
    """The same, as somebody who may write there and is not kept waiting between two attempts."""
    monkeypatch.setenv("HF_TOKEN", hub_here.write_token)
    monkeypatch.setattr("hf_vipriors.hub.upload.PAUSE", 0.01)
    return hub_here
