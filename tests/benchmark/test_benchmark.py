"""A benchmark from its options to its files, on tiny networks; what is timed is in test_benchmark_runs.py."""

import json

import pytest
import torch

from hf_vipriors.benchmark import rivals as benchmark_rivals
from hf_vipriors.benchmark.arguments import METHODS, RIVALS, BenchmarkArguments
from hf_vipriors.benchmark.benchmark import main
from hf_vipriors.benchmark.report import case_figures
from hf_vipriors.benchmark.rivals import rival
from hf_vipriors.benchmark.runs import PARTS, Plan, split
from hf_vipriors.benchmark.setup import build_case, synthetic_images
from hf_vipriors.errors import InputError

TINY = json.dumps({"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4})
SMALL = [
    *("--backbone", "resnet18", "--backbone_args", TINY, "--image_sizes", "16", "--batch", "8", "--images", "32"),
    *("--steps", "2", "--warmup", "1", "--rounds", "2", "--use_cpu"),
]


def tiny(**options):
    common = {"backbone": "resnet18", "backbone_args": TINY, "image_sizes": [16], "batch": 8, "images": 32}
    return BenchmarkArguments(use_cpu=True, **(common | options))


def measured(folder, *options):
    main([*SMALL, "--output_dir", str(folder), *options])
    return json.loads((folder / "benchmark.json").read_text())["benchmarks"]


def test_a_benchmark_writes_what_it_measured(tmp_path, capsys):
    folder = tmp_path / "private"
    (found,) = measured(folder, "--image_sizes", "8", "16", "--scaling", "64", "16")
    assert found["title"] == "moco, resnet18 of 0.02 M, colour images, batch 8, fp32"
    assert found["command"].startswith("hf-vipriors benchmark --backbone resnet18")
    assert "private" not in json.dumps(found), "no path of the machine"
    assert found["machine"]["device"] == "CPU" and found["machine"]["cores"] >= 1
    assert {"torch", "timm", "python"} <= found["machine"]["versions"].keys()
    assert found["settings"]["processes"] == 1 and found["settings"]["global_batch"] == 8
    assert [case["image_size"] for case in found["cases"]] == [8, 16]
    for case in found["cases"]:
        assert case["images_per_step"] == 8
        assert {name: len(rounds) for name, rounds in case["seconds_per_step"].items()} == {
            "end_to_end": 2,
            "ceiling": 2,
        }
        ours, full = (case["seconds_per_step"][name] for name in ("end_to_end", "ceiling"))
        assert case["ratios"]["ceiling"]["rounds"] == [b / a for a, b in zip(ours, full, strict=True)]
        assert tuple(case["split"]) == PARTS
        assert all(case["split"][part] > 0 for part in PARTS), case["split"]
        assert case["peak_bytes"] > 2**20
    assert [row["images"] for row in found["scaling"]] == [16, 64], "smallest first"
    assert all(len(row["seconds_per_step"]) == 2 and row["images_per_second"] > 0 for row in found["scaling"])
    assert found["estimate"] == []
    assert (folder / "benchmark.png").read_bytes()[1:4] == b"PNG"
    said = capsys.readouterr().out
    assert "of the ceiling" in said and "Stores of other sizes" in said and "backward" in said


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_can_be_measured(method):
    case = build_case(tiny(method=method, channels=1), 8, steps=2)
    found = split(case, Plan(1, 1, 1))
    assert all(seconds > 0 for seconds in found.seconds.values()), found
    assert case.images_per_step == (32 if method == "fixmatch" else 8)
    assert (case.teacher is not None) == (method in ("seed", "overhaul", "kd", "fitnet", "crd", "sskd"))


@pytest.mark.parametrize("method", RIVALS["loop"])
def test_a_plain_loop_learns(method):
    case = build_case(tiny(method=method, teacher_backbone="resnet10t"), 16, steps=3)
    other = rival(case, Plan(1, 1, 2), workers=0)
    before = {name: p.clone() for name, p in other.recipe.named_parameters()}
    assert other.round() > 0
    moved = {name for name, p in other.recipe.named_parameters() if not torch.equal(p, before[name])}
    assert any(name.startswith("student") for name in moved)
    assert not any(name.startswith("teacher") for name in moved) and not other.recipe.teacher.training


def test_beside_a_plain_loop(tmp_path):
    (found,) = measured(tmp_path / "run", "--method", "kd", "--vs", "loop", "--vs_workers", "0")
    case = found["cases"][0]
    ours, theirs = case["seconds_per_step"]["end_to_end"], case["seconds_per_step"]["loop"]
    assert case["ratios"]["loop"]["rounds"] == [b / a for a, b in zip(ours, theirs, strict=True)]
    assert len(ours) == 2


def test_beside_lightly(tmp_path, capsys):
    pytest.importorskip("lightly")
    (found,) = measured(tmp_path / "run", "--vs", "lightly", "--vs_workers", "0")
    assert len(found["cases"][0]["seconds_per_step"]["lightly"]) == 2
    assert "lightly" in capsys.readouterr().out


def test_lightly_where_it_is_not_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_rivals.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main([*SMALL, "--output_dir", str(tmp_path / "run"), "--vs", "lightly"])
    assert ended.value.code == 2 and "pip install lightly" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_benchmarks_are_added_or_replaced_but_never_lost(tmp_path, capsys, monkeypatch):
    case = {"image_size": 16, **case_figures({"end_to_end": [2.0], "ceiling": [1.0]}, 8, dict.fromkeys(PARTS, 1.0), 9)}
    machine = {"device": "CPU", "cpu": "Chip", "cores": 2, "versions": {"torch": "2.15.0"}}
    rest = {"machine": machine, "settings": {"processes": 1, "torch_compile": False}, "scaling": [], "estimate": []}
    monkeypatch.setattr(
        "hf_vipriors.benchmark.benchmark.benchmark",
        lambda request, argv: {"title": request.method, "cases": [case], **rest},
    )
    first = measured(tmp_path)
    with pytest.raises(SystemExit):
        main([*SMALL, "--output_dir", str(tmp_path)])
    assert "--append" in capsys.readouterr().err
    both = measured(tmp_path, "--method", "simclr", "--append")
    assert both[0] == first[0] and [one["title"] for one in both] == ["moco", "simclr"]
    assert (tmp_path / "benchmark-2.png").is_file()
    assert len(measured(tmp_path, "--overwrite_output_dir")) == 1


def test_options_of_the_training_reach_it(tmp_path):
    options = ["--rounds", "1", "--options", '{"queue_length": 40}']
    with pytest.raises(SystemExit):
        main([*SMALL, "--output_dir", str(tmp_path), *options])  # 32 images: the training's own check
    case = build_case(tiny(images=64, options='{"queue_length": 40}'), 16, steps=1)
    assert len(case.method.queue) == 40


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "mocoo"], ["mocoo", "did you mean 'moco'"]),
        (["--precision", "fp16"], ["fp16", "bf16"]),
        (["--precision", "int8"], ["int8", "--precision"]),
        (["--channels", "4"], ["--channels", "4"]),
        (["--image_sizes", "16", "16"], ["--image_sizes", "once"]),
        (["--image_sizes", "4"], ["--image_sizes", "8"]),
        (["--rounds", "0"], ["--rounds"]),
        (["--vs", "lightly", "--method", "simclr"], ["simclr", "--vs lightly for moco"]),
        (["--vs", "solo"], ["solo", "--vs"]),
        (["--vs_workers", "2"], ["--vs"]),
        (["--teacher_backbone_args", "{}"], ["--teacher_backbone"]),
        (["--estimate"], ["--estimate", "--backbone resnet50 --image_sizes 224"]),
        (["--price_per_hour", "2"], ["--estimate"]),
        (["--options", '{"max_steps": 3}'], ["max_steps", "--options"]),
        (["--options", '{"queue_lenght": 3}'], ["queue_lenght", "queue_length"]),
        (["--batch", "64"], ["--batch 64", "32 images", "--images"]),
        (["--scaling", "4"], ["--scaling"]),
        (["--backbone", "resnet81"], ["resnet81"]),
    ],
)
def test_what_cannot_be_measured(tmp_path, capsys, options, words):
    with pytest.raises(SystemExit) as ended:
        main([*SMALL, "--output_dir", str(tmp_path / "run"), *options])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and all(word in said for word in words), said
    assert len(said.strip().splitlines()) == 1 and not (tmp_path / "run").exists()


def test_images_that_do_not_fit_into_memory():
    with pytest.raises(InputError, match="GiB, more than half of the free memory"):
        synthetic_images(10**9, 3, 224, 0)


def test_the_network_is_the_quickstarts_unless_another_is_given():
    ours = BenchmarkArguments()
    assert (ours.backbone, ours.backbone_args["stem_width"]) == ("resnet18", 8)
    assert (ours.teacher_backbone, ours.teacher_backbone_args) == (ours.backbone, ours.backbone_args)
    other = BenchmarkArguments(backbone="resnet18", teacher_backbone="resnet50")
    assert other.backbone_args == {} and other.teacher_backbone_args == {}
