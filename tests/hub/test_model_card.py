"""Model cards: the metadata the Hub reads, and that every number on a card was measured."""

from __future__ import annotations

import ast
import dataclasses
import re

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from hf_vipriors.hub.card_facts import CardFacts, Paper, ScoreRow
from hf_vipriors.hub.model_card import model_card
from hf_vipriors.markup import visible


@pytest.fixture
def student():
    return CardFacts(
        model_name="fashion: student",  # the colon must survive YAML
        kind="student",
        backbone="resnet18",
        image_size=56,
        class_names=["T-shirt/top", "Trouser", "Coat"],
        dataset_name="Fashion-VIPriors (50 images per class)",
        method="overhaul",
        settings={"lambda": 1e-4, "odd|name": "a|b"},
        scores=[
            ScoreRow("student, one crop", 0.8383, (0.8215, 0.8537), 0.9971, "model", "EMA weights"),
            ScoreRow("student, ten crops", 0.8421, (0.8255, 0.8574), 0.9982, "model"),
            ScoreRow("supervised from scratch", 0.8123, (0.7946, 0.8288), 0.9716, "baseline", "mixup, EMA"),
            ScoreRow("fine-tuned", 0.8234),
        ],
        verdict=["student, one crop beats supervised from scratch by 2.6 points."],
        params=703_626,
        dataset_sources=["zalando-datasets/fashion_mnist"],
        dataset_licence="MIT",
        dataset_counts={"train": 500, "test": 2000, "unlabelled": 5000},
        per_class={"T-shirt/top": 0.7654, "Trouser": 0.9432, "Coat": None},
        seconds=455.0,
        hardware="2 CPU cores",
        versions={"torch": "2.15.0", "timm": "1.0.31"},
        teacher=["outputs/teacher (moco)"],
        papers=[Paper("Distilling Visual Priors", "https://arxiv.org/abs/2008.00261")],
        licence="apache-2.0",
    )


@pytest.fixture
def teacher():
    return CardFacts(
        model_name="fashion-teacher",
        kind="teacher",
        backbone="resnet18",
        image_size=56,
        class_names=["a", "b"],
        dataset_name="Fashion-VIPriors",
        method="moco",
        scores=[ScoreRow("weighted kNN (k 20, T 0.07)", 0.7512, (0.73, 0.77), role="model")],
    )


def reload(card, tmp_path):
    card.save(tmp_path / "README.md")
    return ModelCard.load(tmp_path / "README.md")


def test_student_metadata_parses_back(student, tmp_path):
    data = reload(model_card(student), tmp_path).data
    assert data.pipeline_tag == "image-classification"
    assert data.library_name == "transformers"
    assert "timm" in data.tags and "image-classification" in data.tags
    assert data.license == "apache-2.0"
    assert data.datasets == ["zalando-datasets/fashion_mnist"]
    assert data.metrics == ["accuracy"]
    assert data.model_name == "fashion: student"


def test_model_index_numbers_are_the_facts(student, tmp_path):
    results = reload(model_card(student), tmp_path).data.eval_results
    found = {result.metric_name: result.metric_value for result in results}
    assert found == {
        "Top-1 accuracy (student, one crop)": 0.8383,
        "Top-5 accuracy (student, one crop)": 0.9971,
        "Top-1 accuracy (student, ten crops)": 0.8421,
        "Top-5 accuracy (student, ten crops)": 0.9982,
    }
    assert {result.task_type for result in results} == {"image-classification"}
    assert {result.dataset_name for result in results} == {"Fashion-VIPriors (50 images per class)"}
    # The images come from Fashion-MNIST, but the test set is not Fashion-MNIST's: no result is claimed on that.
    assert {result.dataset_type for result in results} == {"fashion-vipriors-50-images-per-class"}


def test_model_index_names_the_data_set_that_was_measured_on(student, tmp_path):
    student.dataset_id = "someone/fashion-vipriors"
    data = reload(model_card(student), tmp_path).data
    assert {result.dataset_type for result in data.eval_results} == {"someone/fashion-vipriors"}
    assert data.datasets == ["someone/fashion-vipriors", "zalando-datasets/fashion_mnist"]


def test_the_baseline_stands_beside_but_is_not_claimed_as_the_models_own(student, tmp_path):
    card = reload(model_card(student), tmp_path)
    line = next(line for line in card.text.splitlines() if line.startswith("| supervised from scratch"))
    assert "(supervised baseline)" in line and "81.2 | 79.5 to 82.9" in line and "97.2" in line
    values = {result.metric_value for result in card.data.eval_results}
    assert 0.8123 not in values and 0.8234 not in values
    assert "No supervised baseline" not in card.text


def test_a_card_without_a_baseline_says_so(student):
    student.scores = [row for row in student.scores if row.role != "baseline"]
    assert "No supervised baseline was measured" in model_card(student).text


def test_the_student_card_shows_what_was_measured(student):
    text = model_card(student).text
    for part in (
        "on 2,000 test images",
        "| **student, one crop**<br>EMA weights | 83.8 | 82.2 to 85.4 | 99.7 |",
        "| fine-tuned | 82.3 | – | – |",
        "student, one crop beats supervised from scratch by 2.6 points.",
        "| Trouser | 94.3 |",
        "703,626 parameters, input 56 x 56 pixels",
        "images under MIT",
        "unlabelled: 5,000 images",
        "8 min on 2 CPU cores",
        "outputs/teacher (moco)",
        r"| odd\|name | a\|b |",
        "torch 2.15.0, timm 1.0.31",
        "[Distilling Visual Priors](https://arxiv.org/abs/2008.00261)",
        "T-shirt/top, Trouser, Coat.",
    ):
        assert part in text, part
    assert "| Coat |" not in text  # no image of the class: no accuracy


def shown(markdown: str) -> list[str]:
    """The texts that a reader of Markdown sees: of each paragraph, heading and cell."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return [
        "".join(part.content for part in token.children if part.type in ("text", "softbreak", "text_special"))
        for token in parser.parse(markdown)
        if token.type == "inline" and not any(part.type == "code_inline" for part in token.children[:1])
    ]


ODD = [
    "__background__", "<unknown>", "<br>", "`a`", "[a](b)", "![a](b)", "a|b", "a\\|b", "\\", "*", "**b**", "~~s~~",
    "$x$", "&lt;", "&", "C# #", "猫", "a_b", "_a_", "- x", "# x", "  two  spaces ", "two\nlines", "--- \n---\n",
    "a: b", "'\"", "{{ x }}", "\t",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_names_are_shown_as_they_are(student, teacher, name, tmp_path):
    seen = visible(name)
    assert "\n" not in seen
    student.class_names, student.per_class = [name, "Coat"], {name: 0.5}
    student.teacher, student.warnings, student.settings = [name, "x"], [f"few of {name}."], {"option": name}
    student.scores = [ScoreRow(name, 0.8, role="model", note=name)]
    for facts in (student, teacher):
        facts.model_name = facts.dataset_name = name
        card = reload(model_card(facts), tmp_path)
        texts = [text.replace("\xa0", " ") for text in shown(card.text)]
        assert seen in texts, "the heading"
        assert any(seen in text for text in texts if text.startswith(("An image classifier", "A feature extractor")))
        assert f"Data: {seen}" in [text.split(", images under")[0] for text in texts]
        assert card.data.model_name == seen and card.data.eval_results[0].dataset_name == seen
    texts = [text.replace("\xa0", " ") for text in shown(model_card(student).text)]
    assert {f"Classes: {seen}, Coat.", f"{seen}{seen}", f"Came from: {seen} <- x"} <= set(texts)
    assert texts.count(seen) == 3, "as heading, class and setting"
    assert f"Warned while it trained: few of {seen}." in texts


def test_tables_are_whole(student):
    tables = re.findall(r"(?:^\|.*\n)+", model_card(student).text, flags=re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_what_was_not_measured_is_left_out(tmp_path):
    facts = CardFacts("bare", "student", "resnet18", 32, ["cat", "dog"], "pets", "supervised")
    card = reload(model_card(facts), tmp_path)
    assert card.data.eval_results is None and card.data.metrics is None
    assert card.data.license is None and card.data.datasets is None
    for word in ("None", "Results", "Training time", "parameters", "Versions", "Papers", "Came from", "Settings", "%"):
        assert word not in card.text, word
    assert "\n\n\n" not in card.content


def test_teacher_metadata_parses_back(teacher, tmp_path):
    card = reload(model_card(teacher), tmp_path)
    assert card.data.pipeline_tag == "image-feature-extraction"
    assert card.data.library_name == "hf_vipriors"
    assert [(r.metric_name, r.metric_value) for r in card.data.eval_results] == [("Top-1 accuracy", 0.7512)]
    assert "**weighted kNN (k 20, T 0.07)** | 75.1 | 73.0 to 77.0" in card.text
    assert "pipeline(" not in card.text


@pytest.mark.parametrize("repo_id", [None, "someone/model"])
def test_snippets_are_python_and_name_the_place(student, teacher, repo_id):
    student.repo_id = teacher.repo_id = repo_id
    place = repo_id or "path/to/this/folder"
    text = model_card(student).text
    for snippet in re.findall(r"```python\n(.*?)```", text + model_card(teacher).text, flags=re.DOTALL):
        ast.parse(snippet)
        assert place in snippet
    assert f'pipeline("image-classification", model="{place}")' in text
    timm = "hf-hub:someone/model" if repo_id else "local-dir:path/to/this/folder"
    assert f'timm.create_model("{timm}", pretrained=True)' in text
    assert "load_native(" in text
    assert f'AutoModel.from_pretrained("{place}")' in model_card(teacher).text


def test_snippets_import_what_exists(student, teacher):
    text = model_card(student).text + model_card(teacher).text
    imports = set(re.findall(r"from (hf_vipriors[\w.]*) import (\w+)", text))
    assert imports == {("hf_vipriors.hub.native_export", "load_native"), ("hf_vipriors.models", "VipriorsModel")}
    for module, name in imports:
        assert name in vars(__import__(module, fromlist=[name]))


def test_many_classes_are_not_all_listed(student):
    student.class_names = [f"class {number}" for number in range(1000)]
    text = model_card(student).text
    assert "class 9, ... (1000 in `config.json`)" in text and "class 10," not in text


@pytest.mark.parametrize(
    "change",
    [{"top1": 83.8}, {"top1": float("nan")}, {"top5": 99.7}, {"interval": (0.9, 0.95)}, {"role": "mine"}],
    ids=str,
)
def test_scores_that_cannot_be_are_refused(change):
    with pytest.raises(ValueError):
        dataclasses.replace(ScoreRow("x", 0.8, (0.7, 0.9)), **change)
