"""Uploads to the Hub on loopback when the network or the Hub fails: what the client tries again and what it leaves."""

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from hub_server import CutReply, CutUpload, Status

NAME = "owner/model"
FILES = {"README.md": b"---\nlicense: mit\n---\n# A model\n", "model.safetensors": bytes(range(256)) * 8000}
COMMIT = "/commit/main$"
# Each step of a push, in order, and whether the client tries it again.
STEPS = {
    "/api/validate-yaml$": ("POST", False),
    "/preupload/": ("POST", True),
    "/objects/batch$": ("POST", True),
    "^/lfs/": ("PUT", True),
    "/info/lfs/verify$": ("POST", True),
    COMMIT: ("POST", False),
}
RETRIED = [step for step, (_, again) in STEPS.items() if again]
FAULTS = [Status(500), Status(503), Status(429, retry_after=7), CutReply()]


@pytest.fixture
def api(hub_here):
    return HfApi(token=hub_here.write_token)


@pytest.fixture
def repository(hub_here):
    return hub_here.add(NAME)


@pytest.fixture
def push(api, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for path, content in FILES.items():
        (folder / path).write_bytes(content)
    return lambda: api.upload_folder(repo_id=NAME, folder_path=folder)


def anew(hub):
    """A Hub as on the first day, in the same place."""
    hub.log.clear()
    hub.objects.clear()
    return hub.add(NAME)


@pytest.mark.parametrize("step", RETRIED)
def test_steps_that_are_tried_again(hub_here, push, waits, step):
    for fault in FAULTS:
        repository = anew(hub_here)
        waits.clear()
        hub_here.order(fault, STEPS[step][0], step, times=2)
        assert push().oid == repository.resolve("main").oid and repository.files() == FILES, fault
        assert waits == ([8, 8] if fault == Status(429, retry_after=7) else [1, 2]), fault
        assert len(hub_here.requests("POST", COMMIT)) == 1, fault


@pytest.mark.parametrize("step", [step for step in STEPS if step not in RETRIED])
def test_steps_that_are_not(hub_here, push, waits, step):
    for fault in FAULTS:
        repository = anew(hub_here)
        before = repository.resolve("main").oid
        hub_here.order(fault, STEPS[step][0], step)
        # A refusal by validate-yaml of another status than 400 is an HfHubHTTPError too, not a ValueError.
        with pytest.raises(httpx.RemoteProtocolError if isinstance(fault, CutReply) else HfHubHTTPError):
            push()
        assert not waits and len(hub_here.requests("POST", step)) == 1, fault
        done = step == COMMIT and isinstance(fault, CutReply)
        assert (repository.resolve("main").oid == before) is not done, fault
        # Once more by hand: what was uploaded is not uploaded again, and what was committed is not committed again.
        push()
        assert repository.files() == FILES and len(repository.history()) == 2, fault
        assert len(hub_here.requests("PUT", "^/lfs/")) == 1, fault
        assert len(hub_here.requests("POST", COMMIT)) == (1 if done or step != COMMIT else 2), fault


def test_five_retries_and_no_more(hub_here, repository, push, waits):
    hub_here.order(Status(503), "PUT", "^/lfs/", times=None)
    with pytest.raises(RuntimeError, match="Error while uploading 'model.safetensors'") as error:
        push()
    assert isinstance(error.value.__cause__, HfHubHTTPError)
    assert waits == [1, 2, 4, 8, 8] and len(hub_here.requests("PUT", "^/lfs/")) == 6
    assert not hub_here.requests("POST", COMMIT) and repository.files() == {}


def test_an_upload_cut_in_the_middle(hub_here, repository, push, waits):
    hub_here.order(CutUpload(after=1_000_000), "PUT", "^/lfs/")
    push()
    assert repository.files() == FILES and waits == [1]
    assert [access.status for access in hub_here.requests("PUT", "^/lfs/")] == [None, 200]


@pytest.mark.parametrize("after", [0, 1000])
def test_a_commit_whose_answer_is_lost(hub_here, api, repository, after):
    """A caller that simply tries again with the same parent is refused: its own commit is there."""
    parent = repository.resolve("main").oid
    operation = CommitOperationAdd("a.txt", b"a" * 5000)
    options = {"commit_message": "once", "parent_commit": parent}
    hub_here.order(CutReply(after=0) if after == 0 else CutUpload(after), "POST", COMMIT)
    with pytest.raises(httpx.TransportError):
        api.create_commit(NAME, [operation], **options)
    landed = repository.resolve("main").oid != parent
    assert landed is (after == 0)
    if landed:
        # The client compares with what is there now, and leaves out what it finds unchanged.
        again = api.create_commit(NAME, [CommitOperationAdd("a.txt", b"a" * 5000)], **options)
        assert again.oid == repository.resolve("main").oid and len(repository.history()) == 2
        with pytest.raises(HfHubHTTPError, match="A commit has happened since"):
            api.create_commit(NAME, [CommitOperationAdd("b.txt", b"b")], **options)


def test_calls_that_are_not_tried_again(hub_here, api, repository, waits):
    for method, path, call in (
        ("GET", "/whoami-v2$", lambda: api.whoami()),
        ("POST", "/repos/create$", lambda: api.create_repo("owner/new", exist_ok=True)),
        ("GET", f"/models/{NAME}$", lambda: api.model_info(NAME)),
        ("GET", "/refs$", lambda: api.list_repo_refs(NAME)),
        ("GET", "/commits/main$", lambda: api.list_repo_commits(NAME)),
        ("GET", "/tree/main$", lambda: api.list_repo_files(NAME)),
        ("POST", "/paths-info/main$", lambda: api.get_paths_info(NAME, "a.txt")),
        ("POST", "/branch/b$", lambda: api.create_branch(NAME, branch="b", exist_ok=True)),
        ("POST", "/tag/main$", lambda: api.create_tag(NAME, tag="t", exist_ok=True)),
    ):
        for status in (429, 500):
            hub_here.order(Status(status, retry_after=7), method, path)
            with pytest.raises(HfHubHTTPError) as error:
                call()
            assert error.value.response.status_code == status and not waits, (method, path)
        call()
