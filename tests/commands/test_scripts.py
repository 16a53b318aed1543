"""The scripts as a person runs them: real processes, the README's launcher, one and two of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
# accelerate starts several processes on accelerators only; on a CPU its processes are torchrun's.
PAIR = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def run(*command, code=0):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stderr[-3000:]
    return done


@pytest.mark.slow
@pytest.mark.parametrize("method", ["moco", "simclr"])
def test_teacher_on_two_processes(teacher_options, tmp_path, method):
    options = [*teacher_options, "--method", method, "--per_device_train_batch_size", "4", "--disable_tqdm", "false"]
    options += ["--eval_steps", "0.5"]
    done = run(*PAIR, "scripts/train_teacher.py", *options, "--output_dir", str(tmp_path / "teacher"))
    assert "global batch: 4 images x 2 processes" in done.stderr
    assert done.stderr.count("learning rate 0.000125") == 1, "only the main process speaks"
    assert "chance" in done.stderr and "kNN" in done.stderr
    assert 0 <= json.loads((tmp_path / "teacher" / "metrics.json").read_text())["knn"]["top1"] <= 1
    if method == "moco":
        newest = max((tmp_path / "teacher").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        index = load_file(newest / "model.safetensors")["queue_index"]
        assert len(set(index.tolist())) == len(index), "keys of both processes, none twice within an epoch"


@pytest.mark.slow
def test_student_on_two_processes(student_options, teacher_folder, tmp_path):
    options = [*student_options, "--teacher", str(teacher_folder), "--distil_from_epoch", "1"]
    run(*PAIR, "scripts/train_student.py", *options, "--output_dir", str(tmp_path / "student"))
    assert load_file(tmp_path / "student" / "model.safetensors")


@pytest.mark.slow
def test_one_process_through_the_launcher_then_evaluate(student_options, photos, tmp_path):
    student = str(tmp_path / "student")
    options = [*student_options, "--method", "supervised", "--max_steps", "2"]
    run(*LAUNCH, "scripts/train_student.py", *options, "--output_dir", student)
    data = ["--dataset_name", "imagefolder", "--data_dir", str(photos)]
    done = run(sys.executable, "scripts/evaluate.py", *data, "--model", student)
    assert "Scores on test" in done.stdout


def test_importing_the_package_is_enough_for_auto_model(teacher_folder):
    code = (
        "import hf_vipriors; from transformers import AutoModel; "
        f"print(type(AutoModel.from_pretrained({str(teacher_folder)!r})).__name__)"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "VipriorsModel"


def test_a_mistake_ends_with_one_line_and_exit_code_2(tmp_path):
    options = ["--dataset_name", "imagefolder", "--data_dir", "no/such/folder"]
    done = run(sys.executable, "scripts/train_teacher.py", *options, "--output_dir", str(tmp_path / "x"), code=2)
    assert [line for line in done.stderr.splitlines() if "no/such/folder" in line and line.startswith("error:")]
    assert "Traceback" not in done.stderr and not (tmp_path / "x").exists()


def test_the_package_runs_without_the_scripts_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hf_vipriors.commands.train_student", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "--feature_weight" in done.stdout and "--teacher" in done.stdout


@pytest.mark.parametrize("recipe", sorted((ROOT / "scripts" / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_parses(recipe):
    from hf_vipriors.commands.cli import Parser
    from hf_vipriors.training import DataArguments, StudentArguments, TeacherArguments

    kind = StudentArguments if "student" in recipe.name else TeacherArguments
    options = ["--config", str(recipe), "--use_cpu", "--bf16", "false", "--seed", "5"]
    options += ["--teacher", "outputs/teacher"] if kind is StudentArguments else []
    _, args = Parser([DataArguments, kind], "").parse(options)
    assert args.seed == 5 and not args.bf16, "the command line wins"
    if recipe.name == "vipriors_resnet50.yaml":
        assert (args.margin, args.queue_length, args.optim.value) == (0.4, 4096, "sgd")
