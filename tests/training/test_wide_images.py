"""Gray images of 16 bits: what is measured is what is served, or the data set is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, pipeline

from hf_vipriors.cli.student import main
from hf_vipriors.evaluation.predictions import read_predictions
from hf_vipriors.hub.native_export import load_native
from hf_vipriors.scoring.evaluate import EvaluationArguments, measure
from hf_vipriors.training import DataArguments

LEVELS = {"bright": 3000, "dark": 600, "middle": 1500}
SCALE = 4095


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """imagefolder: 3 classes that differ in brightness alone, half PNG and half TIFF."""
    root, random = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for name, level in LEVELS.items():
        for split, count in (("train", 10), ("validation", 4), ("test", 10)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                values = random.normal(level, 60, (20, 24)).clip(0, SCALE).astype(np.uint16)
                Image.fromarray(values).save(root / split / name / f"{number}.{'png' if number % 2 else 'tif'}")
    return root


@pytest.fixture(scope="module")
def options(common, scans):
    at = common.index("--data_dir")
    return [
        *(*common[:at], "--data_dir", str(scans), *common[at + 2 :], "--method", "supervised"),
        *("--per_device_train_batch_size", "10", "--learning_rate", "0.05", "--num_train_epochs", "20"),
        *("--save_strategy", "no"),
    ]


@pytest.fixture(scope="module")
def scan_student(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("students") / "scans"
    main([*options, "--full_scale", str(SCALE), "--output_dir", str(folder)])
    return folder


def converted(path, card):
    """By the line of the card, and by nothing else."""
    with Image.open(path) as image:
        return eval(card.split("converted by `")[1].split("`")[0], {"Image": Image, "np": np, "image": image})


def test_our_figure_is_that_of_the_pipeline_on_images_converted_as_the_card_says(scan_student, scans):
    card = (scan_student / "README.md").read_text()
    classify = pipeline("image-classification", model=str(scan_student), top_k=3)
    rows = [
        {entry["label"]: entry["score"] for entry in classify(converted(path, card).convert("RGB"))}
        for name in sorted(LEVELS)
        for path in sorted((scans / "test" / name).iterdir())
    ]
    served = torch.tensor([[row[name] for name in sorted(LEVELS)] for row in rows])
    measured = read_predictions(scan_student)
    torch.testing.assert_close(measured.values.float(), served, atol=1e-3, rtol=0)  # kept as float16
    right = (served.argmax(1) == measured.labels).float().mean().item()
    figures = json.loads((scan_student / "metrics.json").read_text())
    assert figures["test"]["top1"] == pytest.approx(right) and right > 0.9


def test_the_full_scale_travels_with_the_model(scan_student, scans, tmp_path):
    assert json.loads((scan_student / "run.json").read_text())["data"]["full_scale"] == SCALE
    AutoConfig.from_pretrained(scan_student).save_pretrained(tmp_path)  # as whoever saves it again
    assert json.loads((tmp_path / "config.json").read_text())["full_scale"] == SCALE
    assert load_native(scan_student).config.full_scale == SCALE
    data = DataArguments("imagefolder", data_dir=str(scans))
    args = EvaluationArguments(
        [str(scan_student)], knn=False, linear=False, compare=["fashion-vipriors-teacher"], device="cpu"
    )
    found = measure(data, args)
    figures = json.loads((scan_student / "metrics.json").read_text())
    assert found.results[str(scan_student)]["top-1"].top1 == figures["test"]["top1"]
    (network,) = found.compared.networks  # that knows no full scale sees the same gray values
    assert network.result.top1 > 0.9


@pytest.mark.parametrize("on_bad_image", ["error", "skip"])
@pytest.mark.parametrize("memory_share", ["0.5", "0"])
def test_without_a_full_scale_the_data_set_is_refused_in_one_line(
    options, on_bad_image, memory_share, tmp_path, capsys
):
    more = ["--on_bad_image", on_bad_image, "--memory_share", memory_share, "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main([*options, *more])
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and not (tmp_path / "out").exists()
    assert "30 of 30 train images hold gray values that do not fit 8 bits, up to 3" in line
    assert "bright" in line and "--full_scale 4095" in line


@pytest.mark.parametrize("given", [[], ["--full_scale", "65535"]])
def test_a_teacher_of_another_full_scale_is_refused(options, scan_student, given, tmp_path, capsys):
    more = ["--method", "kd", "--teacher", str(scan_student), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        main([*options, *more, *given])
    assert ended.value.code == 2 and "was trained on gray images with --full_scale 4095" in capsys.readouterr().err
