"""The Hub on loopback, asked by the real client: names, repositories, revisions, commits and who may do what."""

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, create_repo, whoami
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

NAME = "owner/model"
CARD = b"---\nlicense: apache-2.0\npipeline_tag: image-classification\ntags:\n- vision\n---\n# A model\n"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def api(hub_here):
    return HfApi(token=hub_here.write_token)


@pytest.fixture
def repository(hub_here):
    return hub_here.add(NAME)


def put(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def status_of(error: pytest.ExceptionInfo) -> int:
    return error.value.response.status_code


# Names and repositories


def test_who_am_i(hub_here, api):
    assert api.whoami()["name"] == "owner"
    assert api.whoami(token=hub_here.read_token)["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami(token="hf_never_issued")
    assert [access.token for access in hub_here.log] == ["write", "read", "unknown"]
    assert hub_here.write_token not in str(hub_here.log)


def test_logged_in_by_variable_or_file(hub_here, monkeypatch, tmp_path):
    with pytest.raises(LocalTokenNotFoundError):
        whoami()
    (tmp_path / "hf_home").mkdir()
    (tmp_path / "hf_home" / "token").write_text(hub_here.stranger_token)
    assert whoami()["name"] == "stranger"
    monkeypatch.setenv("HF_TOKEN", hub_here.read_token)
    assert whoami()["name"] == "owner"


@pytest.mark.parametrize("kind", ["model", "space"])
def test_create(hub_here, api, kind):
    sdk = "gradio" if kind == "space" else None
    url = api.create_repo("owner/new", repo_type=kind, private=True, space_sdk=sdk)
    assert (url.repo_id, url.repo_type, url.endpoint) == ("owner/new", kind, hub_here.url)
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo("owner/new", repo_type=kind, space_sdk=sdk)
    assert status_of(error) == 409
    assert api.create_repo("owner/new", repo_type=kind, space_sdk=sdk, exist_ok=True) == url
    info = api.repo_info("owner/new", repo_type=kind)
    assert info.private and info.author == "owner" and [each.rfilename for each in info.siblings] == [".gitattributes"]
    assert hub_here.repository("owner/new", kind).sdk == sdk


def test_create_without_the_right(hub_here, api):
    assert create_repo("mine", token=hub_here.write_token).repo_id == "owner/mine"
    for name, token in (("stranger/model", hub_here.write_token), ("owner/model", hub_here.read_token)):
        with pytest.raises(HfHubHTTPError, match="don't have the rights") as error:
            api.create_repo(name, token=token)
        assert status_of(error) == 403
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo("owner/model", token=False)
    assert status_of(error) == 401


# Looking


def test_info_and_tree(api, repository):
    oid = repository.push({"README.md": CARD, "model.safetensors": WEIGHTS, "runs/1/log.txt": b"log"})
    info = api.model_info(NAME, files_metadata=True)
    sizes = {each.rfilename: (each.size, each.lfs is not None) for each in info.siblings}
    assert sizes.pop(".gitattributes") and info.sha == oid
    assert sizes == {
        "README.md": (len(CARD), False),
        "model.safetensors": (len(WEIGHTS), True),
        "runs/1/log.txt": (3, False),
    }
    assert info.card_data.license == "apache-2.0" and info.pipeline_tag == "image-classification"
    assert api.model_info(NAME, expand=["sha"]).siblings is None
    assert {each.path for each in api.list_repo_tree(NAME)} == {
        ".gitattributes",
        "README.md",
        "model.safetensors",
        "runs",
    }
    assert [each.path for each in api.list_repo_tree(NAME, "runs", recursive=True)] == ["runs/1", "runs/1/log.txt"]
    found = api.get_paths_info(NAME, ["runs", "model.safetensors", "absent"])
    assert [each.path for each in found] == ["runs", "model.safetensors"]
    assert found[1].lfs.sha256 == repository.resolve("main").files["model.safetensors"].sha256
    assert api.file_exists(NAME, "README.md") and not api.file_exists(NAME, "absent")
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(NAME, "absent"))


def test_revisions(api, repository):
    first = repository.push({"a.txt": b"1"})
    second = repository.push({"a.txt": b"2"})
    api.create_tag(NAME, tag="v1", revision=first)
    api.create_branch(NAME, branch="try/this", revision="v1")
    third = api.upload_file(repo_id=NAME, path_in_repo="a.txt", path_or_fileobj=b"3", revision="try/this").oid
    for revision, oid in {"main": second, "v1": first, first: first, "try/this": third}.items():
        assert api.model_info(NAME, revision=revision).sha == oid
    references = api.list_repo_refs(NAME)
    assert {each.name: each.target_commit for each in references.branches} == {"main": second, "try/this": third}
    assert [(each.ref, each.target_commit) for each in references.tags] == [("refs/tags/v1", first)]
    assert [each.commit_id for each in api.list_repo_commits(NAME, revision="try/this")][:2] == [third, first]
    for again in (lambda: api.create_tag(NAME, tag="v1"), lambda: api.create_branch(NAME, branch="main")):
        with pytest.raises(HfHubHTTPError) as error:
            again()
        assert status_of(error) == 409
    for absent in (lambda: api.model_info(NAME, revision="v2"), lambda: api.create_tag(NAME, tag="t", revision="v2")):
        with pytest.raises(RevisionNotFoundError):
            absent()


# Committing


def test_a_folder_with_small_and_large_files_is_one_commit(hub_here, api, repository, tmp_path):
    files = {"README.md": CARD, "config.json": b"{}", "sub/model.safetensors": WEIGHTS, "sub/empty.bin": b""}
    for path, content in files.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(content)
    before = repository.resolve("main").oid
    done = api.upload_folder(repo_id=NAME, folder_path=tmp_path / "folder", commit_message="All of it")
    head = repository.resolve("main")
    assert (head.oid, head.parent, head.title, head.author) == (done.oid, before, "All of it", "owner")
    assert repository.files() == files
    assert [path for path, blob in head.files.items() if blob.large] == ["sub/model.safetensors"]
    assert len(hub_here.requests("POST", "/commit/main$")) == len(hub_here.requests("PUT", "^/lfs/")) == 1
    # The same folder again sends nothing.
    assert api.upload_folder(repo_id=NAME, folder_path=tmp_path / "folder").oid == done.oid
    assert len(hub_here.requests("POST", "/commit/main$")) == len(hub_here.requests("PUT", "^/lfs/")) == 1


def test_a_file_is_large_by_its_size_alone(api, repository):
    ten = bytes(10 * 1024 * 1024)
    api.create_commit(NAME, [put("ten.txt", ten), put("more.txt", ten + b"1")], commit_message="two")
    assert [path for path, blob in repository.resolve("main").files.items() if blob.large] == ["more.txt"]


def test_a_file_is_large_by_what_gitattributes_says(api, repository):
    repository.push({".gitattributes": b"*.txt text\n\nweights.dat filter=lfs\nsub/*.raw filter=lfs\n"})
    paths = ["model.safetensors", "sub/weights.dat", "sub/x.raw", "x.raw", "x.txt"]
    api.create_commit(NAME, [put(path, b"x") for path in paths], commit_message="five")
    large = [path for path, blob in repository.resolve("main").files.items() if blob.large]
    assert large == ["sub/weights.dat", "sub/x.raw"]


def test_delete(api, repository):
    repository.push({"a.txt": b"", "old/1.txt": b"", "old/2.txt": b"", "older.txt": b""})
    api.create_commit(NAME, [CommitOperationDelete("a.txt"), CommitOperationDelete("old/")], commit_message="delete")
    assert list(repository.files()) == ["older.txt"]
    head = repository.resolve("main")
    with pytest.raises(EntryNotFoundError, match="doesn't exist"):
        operations = [put("b.txt", b"b"), CommitOperationDelete("absent.txt")]
        api.create_commit(NAME, operations, commit_message="all or nothing")
    assert repository.resolve("main") is head


def test_two_commits_with_the_same_parent(api, repository):
    parent = repository.resolve("main").oid
    api.create_commit(NAME, [put("a.txt", b"ours")], commit_message="first", parent_commit=parent)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        api.create_commit(NAME, [put("a.txt", b"theirs")], commit_message="second", parent_commit=parent)
    assert status_of(error) == 412 and repository.files() == {"a.txt": b"ours"}


@pytest.mark.parametrize("with_parent", [True, False])
def test_a_push_that_lands_between_preupload_and_commit(hub_here, api, repository, with_parent):
    hub_here.once("POST", "/commit/", lambda: repository.push({"b.txt": b"theirs"}))
    options = {"parent_commit": repository.resolve("main").oid} if with_parent else {}
    try:
        api.create_commit(NAME, [put("a.txt", b"ours")], commit_message="ours", **options)
    except HfHubHTTPError as error:
        assert with_parent and error.response.status_code == 412
    assert repository.files() == {"b.txt": b"theirs"} | ({} if with_parent else {"a.txt": b"ours"})


def test_large_bytes_that_never_came_cannot_be_committed(hub_here, api, repository):
    blob = put("model.safetensors", WEIGHTS)
    headers = {"Authorization": f"Bearer {hub_here.write_token}"}
    pointer = {"path": "model.safetensors", "algo": "sha256", "oid": blob.upload_info.sha256.hex(), "size": 1}
    lines = [{"key": "header", "value": {"summary": "s"}}, {"key": "lfsFile", "value": pointer}]
    body = "\n".join(str(line).replace("'", '"') for line in lines)
    address = f"{hub_here.url}/api/models/{NAME}/commit/main"
    assert httpx.post(address, headers=headers, content=body).status_code == 400
    # Other bytes than announced: the bucket takes them, verify and commit do not.
    upload = hub_here.signed("PUT", f"/lfs/{pointer['oid']}")
    assert httpx.put(upload, content=b"other").status_code == 200
    assert httpx.put(upload.replace("signature=", "signature=0"), content=WEIGHTS).status_code == 403
    announced = {"oid": pointer["oid"], "size": len(WEIGHTS)}
    verify = f"{hub_here.url}/{NAME}.git/info/lfs/verify"
    assert httpx.post(verify, headers=headers, json=announced).status_code == 400
    assert httpx.post(address, headers=headers, content=body).status_code == 400
    assert httpx.put(upload, content=WEIGHTS).status_code == 200
    longer = announced | {"size": announced["size"] + 1}
    assert httpx.post(verify, headers=headers, json=longer).status_code == 400
    assert httpx.post(verify, headers=headers, json=announced).status_code == 200
    assert httpx.post(address, headers=headers, content=body).status_code == 200
    assert repository.files() == {"model.safetensors": WEIGHTS}


# Who may


def test_a_private_repository(hub_here):
    hub_here.add(NAME, private=True).push({"a.txt": b"a"})
    for token, error, status in (
        (False, RepositoryNotFoundError, 401),
        (hub_here.stranger_token, RepositoryNotFoundError, 404),
        ("hf_never_issued", HfHubHTTPError, 401),
    ):
        api = HfApi(token=token)
        for look in (api.model_info, api.list_repo_files, lambda name, api=api: api.hf_hub_download(name, "a.txt")):
            with pytest.raises(error) as refused:
                look(NAME)
            assert status_of(refused) == status and type(refused.value) is error
    assert HfApi(token=hub_here.read_token).list_repo_files(NAME) == [".gitattributes", "a.txt"]
    with pytest.raises(RepositoryNotFoundError):  # what is private looks as what is not there
        HfApi(token=False).model_info("owner/absent")


def test_a_token_that_may_not_write(hub_here, repository):
    for token, status in ((hub_here.read_token, 403), (hub_here.stranger_token, 403), (False, 401)):
        api = HfApi(token=token)
        for change in (
            lambda api=api: api.create_commit(NAME, [put("a.txt", b"a")], commit_message="no"),
            lambda api=api: api.create_tag(NAME, tag="v1"),
            lambda api=api: api.auth_check(NAME, write=True),
        ):
            with pytest.raises(HfHubHTTPError) as error:
                change()
            assert status_of(error) == status
    assert repository.files() == repository.tags == {}
    HfApi(token=hub_here.write_token).auth_check(NAME, write=True)


def test_a_gated_repository(hub_here, repository):
    repository.push({"a.txt": b"a"})
    repository.gated = True
    for token, status in ((False, 401), (hub_here.stranger_token, 403)):
        assert HfApi(token=token).model_info(NAME).gated == "manual"
        with pytest.raises(GatedRepoError) as error:
            HfApi(token=token).hf_hub_download(NAME, "a.txt")
        assert status_of(error) == status
    repository.granted.add("stranger")
    HfApi(token=hub_here.stranger_token).hf_hub_download(NAME, "a.txt")
