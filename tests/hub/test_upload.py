"""What goes to the Hub (a real one, on loopback), how, and what is refused; a repository is never half new."""

import json
import threading

import pytest
import torch
from hub_server import CutReply, CutUpload, Status
from huggingface_hub import HfApi, ModelCard

from hf_vipriors.errors import InputError
from hf_vipriors.hub import model_card as model_card_module
from hf_vipriors.hub import upload as uploading
from hf_vipriors.hub.card_facts import CardFacts, ScoreRow
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.hub.repository_files import (
    GENERATOR,
    check_no_secrets,
    check_repo_id,
    identity_of,
    model_files,
    space_files,
)
from hf_vipriors.hub.upload import check_free, check_login, upload
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel
from hf_vipriors.training.cards import write_card

NAME = "owner/flowers"


@pytest.fixture
def student(tmp_path, tiny_config):
    def make(name: str = "student", classes: int = 4, seed: int = 0, **options):
        torch.manual_seed(seed)
        model = VipriorsForImageClassification(tiny_config(classes=classes, **options))
        folder = export_native(model, tmp_path / name)
        facts = CardFacts(name, "student", "resnet18", 32, [f"class{i}" for i in range(classes)], "pets", "overhaul")
        facts.scores = [ScoreRow("one centre crop", 0.75, (0.7, 0.8), role="model")]
        write_card(facts, folder)
        (folder / "metrics.json").write_text(json.dumps({"test": {"top1": 0.75}}))
        return folder

    return make


# Gathering


def test_files_of_a_student(student):
    publication = model_files(
        student(),
        NAME,
        examples={"Ankle boot": b"png"},
        curves=b"png",
        recipe="seed: 0\n",
        changes={"licence": "apache-2.0", "base_models": ["timm/resnet18.a1_in1k"]},
    )
    assert sorted(publication.files) == [
        "README.md", "config.json", "examples/ankle-boot.png", "metrics.json", "model.safetensors",
        "preprocessor_config.json", "recipe.yaml", "training_curves.png",
    ]  # fmt: skip
    card = ModelCard(publication.content("README.md").decode())
    assert card.data.widget == [{"src": "examples/ankle-boot.png", "example_title": "Ankle boot"}]
    assert card.data.license == "apache-2.0" and card.data.base_model == ["timm/resnet18.a1_in1k"]
    assert card.data.model_name == "flowers" and card.data.eval_results[0].metric_value == 0.75
    assert f'pipeline("image-classification", model="{NAME}")' in card.text
    assert f"hf-hub:{NAME}" in card.text and "training_curves.png" in card.text and "path/to" not in card.text
    assert publication.notes == [] and publication.kind == "student"
    assert sum(publication.sizes().values()) == sum(len(publication.content(name)) for name in publication.files)


def test_every_class_has_an_example_of_its_own(student):
    examples = {
        "猫": b"0",
        "犬": b"1",
        "हिन्दी": b"2",
        "C": b"3",
        "C#": b"4",
        "!": b"5",
        "two\nlines": b"6",
        "x" * 300: b"7",
    }
    found = model_files(student(), NAME, examples=examples)
    names = ["猫", "犬", "हिन्दी", "c", "c-2", "unnamed", "two-lines", "x" * 60]
    assert [found.content(f"examples/{name}.png") for name in names] == list(examples.values())
    widget = ModelCard(found.content("README.md").decode()).data.widget
    assert [each["example_title"] for each in widget] == [title.replace("\n", "␊") for title in examples]


def test_files_of_a_teacher(tmp_path, tiny_config):
    VipriorsModel(tiny_config(projector_dim=8)).save_pretrained(tmp_path / "teacher")
    publication = model_files(tmp_path / "teacher", NAME)
    assert sorted(publication.files) == [
        "config.json", "configuration_vipriors.py", "model.safetensors", "modeling_vipriors.py",
        "preprocessor_config.json",
    ]  # fmt: skip
    config = json.loads(publication.content("config.json"))
    assert config["auto_map"]["AutoModel"] == "modeling_vipriors.VipriorsModel"
    assert "auto_map" not in json.loads((tmp_path / "teacher" / "config.json").read_text()), (
        "the folder stays as it is"
    )
    assert publication.kind == "teacher" and "no card.json" in publication.notes[0]


def test_a_card_edited_by_hand_goes_as_it_is(student):
    folder = student()
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nMy own words.\n")
    publication = model_files(folder, NAME)
    assert publication.content("README.md").decode().endswith("\nMy own words.\n")
    placeholder = "with 'path/to/this/folder' where the name of the model belongs"
    assert publication.notes[0].startswith(f"README.md goes as it is, {placeholder}: it was edited by hand")
    edited = (folder / "README.md").read_text().replace("path/to/this/folder", NAME)
    (folder / "README.md").write_text(edited)
    assert model_files(folder, NAME).notes[0].startswith("README.md goes as it is: it was edited by hand")


def test_a_card_of_an_earlier_version_is_not_taken_for_an_edited_one(student, monkeypatch):
    folder = student()
    render = model_card_module.render
    monkeypatch.setattr(model_card_module, "render", lambda *a, **k: render(*a, **k) + "\n\nA new section.")
    publication = model_files(folder, NAME)
    assert publication.content("README.md").decode().endswith("A new section.\n") and not publication.notes
    values = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({k: v for k, v in values.items() if k != "card_sum"}))
    publication = model_files(folder, NAME)
    assert "A new section." not in publication.content("README.md").decode()
    assert publication.notes[0].startswith("README.md goes as it is, with 'path/to/this/folder' where")
    assert ": an earlier version wrote it, or it was edited by hand; remove it" in publication.notes[0]


def test_damaged_models_are_not_published(student):
    folder = student()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="model.safetensors"):
        model_files(folder, NAME)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="config.json is damaged"):
        model_files(folder, NAME)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="no exported student.*'bert'"):
        model_files(folder, NAME)
    with pytest.raises(InputError, match="no model in"):
        model_files(folder / "nowhere", NAME)


@pytest.mark.parametrize("name", ["flowers", "a/b/c", "me/-x", "me/a b", "me/x.git", "me/" + "x" * 100, "../x"])
def test_names_that_cannot_be(name):
    with pytest.raises(InputError, match="repo_id"):
        check_repo_id(name)


def test_tokens_are_never_published(student, monkeypatch):
    folder = student()
    secret = "hf_" + "aB3" * 11
    (folder / "metrics.json").write_text(json.dumps({"note": secret}))
    with pytest.raises(InputError, match="metrics.json holds what looks like a Hub token") as error:
        model_files(folder, NAME)
    assert secret not in error.value.on_command_line
    (folder / "metrics.json").write_text(json.dumps({"note": "my-own-kind-of-token"}))
    publication = model_files(folder, NAME)
    monkeypatch.setenv("HF_TOKEN", "my-own-kind-of-token")
    with pytest.raises(InputError, match="metrics.json"):
        check_no_secrets(publication)


# Pushing


def test_one_commit_with_all_files(logged_in, student):
    publication = model_files(student(), NAME, recipe="seed: 0\n")
    address = upload(publication)
    repository = logged_in.repository(NAME)
    assert len(repository.history()) == 2, "the one that made the repository, and ours"
    files = repository.files()
    assert {name: files[name] for name in publication.files} == {
        name: publication.content(name) for name in publication.files
    }
    assert address.endswith(repository.history()[0].oid) and not repository.private
    upload(publication)
    assert len(repository.history()) == 2, "nothing new, no commit"
    other = model_files(student("again", seed=1), NAME)
    upload(other, message="better")
    assert repository.history()[0].title == "better" and len(repository.history()) == 3


def test_private_and_revision(logged_in, student):
    publication = model_files(student(), NAME)
    upload(publication, private=True, revision="trial")
    repository = logged_in.repository(NAME)
    assert (
        repository.private and "config.json" in repository.files("trial") and "config.json" not in repository.files()
    )
    logged_in.add("owner/open")
    with pytest.raises(InputError, match="exists and is public"):
        upload(model_files(student(), "owner/open"), private=True)


def test_another_architecture_is_not_overwritten(logged_in, student, tiny_config, tmp_path):
    upload(model_files(student(), NAME))
    before = logged_in.repository(NAME).files()
    for other, word in (
        (student("more", classes=5), "num_classes 4, not 5"),
        (
            student("wide", backbone_args={"channels": [8, 8, 16, 32], "stem_type": "deep", "stem_width": 4}),
            "arguments",
        ),
        (student("net", backbone="test_convnext"), "'resnet18', not 'test_convnext'"),
    ):
        with pytest.raises(InputError, match="holds another model") as error:
            upload(model_files(other, NAME))
        assert word in error.value.on_command_line
    VipriorsModel(tiny_config()).save_pretrained(tmp_path / "teacher")
    with pytest.raises(InputError, match="model_type 'timm_wrapper', not 'vipriors'"):
        upload(model_files(tmp_path / "teacher", NAME))
    assert logged_in.repository(NAME).files() == before
    upload(model_files(student("more", classes=5), NAME), revision="five")  # on a branch of its own


@pytest.mark.parametrize(
    "files", [{"pytorch_model.bin": b"x"}, {"config.json": b"{"}, {"config.json": b"[]"}, {"config.json": b"{}"}]
)
def test_other_people_s_repositories(logged_in, student, files):
    logged_in.add(NAME).push(files)
    with pytest.raises(InputError, match="holds another model"):
        upload(model_files(student(), NAME))
    assert len(logged_in.repository(NAME).history()) == 2


def test_who_may(hub_here, student, monkeypatch):
    publication = model_files(student(), NAME)
    with pytest.raises(InputError, match="not logged in: run `hf auth login`"):
        upload(publication)
    for token, line in (
        ("hf_" + "x" * 34, "does not know your token"),
        (hub_here.read_token, "may not write"),
        (hub_here.stranger_token, "may not write"),
    ):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(InputError, match=line) as error:
            upload(publication)
        assert token not in error.value.on_command_line and "\n" not in error.value.on_command_line
    assert ("model", NAME) not in hub_here.repositories
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        check_login()


@pytest.mark.parametrize("fault", [None, CutReply(after=0), Status(500)])
def test_with_xet(logged_in, student, waits, monkeypatch, fault):
    """As most people have it: large files go another way, and a lost answer to the commit is asked for again."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    publication = model_files(student(), NAME)
    if fault is not None:
        logged_in.order(fault, "POST", "/commit/")
    upload(publication)
    files = logged_in.repository(NAME).files()
    assert all(files[name] == publication.content(name) for name in publication.files)
    assert len(logged_in.repository(NAME).history()) == 2, "one commit, also where its answer was lost"


@pytest.mark.parametrize(
    ("fault", "method", "path", "times"),
    [
        (Status(500), "POST", "/commit/", 2),
        (Status(503), "POST", "/preupload/", 2),
        (Status(429, retry_after=0), "POST", "/commit/", 3),
        (Status(500), "PUT", "", 2),
        (CutUpload(after=1000), "PUT", "", 1),
        (CutUpload(after=10), "POST", "/commit/", 1),
        (CutReply(after=0), "POST", "/commit/", 1),  # it was done, and nobody told us
    ],
)
def test_a_hub_that_stumbles(logged_in, student, waits, fault, method, path, times):
    publication = model_files(student(), NAME)
    logged_in.order(fault, method, path, times)
    upload(publication)
    repository = logged_in.repository(NAME)
    files = repository.files()
    assert all(files[name] == publication.content(name) for name in publication.files)
    assert len(repository.history()) == 2


def test_a_hub_that_is_down(logged_in, student, waits):
    publication = model_files(student(), NAME)
    logged_in.order(Status(500), "POST", "/commit/", times=uploading.ATTEMPTS)
    with pytest.raises(InputError, match="nothing there has changed, run the same again: the Hub answers 500"):
        upload(publication)
    assert len(logged_in.repository(NAME).history()) == 1
    upload(publication)
    assert len(logged_in.repository(NAME).history()) == 2


def test_somebody_pushes_in_between(logged_in, student):
    upload(model_files(student(), NAME))
    repository = logged_in.repository(NAME)
    logged_in.once("POST", "/commit/", lambda: repository.push({"notes.txt": b"theirs"}))
    second = model_files(student("second", seed=1), NAME)
    upload(second)
    files = repository.files()
    assert files["notes.txt"] == b"theirs" and files["model.safetensors"] == second.content("model.safetensors")
    other = json.dumps({"model_type": "timm_wrapper", "architecture": "vit", "num_classes": 4}).encode()
    logged_in.once("POST", "/commit/", lambda: repository.push({"config.json": other}))
    with pytest.raises(InputError, match="holds another model"):
        upload(model_files(student("third", seed=2), NAME))
    assert repository.files()["config.json"] == other


def test_two_pushes_at_once(logged_in, student):
    publications = [model_files(student(f"student{seed}", seed=seed), NAME) for seed in range(2)]
    failures = []

    def push(publication):
        try:
            upload(publication)
        except InputError as error:
            failures.append(error)

    threads = [threading.Thread(target=push, args=(each,)) for each in publications]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = logged_in.repository(NAME).files()
    whole = [
        all(files[name] == publication.content(name) for name in publication.files) for publication in publications
    ]
    assert not failures and sum(whole) == 1, "the later one, whole; never a mixture"


def test_spaces(logged_in, tmp_path):
    folder = tmp_path / "space"
    (folder / "examples").mkdir(parents=True)
    for name in ("app.py", "neighbours.safetensors", "examples/0.png"):
        (folder / name).write_bytes(b"x")
    (folder / "README.md").write_text("---\nsdk: gradio\napp_file: app.py\n---\n")
    publication = space_files(folder, "owner/demo")
    upload(publication)
    assert set(publication.files) <= set(logged_in.repository("owner/demo", "space").files())
    (folder / "examples" / "0.png").write_bytes(b"y")
    upload(space_files(folder, "owner/demo"))
    logged_in.add("owner/game", "space", sdk="gradio").push({"app.py": b"play()"})
    with pytest.raises(InputError, match="another program.*choose another space"):
        upload(space_files(folder, "owner/game"))


def test_a_static_space_replaces_the_page_of_the_hub_and_its_own_but_no_other(logged_in, tmp_path):
    (tmp_path / "index.html").write_text(f'<meta name="generator" content="{GENERATOR}">')
    (tmp_path / "README.md").write_text("---\nsdk: static\napp_file: index.html\n---\n")
    page = space_files(tmp_path, "owner/demo")
    logged_in.order(Status(403), "POST", "/commit/")
    with pytest.raises(InputError, match="run the same again"):
        upload(page)  # the Hub has made the Space by then, with a page to begin with
    upload(page)
    upload(page)
    space = logged_in.repository("owner/demo", "space")
    assert space.sdk == "static" and space.files()["index.html"] == page.content("index.html")
    for name, sdk, files, words in (
        ("owner/other", "static", {"index.html": b"<h1>Mine</h1>"}, "another page"),
        ("owner/ours", "gradio", {"app.py": b"", "neighbours.safetensors": b""}, "sdk 'gradio', not 'static'"),
    ):
        logged_in.add(name, "space", sdk=sdk).push(files)
        with pytest.raises(InputError, match=words):
            upload(space_files(tmp_path, name))
        assert logged_in.repository(name, "space").files() == files


def test_checks_before_a_training(logged_in, student):
    assert check_login() == "owner"
    publication = model_files(student(), NAME)
    check_free(publication)
    upload(publication)
    check_free(publication)
    assert identity_of(json.loads(publication.content("config.json"))) == publication.identity
    assert HfApi().model_info(NAME).id == NAME
