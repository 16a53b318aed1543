"""Downloads from the Hub on loopback, whole and broken: what the client mends, what it reports, what it misses."""

from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RemoteEntryNotFoundError

from hub_server import Alter, CutReply, Status, Truncate

NAME = "owner/model"
LARGE, SMALL = "model.safetensors", "config.json"
FILES = {LARGE: bytes(range(256)) * 400, SMALL: b'{"a": [' + b"1, " * 500 + b"1]}", "sub/notes.txt": b"notes"}
# Where the bytes of a file come from.
SOURCE = {LARGE: "^/cdn/", SMALL: f"/resolve/[^/]+/{SMALL}$"}
both = pytest.mark.parametrize("file", [LARGE, SMALL])


@pytest.fixture
def repository(hub_here):
    repository = hub_here.add(NAME)
    repository.push(FILES)
    return repository


def read(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert found.pop(".gitattributes")
    return found


def cached_blobs() -> list[Path]:
    return [path for path in Path(constants.HF_HUB_CACHE).glob("*/blobs/*") if path.is_file()]


# Whole


def test_a_snapshot_by_every_kind_of_revision(hub_here, repository):
    api = HfApi(token=hub_here.write_token)
    old = repository.resolve("main").oid
    api.create_tag(NAME, tag="v1")
    api.create_branch(NAME, branch="try/this")
    repository.push({SMALL: b"new"}, ["sub/notes.txt"])
    repository.push({"extra.txt": b"extra"}, branch="try/this")
    assert read(snapshot_download(NAME)) == {LARGE: FILES[LARGE], SMALL: b"new"}
    assert read(snapshot_download(NAME, revision="v1")) == read(snapshot_download(NAME, revision=old)) == FILES
    assert read(snapshot_download(NAME, revision="try/this")) == FILES | {"extra.txt": b"extra"}
    # Each version of a file came once, whatever the number of revisions.
    assert len(hub_here.requests("GET", "^/cdn/")) == 1


def test_offline_after_the_first_download(hub_here, repository, monkeypatch):
    folder = snapshot_download(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    served = len(hub_here.log)
    assert snapshot_download(NAME) == folder and read(folder) == FILES
    assert len(hub_here.log) == served
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub_here.stop()  # no wire at all
    assert snapshot_download(NAME) == folder
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("owner/other")


def test_what_a_head_says_and_where_the_token_goes(hub_here, repository):
    repository.private = True
    for file in (LARGE, SMALL):
        blob = repository.resolve("main").files[file]
        found = get_hf_file_metadata(hf_hub_url(NAME, file), token=hub_here.read_token)
        assert (found.etag, found.size, found.commit_hash) == (blob.etag, blob.size, repository.resolve("main").oid)
        assert found.xet_file_data is None
        hf_hub_download(NAME, file, token=hub_here.read_token)
    tokens = {access.path.split("/")[1]: access.token for access in hub_here.log}
    assert tokens == {"owner": "read", "cdn": None}  # the storage host never sees it
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(NAME, "absent.txt", token=hub_here.read_token)
    assert list(Path(constants.HF_HUB_CACHE).glob("*/.no_exist/*/absent.txt"))


def test_parts_of_a_file(hub_here, repository):
    for wanted, status, part, content_range in (
        ("bytes=2-3", 206, b"te", "bytes 2-3/5"),
        ("bytes=4-", 206, b"s", "bytes 4-4/5"),
        ("bytes=4-9", 206, b"s", "bytes 4-4/5"),
        ("bytes=5-", 416, None, "bytes */5"),
        ("lines=1-", 200, b"notes", None),
    ):
        reply = httpx.get(hf_hub_url(NAME, "sub/notes.txt"), headers={"Range": wanted})
        assert (reply.status_code, reply.headers.get("Content-Range")) == (status, content_range), wanted
        assert part is None or reply.content == part, wanted


def test_a_space(hub_here):
    hub_here.add("owner/space", "space", sdk="static").push({"index.html": b"<html>", "w.bin": b"w"})
    assert read(snapshot_download("owner/space", repo_type="space")) == {"index.html": b"<html>", "w.bin": b"w"}


# Mended by the client


@both
def test_an_interrupted_download_goes_on_where_it_stopped(hub_here, repository, waits, monkeypatch, file):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 400)
    hub_here.order(CutReply(after=1000), "GET", SOURCE[file], times=2)
    assert Path(hf_hub_download(NAME, file)).read_bytes() == FILES[file]
    requests = hub_here.requests("GET", SOURCE[file])
    # Two whole chunks of 400 are kept of 1000 bytes. The rest of the small file comes before the second cut.
    ranges = [None, "bytes=800-", "bytes=1600-"] if file == LARGE else [None, "bytes=800-"]
    assert [access.range for access in requests] == ranges
    assert requests[-1].status == 206 and waits == [1] * (len(ranges) - 1)


@both
def test_what_is_tried_again(hub_here, repository, waits, file):
    """A chunk has 10 MiB: a smaller file begins anew after each cut, six times at most."""
    hub_here.order(CutReply(after=1000), "GET", SOURCE[file], times=6)
    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
        hf_hub_download(NAME, file)
    assert [access.range for access in hub_here.requests("GET", SOURCE[file])] == [None] * 6
    assert waits == [1] * 5 and not cached_blobs()
    waits.clear()
    hub_here.order(Status(429, retry_after=7), "GET", SOURCE[file])
    assert Path(hf_hub_download(NAME, file)).read_bytes() == FILES[file]
    assert waits == [8]  # what the server asked for, and one


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_error_of_the_head_is_retried(hub_here, repository, waits, status):
    hub_here.order(Status(status, retry_after=7), "HEAD", "/resolve/", times=2)
    assert Path(hf_hub_download(NAME, LARGE)).read_bytes() == FILES[LARGE]
    assert waits == [8]  # the first HEAD is given up at once, the second is waited for


# Reported by the client


@both
def test_what_is_not_tried_again(hub_here, repository, waits, file):
    for fault, error, words in (
        (Status(500, retry_after=7), HfHubHTTPError, None),
        (Status(503, retry_after=7), HfHubHTTPError, None),
        (CutReply(after=1000, reset=True), httpx.ReadError, None),  # neither OSError nor HfHubHTTPError
        (Truncate(to=900), OSError, "Consistency check failed"),  # noticed by its length
    ):
        hub_here.order(fault, "GET", SOURCE[file])
        with pytest.raises(error, match=words) as refused:
            hf_hub_download(NAME, file)
        assert not isinstance(fault, Status) or refused.value.response.status_code == fault.status
        assert not waits and not cached_blobs(), fault
    assert Path(hf_hub_download(NAME, file)).read_bytes() == FILES[file]
    assert hub_here.requests("GET", SOURCE[file])[-1].range is None  # from the beginning: nothing was kept


def test_a_head_that_fails_with_the_file_in_the_cache(hub_here, repository, waits):
    cached = hf_hub_download(NAME, LARGE)
    hub_here.order(Status(503), "HEAD", "/resolve/")
    assert hf_hub_download(NAME, LARGE) == cached
    hub_here.order(CutReply(100), "HEAD", "/resolve/")
    with pytest.raises(httpx.RemoteProtocolError):  # a cut connection is not taken for a Hub that is down
        hf_hub_download(NAME, LARGE)
    assert not waits


@pytest.mark.parametrize("path", ["/revision/main$", "/tree/"])
def test_errors_of_the_listing_are_not_retried(hub_here, repository, waits, path):
    for fault in (Status(429, retry_after=7), Status(500), Status(503), CutReply()):
        hub_here.order(fault, "GET", path)
        with pytest.raises((HfHubHTTPError, LocalEntryNotFoundError, httpx.RemoteProtocolError)) as error:
            snapshot_download(NAME)
        cut, listing = isinstance(fault, CutReply), path == "/tree/"
        expected = httpx.RemoteProtocolError if cut else HfHubHTTPError if listing else LocalEntryNotFoundError
        assert type(error.value) is expected and not waits, fault
    assert read(snapshot_download(NAME)) == FILES


# Missed by the client


@both
def test_altered_bytes_are_not_noticed(hub_here, repository, file):
    hub_here.order(Alter(), "GET", SOURCE[file])
    folder = snapshot_download(NAME)
    wrong = read(folder)
    assert len(wrong[file]) == len(FILES[file]) and wrong[file] != FILES[file]
    assert read(snapshot_download(NAME)) == wrong  # and they stay
    checked = HfApi().verify_repo_checksums(NAME)
    assert [each["path"] for each in checked.mismatches] == [file]
    hf_hub_download(NAME, file, force_download=True)
    assert read(folder) == FILES


def test_an_error_of_the_hub_brings_the_old_snapshot_back(hub_here, repository, waits):
    old = snapshot_download(NAME)
    repository.push({SMALL: b"new"})
    hub_here.order(Status(503), "GET", "/revision/main$")
    assert snapshot_download(NAME) == old and read(old) == FILES  # not a word
    assert read(snapshot_download(NAME)) == FILES | {SMALL: b"new"}
