"""Uploads of a client that has hf_xet: other steps than over LFS, several commits, and a commit that is retried."""

from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from hub_server import CutReply, Status

NAME = "owner/model"
COMMIT = "/commit/main$"
FILES = {
    "README.md": b"---\nlicense: mit\n---\n# A model\n",
    "sub/model.safetensors": bytes(range(256)) * 8000,
    "w.bin": b"w" * 100_000,
}


@pytest.fixture
def repository(hub_here, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    return hub_here.add(NAME)


@pytest.fixture
def push(hub_here, tmp_path):
    def push(files: dict[str, bytes], **options):
        for path, content in files.items():
            (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / path).write_bytes(content)
        return HfApi(token=hub_here.write_token).upload_folder(
            repo_id=NAME, folder_path=tmp_path / "folder", **options
        )

    return push


@pytest.mark.parametrize("xet", [True, False])
def test_large_files_take_another_way(hub_here, repository, push, monkeypatch, xet):
    before = repository.resolve("main").oid
    assert push(FILES, parent_commit=before).oid == repository.resolve("main").oid
    assert repository.files() == FILES and len(repository.history()) == 2
    assert hub_here.requests("GET", "/xet-write-token/main$")
    assert not hub_here.requests("POST", "/info/lfs/") and not hub_here.requests("PUT")
    # Either kind of client downloads what the other has uploaded.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", not xet)
    folder = Path(snapshot_download(NAME))
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert bool(hub_here.requests("GET", "^/cdn/")) is not xet
    assert bool(hub_here.requests("GET", "/xet-read-token/")) is xet


def test_who_is_told_the_way(hub_here, repository):
    repository.private = True
    for role, token, status in (
        ("read", hub_here.read_token, 200),
        ("write", hub_here.read_token, 403),
        ("read", hub_here.stranger_token, 404),
        ("write", hub_here.write_token, 200),
    ):
        address = f"{hub_here.url}/api/models/{NAME}/xet-{role}-token/main"
        assert httpx.get(address, headers={"Authorization": f"Bearer {token}"}).status_code == status


def test_a_large_folder_is_several_commits(hub_here, repository, push):
    """The parent guards the first commit alone: somebody else's push can come to lie between them."""
    files = {f"{i:03}.txt": b"%d" % i for i in range(300)}
    seen = []
    hub_here.once("POST", COMMIT, lambda: seen.append(len(repository.files())))
    push(files, parent_commit=repository.resolve("main").oid)
    assert repository.files() == files and seen == [0]
    ours = [commit.title for commit in repository.history()[:-1]]
    assert ours == ["Upload folder using huggingface_hub (part 2)", "Upload folder using huggingface_hub"]


def test_the_commit_is_retried(hub_here, repository, push, waits):
    hub_here.order(Status(503), "POST", COMMIT)
    hub_here.order(Status(429, retry_after=7), "POST", COMMIT)
    push(FILES)
    assert repository.files() == FILES and len(repository.history()) == 2
    assert waits == [1, 8]


def test_a_commit_whose_answer_is_lost_is_made_twice(hub_here, repository, push, waits):
    hub_here.order(CutReply(), "POST", COMMIT)
    push(FILES)
    assert repository.files() == FILES and len(repository.history()) == 3


def test_a_commit_whose_answer_is_lost_with_a_parent_looks_like_somebody_elses(hub_here, repository, push, waits):
    hub_here.order(CutReply(), "POST", COMMIT)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
        push(FILES, parent_commit=repository.resolve("main").oid)
    assert repository.files() == FILES  # and yet it is there
