"""The `evaluate` modules: values by hand and against a loop, and loading by path without network or cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

import hf_vipriors.evaluation.metrics
from hf_vipriors.evaluation.metrics import load_metric

FOLDER = Path(hf_vipriors.evaluation.metrics.__file__).parent


def compute(predictions, references):
    return load_metric("vipriors_accuracy").compute(predictions=predictions, references=references)


def test_four_images_by_hand():
    scores = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]]
    found = compute(scores, [0, 0, 1, 1])
    # Class 0: 2 of 2. Class 1: 1 of 2. Class 2 does not occur and must not count as 0.
    assert found == {
        "top1": 0.75,
        "top5": None,
        "balanced_accuracy": 0.75,
        "per_class_accuracy": [1.0, 0.5, None],
        "count": 4,
    }


def test_balanced_accuracy_is_the_mean_over_classes_not_over_images():
    found = compute([[1.0, 0.0]] * 9 + [[1.0, 0.0]], [0] * 9 + [1])
    assert found["top1"] == pytest.approx(0.9)
    assert found["balanced_accuracy"] == pytest.approx(0.5)


def test_top5_by_hand():
    rows = np.tile(np.arange(7, dtype=np.float32), (3, 1))  # ranking: 6 5 4 3 2 1 0
    found = compute(rows, [6, 2, 1])
    assert found["top1"] == pytest.approx(1 / 3)
    assert found["top5"] == pytest.approx(2 / 3)
    assert compute(rows[:, :5], [4, 2, 1])["top5"] is None
    assert compute(rows[:, :6], [4, 2, 0])["top5"] == pytest.approx(2 / 3)


def test_equal_scores_rank_in_class_order_like_argmax():
    found = compute(np.zeros((6, 6), dtype=np.float32), list(range(6)))
    assert found["top1"] == pytest.approx(1 / 6)
    assert found["top5"] == pytest.approx(5 / 6)


def loop(scores, labels):
    classes = scores.shape[1]
    first = five = 0
    right, total = [0] * classes, [0] * classes
    for row, label in zip(scores, labels, strict=True):
        order = sorted(range(classes), key=lambda c: (-row[c], c))
        first += order[0] == label
        five += label in order[:5]
        total[label] += 1
        right[label] += order[0] == label
    per_class = [r / t if t else None for r, t in zip(right, total, strict=True)]
    known = [value for value in per_class if value is not None]
    return first / len(labels), five / len(labels), sum(known) / len(known), per_class


@pytest.mark.parametrize("classes", [6, 10, 50])
def test_agrees_with_the_slow_loop(classes):
    rng = np.random.default_rng(classes)
    scores = rng.normal(size=(120, classes)).astype(np.float32).round(1)  # rounded: many ties
    labels = rng.integers(0, classes, 120)
    found = compute(scores, labels)
    top1, top5, balanced, per_class = loop(scores, labels)
    assert (found["top1"], found["top5"]) == pytest.approx((top1, top5))
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    assert found["per_class_accuracy"] == pytest.approx(per_class)


def test_probabilities_and_logits_score_the_same_in_every_container():
    logits = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 8, (40,), generator=torch.Generator().manual_seed(1))
    found = compute(logits, labels)
    assert found == compute(logits.softmax(dim=1).numpy(), labels.numpy())
    assert found == compute(logits.tolist(), labels.tolist())


def test_batches_add_up():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(30, 6)).astype(np.float32), rng.integers(0, 6, 30)
    metric = load_metric("vipriors_accuracy")
    for start in range(0, 30, 7):
        metric.add_batch(predictions=scores[start : start + 7], references=labels[start : start + 7])
    assert metric.compute() == compute(scores, labels)


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ([[0.5, 0.5], [1.0]], [0, 0]),
        ([0.5, 0.5], [0, 0]),
        ([[0.5, 0.5]], [2]),
        ([[0.5, 0.5]], [-1]),
        ([[0.5, 0.5]], [0, 1]),
        ([[float("nan"), 0.5]], [0]),
    ],
    ids=["ragged", "flat", "label too large", "negative label", "lengths", "nan"],
)
def test_bad_input_is_refused(predictions, references):
    with pytest.raises(ValueError):
        compute(predictions, references)


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'vipriors_accuracy'"):
        load_metric("vipriors_acuracy")


def test_every_metric_folder_holds_its_module():
    folders = [path for path in FOLDER.iterdir() if path.is_dir() and not path.name.startswith("__")]
    assert folders
    for folder in folders:
        source = (folder / f"{folder.name}.py").read_text(encoding="utf-8")
        # `evaluate` copies the file elsewhere; it must not lean on the package.
        assert not re.search(r"^\s*(import|from) (hf_vipriors|\.)", source, flags=re.MULTILINE)


OFFLINE = """
import socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("a metric tried to reach the network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import evaluate

for path in sys.argv[1:]:
    metric = evaluate.load(path)
    assert isinstance(metric, evaluate.Metric), metric
    found = metric.compute(predictions=[[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], references=[0, 1, 1])
    assert abs(found["top1"] - 2 / 3) < 1e-9, found
"""


def test_loads_by_path_with_an_empty_cache_and_no_network(tmp_path):
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
    environment = {**keep, "HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    # By folder and by file, and from a working directory that is not the repository.
    module = FOLDER / "vipriors_accuracy"
    command = [sys.executable, "-c", OFFLINE, str(module), str(module / "vipriors_accuracy.py")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_ours_needs_no_home_to_write_in(monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", "/dev/null/cache")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", "/dev/null/modules")
    assert compute([[0.9, 0.1]], [0])["top1"] == 1.0
