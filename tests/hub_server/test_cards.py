"""Metadata that the Hub refuses: before anything is sent, and again with the commit."""

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import BadRequestError
from huggingface_hub.repocard_data import EvalResult

NAME = "owner/model"


def scores(**changes):
    result = {
        "task_type": "image-classification",
        "dataset_type": "a/b",
        "dataset_name": "A",
        "metric_type": "accuracy",
    }
    result |= {"metric_value": 0.5} | changes
    return ModelCardData(model_name="m", eval_results=[EvalResult(**result)]).to_yaml()


GOOD = [
    "license: apache-2.0\npipeline_tag: image-classification\nlibrary_name: timm",
    "license: [mit, other]\ndatasets: [zalando-datasets/fashion_mnist]\nbase_model: timm/resnet18.a1_in1k",
    scores(),
]
BAD = {
    "license: Apache 2": '"license" must be one of',
    "pipeline_tag: image-classifier": '"pipeline_tag" must be one of',
    "tags: vision": '"tags" must be an array',
    "datasets: [Fashion MNIST]": "Fashion MNIST",
    scores(dataset_type="Fashion MNIST"): "results[0].dataset.type",
    scores().replace("value: 0.5", "verified: false"): "metrics[0].value",
    scores().split("    metrics:")[0]: "results[0].metrics",
    "license: [mit": "YAML",
    "just words": "must be an object",
}


def card(data: str) -> str:
    return f"---\n{data}\n---\n\n# A model\n"


@pytest.fixture
def api(hub_here):
    hub_here.add(NAME)
    return HfApi(token=hub_here.write_token)


def test_good_metadata(hub_here, api):
    for data in GOOD:
        api.upload_file(repo_id=NAME, path_in_repo="README.md", path_or_fileobj=card(data).encode())
        again = ModelCard.load(NAME)
        assert again.data.to_dict() == ModelCard(card(data)).data.to_dict() and again.data.to_dict()


def test_bad_metadata(hub_here, api):
    for data, message in BAD.items():
        with pytest.raises(ValueError, match="Invalid metadata in README.md") as error:
            api.upload_file(repo_id=NAME, path_in_repo="README.md", path_or_fileobj=card(data).encode())
        assert message in str(error.value), data
    assert not hub_here.requests("POST", "/preupload/")


def test_a_commit_is_checked_too(hub_here, api, monkeypatch):
    monkeypatch.setattr(api, "_validate_yaml", lambda *_, **__: None)
    with pytest.raises(BadRequestError, match="license"):
        api.create_commit(NAME, [CommitOperationAdd("README.md", card("license: mine").encode())], commit_message="no")
    assert hub_here.repository(NAME).files() == {}


def test_a_card_without_metadata_is_only_warned_about(hub_here, api):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(repo_id=NAME, path_in_repo="README.md", path_or_fileobj=b"# A model\n")
    assert hub_here.repository(NAME).files() == {"README.md": b"# A model\n"}


def test_a_space(hub_here, api):
    hub_here.add("owner/space", "space", sdk="gradio")
    options = {"repo_id": "owner/space", "repo_type": "space", "path_in_repo": "README.md"}
    for data, message in (
        ("title: t", '"sdk" is required'),
        ("sdk: gradio\ncolorFrom: mauve", '"colorFrom" must be one of'),
        (f"sdk: static\nshort_description: {'x' * 61}", "60 characters"),
    ):
        with pytest.raises(ValueError, match="Invalid metadata") as error:
            api.upload_file(path_or_fileobj=card(data).encode(), **options)
        assert message in str(error.value), data
    fine = "sdk: gradio\ncolorTo: pink\nlicense: mit\nshort_description: fine"
    api.upload_file(path_or_fileobj=card(fine).encode(), **options)
    assert api.space_info("owner/space").card_data.colorTo == "pink"
