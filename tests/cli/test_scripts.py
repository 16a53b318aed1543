"""The scripts as a person runs them: real processes, the README's launcher, one and two of them."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_vipriors.cli import process
from hf_vipriors.cli import teacher as train_teacher
from hf_vipriors.cli.main import run_job
from hf_vipriors.errors import InputError
from hf_vipriors.training.checkpoints import checkpoint_state

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("several_jobs.py")
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
# accelerate starts several processes on accelerators only; on a CPU its processes are torchrun's.
PAIR = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def run(*command, code=0):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stderr[-3000:]
    return done


def test_every_script_runs_its_own_job():
    """One that was emptied would end well, and do nothing."""
    call = re.compile(r'^if __name__ == "__main__":\n    run_script\("([a-z]+)"\)\Z', re.MULTILINE)
    jobs = {path.stem: call.search(path.read_text().rstrip()) for path in (ROOT / "scripts").glob("*.py")}
    assert {name: found and found[1] for name, found in jobs.items()} == {
        **{name: name for name in ("benchmark", "evaluate", "quickstart", "reproduce")},
        **{
            "train_teacher": "teacher",
            "train_student": "student",
            "pretrain_student": "pretrain",
            "push_to_hub": "push",
        },
    }


@pytest.mark.slow
def test_teacher_on_two_processes(teacher_options, tmp_path, capsys):
    options = [*teacher_options, "--method", "moco", "--per_device_train_batch_size", "4", "--disable_tqdm", "false"]
    options += ["--eval_steps", "0.5"]
    done = run(*PAIR, "scripts/train_teacher.py", *options, "--output_dir", str(tmp_path / "teacher"))
    assert_teacher(tmp_path / "teacher", done.stderr)
    newest = max((tmp_path / "teacher").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    index = checkpoint_state(newest)["queue.index"]
    assert len(set(index.tolist())) == len(index), "keys of both processes, none twice within an epoch"
    options[options.index("4")] = "8"  # one process goes on with what two left, and their global batch
    more = ["--num_train_epochs", "4", "--resume_from_checkpoint", "true"]
    train_teacher.main([*options, *more, "--output_dir", str(tmp_path / "teacher")])
    logs = json.loads((tmp_path / "teacher" / "trainer_state.json").read_text())["log_history"]
    steps = [log["step"] for log in logs if "loss" in log]
    assert steps == sorted(set(steps)) and steps[0] == 1 and steps[-1] > int(newest.name.split("-")[1])
    assert "took steps of" not in capsys.readouterr().err


def assert_teacher(folder, said):
    assert "global batch: 4 images x 2 processes" in said
    assert said.count("learning rate 0.000125") == 1, "only the main process speaks"
    assert "chance" in said and "kNN" in said
    assert 0 <= json.loads((folder / "metrics.json").read_text())["knn"]["top1"] <= 1


DISTILLED = ["kd", "fitnet", "crd", "sskd", "fixmatch"]


@pytest.fixture(scope="module")
def pair(common, teacher_options, student_options, teacher_folder, classifier_folder, tmp_path_factory):
    """``pair(name)``: the folder of one of many jobs on the same two processes, and what both said about it."""
    root = tmp_path_factory.mktemp("pair")
    teacher = ["--teacher", str(teacher_folder)]
    small = ["--per_device_train_batch_size", "4"]
    jobs = {"simclr": ("train_teacher", [*teacher_options, "--method", "simclr", *small, "--disable_tqdm", "false"])}
    jobs["simclr"][1].extend(["--eval_steps", "0.5"])
    benchmark = [*common[-4:], "--image_sizes", "16", "--batch", "4", "--images", "32", "--use_cpu"]
    jobs["benchmark"] = ("benchmark", [*benchmark, "--steps", "1", "--warmup", "1", "--rounds", "2"])
    jobs["overhaul"] = ("train_student", [*student_options, *teacher, "--distil_from_epoch", "1"])
    label_free = [*common, *small, "--max_steps", "6", "--save_steps", "6", "--method"]
    jobs["seed"] = ("pretrain_student", [*label_free, "seed", *teacher, "--patches", "1"])
    dogo = ["--contrast", "moco", "--projector_dim", "8", "--peer_learning_rate", "1e-4"]
    jobs["dogo"] = ("pretrain_student", [*label_free, "dogo", *dogo])
    for method in DISTILLED:
        copy = shutil.copytree(classifier_folder, root / f"teacher of {method}")  # a head may be fitted beside it
        options = [*student_options, "--method", method, "--teacher", str(copy), "--per_device_train_batch_size", "3"]
        options += ["--backbone", "resnet10t", "--head_epochs", "1", "--logging_steps", "1", "--ema_decay", "0.9"]
        jobs[method] = ("train_student", options)
    written = [
        (name, f"scripts/{script}.py", [*options, "--output_dir", str(root / name)])
        for name, (script, options) in jobs.items()
    ]
    (root / "jobs.json").write_text(json.dumps(written))
    run(*PAIR, WORKER, root / "jobs.json")
    return lambda name: (root / name, "".join((root / f"{name}.{rank}.err").read_text() for rank in (0, 1)))


@pytest.mark.slow
def test_simclr_on_two_processes(pair):
    assert_teacher(*pair("simclr"))


@pytest.mark.slow
def test_benchmark_on_two_processes(pair):
    (found,) = json.loads((pair("benchmark")[0] / "benchmark.json").read_text())["benchmarks"]
    assert found["settings"]["processes"] == 2 and found["settings"]["global_batch"] == 8
    assert found["cases"][0]["images_per_step"] == 8 and len(found["cases"][0]["ratios"]["ceiling"]["rounds"]) == 2


@pytest.mark.slow
def test_student_on_two_processes(pair):
    assert load_file(pair("overhaul")[0] / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["seed", "dogo"])
def test_label_free_student_on_two_processes(pair, method):
    folder, said = pair(method)
    assert "global batch: 4 images x 2 processes" in said
    assert said.count("for transformers and timm alone") == 1, "only the main process speaks"
    assert 0 <= json.loads((folder / "metrics.json").read_text())["knn"]["top1"] <= 1
    state = checkpoint_state(folder / "checkpoint-6")
    queues = {"seed": ["queue", "patch_queue"], "dogo": ["peer_a.queue", "peer_b.queue"]}[method]
    for queue in queues:
        index = state[f"{queue}.index"].tolist()
        assert len(set(index)) == len(index) and min(index) >= 0, "keys of both processes, none twice within an epoch"
    saved = load_file(folder / "model.safetensors")
    prefix = {"seed": "student.", "dogo": "peer_a.model."}[method]
    assert all(torch.equal(tensor, state[prefix + name]) for name, tensor in saved.items())
    groups = torch.load(folder / "checkpoint-6" / "optimizer.pt", weights_only=True)["param_groups"]
    assert ({group["initial_lr"] for group in groups} == {1.25e-4, 1e-4}) == (method == "dogo")
    assert (folder / "native" / "model.safetensors").is_file() and (folder / "native" / "config.json").is_file()
    assert (folder / "peer" / "model.safetensors").is_file() == (method == "dogo")


@pytest.mark.slow
@pytest.mark.parametrize("method", DISTILLED)
def test_distilled_student_on_two_processes(pair, method):
    folder, said = pair(method)
    assert json.loads((folder / "metrics.json").read_text())["test"]["count"] == 12
    logs = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    assert all(math.isfinite(log["loss"]) for log in logs if "loss" in log)
    assert sum("loss" in log for log in logs) == 12, "36 images, 3 on each process, two epochs"
    assert load_file(folder / "model.safetensors")
    assert len(list((folder.parent / f"teacher of {method}").glob("sskd_head*"))) == (method == "sskd")
    assert said.count("head saved to") == (method == "sskd")


@pytest.mark.slow
def test_a_table_as_one_job(photos, tmp_path):
    options = {"dataset_name": "imagefolder", "data_dir": str(photos), "use_cpu": True, "method": "supervised"}
    options |= {"image_size": 32, "backbone": "test_resnet", "max_steps": 1, "per_device_train_batch_size": 6}
    table = {
        "title": "Tiny",
        "runs": {"one": {"job": "train_student", "options": options}},
        "groups": [{"title": "Tiny", "rows": [{"name": "one", "run": "one", "score": "test", "baseline": True}]}],
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps(table))
    command = ["--table", str(tmp_path / "tiny.yaml"), "--output_dir", str(tmp_path / "out"), "--seeds", "4"]
    done = run(sys.executable, "scripts/reproduce.py", *command)
    assert "1 of 1" in done.stdout and "one, seed 4" in done.stdout
    assert "**one**" in (tmp_path / "out" / "results.md").read_text()


@pytest.mark.slow
def test_one_process_through_the_launcher_then_evaluate(student_options, photos, tmp_path):
    student = str(tmp_path / "student")
    options = [*student_options, "--method", "supervised", "--max_steps", "2"]
    run(*LAUNCH, "scripts/train_student.py", *options, "--output_dir", student)
    data = ["--dataset_name", "imagefolder", "--data_dir", str(photos)]
    done = run(sys.executable, "scripts/evaluate.py", *data, "--model", student)
    assert "Scores on test" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        ("train_teacher", "{tiny} --method byol --projector_dim 8 --output_dir {out}", "saved to"),
        (
            "pretrain_student",
            "{tiny} --method seed --teacher {teacher} --output_dir {out}",
            "for transformers and timm",
        ),
        ("train_student", "{tiny} --teacher {teacher} --distil_from_epoch 0 --output_dir {out}", "saved to"),
        ("push_to_hub", "--model {student} --repo_id me/x --dry_run --onnx --space me/y --baseline {student}", "int8"),
        ("push_to_hub", "--model {teacher} --repo_id me/x --dry_run", "nothing was sent"),
        (
            "evaluate",
            "{data} --model {student} --ten_crop --output {out}.json --report {out} --corruptions",
            "page of images",
        ),
        ("evaluate", "--advise {data}", "images"),
        ("benchmark", "--image_sizes 16 --batch 4 --images 32 --use_cpu --steps 1 --warmup 1 --rounds 2", "ceiling"),
    ],
    ids=lambda value: value.split()[0],
)
def test_every_script_is_a_program(script, options, words, common, teacher_folder, classifier_folder, tmp_path):
    """With its main options: what lies beside it, such as evaluate.py, must hide no library.

    quickstart and reproduce have tests of their own.
    """
    tiny = [*common, *"--max_steps 1 --per_device_train_batch_size 4 --save_strategy no".split()]
    student = shutil.copytree(classifier_folder, tmp_path / "student")  # ONNX is written into it
    named = {"teacher": teacher_folder, "student": student, "out": tmp_path / "out"}
    lists = {"{tiny}": tiny, "{data}": common[:4]}
    given = [word for part in options.split() for word in lists.get(part) or [part.format_map(named)]]
    done = run(sys.executable, f"scripts/{script}.py", *given)
    assert words in " ".join((done.stdout + done.stderr).split()), done.stdout[-2000:] + done.stderr[-2000:]


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


@pytest.mark.slow
def test_several_processes_say_a_mistake_once(tmp_path):
    """The other process waits: the launcher ends both as soon as one has ended, and would cut the main one short."""
    options = ["--dataset_name", "imagefolder", "--data_dir", "no/such/folder", "--use_cpu"]
    done = run(*PAIR, "scripts/train_teacher.py", *options, "--output_dir", str(tmp_path / "x"), code=1)
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    assert "process 1:" not in done.stderr and "exitcode  : 2" in done.stderr and not (tmp_path / "x").exists()


def test_a_mistake_that_one_process_alone_meets_is_said(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(process, "MAIN_SPEAKS_FIRST", 0.0)

    def job():
        raise InputError("no such folder here")

    with pytest.raises(SystemExit) as stop:
        process.run(job)
    assert stop.value.code == 2 and "error: process 3: no such folder here" in capsys.readouterr().err


@pytest.mark.slow
def test_the_package_runs_without_the_scripts_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hf_vipriors", "student", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "--feature_weight" in done.stdout and "--teacher" in done.stdout


@pytest.mark.parametrize("recipe", sorted((ROOT / "scripts" / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_parses(recipe):
    from hf_vipriors.cli.parser import Parser
    from hf_vipriors.training import DataArguments, PretrainArguments, StudentArguments, TeacherArguments
    from hf_vipriors.training.resolve import complete

    script = re.search(r"scripts/(train_teacher|pretrain_student|train_student|quickstart)\.py", recipe.read_text())[1]
    kinds = {
        "train_teacher": TeacherArguments,
        "pretrain_student": PretrainArguments,
        "train_student": StudentArguments,
    }
    kind = kinds.get(script) or (StudentArguments if "student" in recipe.name else TeacherArguments)
    options = ["--config", str(recipe), "--use_cpu", "--bf16", "false", "--seed", "5"]
    needs_teacher = kind is StudentArguments or (kind is PretrainArguments and "seed" in recipe.name)
    options += ["--teacher", "outputs/teacher"] if needs_teacher else []
    _, args = Parser([DataArguments, kind], "").parse(options)
    assert args.seed == 5 and not args.bf16, "the command line wins"
    if recipe.name == "vipriors_resnet50.yaml":
        assert (args.margin, args.queue_length, args.optim.value) == (0.4, 4096, "sgd")
    if recipe.name == "vipriors_seed.yaml":
        assert (args.temperature, args.teacher_temperature, args.base_learning_rate) == (0.2, 0.01, 0.03)
    if recipe.name == "vipriors_dogo.yaml":
        assert (args.mutual_reduction, args.mutual_weight, args.peer_mutual_weight) == ("mean", 100, 1)
    if recipe.name == "sskd_cifar100.yaml":
        found = complete(args).args
        assert (found.classification_weight, found.kd_weight) == (0.1, 0.9)
        assert (found.transfer_weight, found.similarity_weight) == (2.7, 10)


CONFIGS = sorted((ROOT / "scripts" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_accelerate_config_is_known_to_accelerate(config):
    """Its own loader refuses unknown keys of a file, and knows each key of a section as an option of the launcher; the
    line above it launches that very file."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    loaded = load_config_from_file(str(config))
    (line,) = re.findall(r"^# accelerate launch (.*) \.\.\.$", config.read_text(), flags=re.M)
    launcher = launch_command_parser()
    known = {action.dest for action in launcher._actions}
    assert set(loaded.fsdp_config) <= known
    told = launcher.parse_args(line.split())
    assert told.config_file == f"scripts/accelerate/{config.name}" and (ROOT / told.training_script).is_file()
    kind = {"cpu": "NO", "single_gpu": "NO", "fsdp2": "FSDP"}.get(config.stem, "MULTI_GPU")
    assert loaded.distributed_type.value == kind and (loaded.num_machines > 1) == (config.stem == "multi_node")
    assert f"scripts/accelerate/{config.name}" in (ROOT / "scripts" / "README.md").read_text()


@pytest.mark.parametrize(
    ("job", "option"), [("pretrain", "--mutual_reduction"), ("reproduce", "--draw")], ids=["pretrain", "reproduce"]
)
def test_help_teaches(job, option, capsys):
    with pytest.raises(SystemExit) as stop:
        run_job(job, ["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and f"hf-vipriors {job}" in shown and option in shown
