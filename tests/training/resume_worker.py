"""Run by test_exact_resume.py: commands in forks of one process, killed at a moment that a seed chose, and resumed.

    python resume_worker.py FOLDER PHOTOS KILLS CASE [CASE ...]

A moment is a call of what a training is made of: an event of the Trainer, a batch that is fetched, for training or
for evaluation, a loss, a backward pass, a file that is written (then it is cut in two first), brought to the disk,
hashed, renamed or removed. A first run, which nobody kills, counts them.
"""

import gc
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import safetensors.torch
import torch
from torch.utils.data.dataloader import _BaseDataLoaderIter
from transformers.trainer_callback import CallbackHandler
from worlds import in_world

from hf_vipriors.cli import pretrain as pretrain_student
from hf_vipriors.cli import student as train_student
from hf_vipriors.cli import teacher as train_teacher
from hf_vipriors.training import MethodTrainer, checkpoints

TINY = json.dumps({"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4})
COMMON = [
    *("--dataset_name", "imagefolder", "--use_cpu", "--disable_tqdm", "true", "--report_to", "none"),
    *("--image_size", "16", "--backbone", "resnet18", "--backbone_args", TINY, "--max_steps", "20"),
    *("--save_steps", "3", "--eval_steps", "4", "--logging_steps", "5", "--corruptions", "false"),
]
TEACHING = [word for word in COMMON if word not in ("--corruptions", "false")] + ["--projector_dim", "8"]
SIX, EIGHT = (["--per_device_train_batch_size", size] for size in ("6", "8"))
TWICE = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"]
SUPERVISED = ["--method", "supervised"]
PAIRED = ["--unlabelled_ratio", "2"]
# Of a case: the command, its options, and the case whose result is its teacher.
CASES = {
    "moco": (train_teacher, [*TEACHING, *EIGHT, "--queue_length", "16"], None),
    "simclr": (train_teacher, [*TEACHING, *TWICE, "--method", "simclr"], None),
    "streamed": (train_teacher, [*TEACHING, *EIGHT, "--memory_share", "0", "--dataloader_num_workers", "2"], None),
    "seed": (pretrain_student, [*TEACHING[:-2], *EIGHT, "--method", "seed", "--queue_length", "16"], "moco"),
    "dogo": (pretrain_student, [*TEACHING, *EIGHT, "--method", "dogo", "--queue_length", "16"], None),
    "supervised": (
        train_student,
        [*COMMON, *SIX, *SUPERVISED, "--mixup", "0.4", "--cutmix", "1", "--ema_decay", "0.9"],
        None,
    ),
    "epochs": (train_student, [*COMMON, *SIX, *SUPERVISED, "--eval_strategy", "epoch", "--mixup", "0.4"], None),
    "overhaul": (train_student, [*COMMON, *TWICE, "--method", "overhaul", "--distil_from_epoch", "1"], "moco"),
    "kd": (train_student, [*COMMON, *SIX, "--method", "kd", *PAIRED], "supervised"),
    "fixmatch": (train_student, [*COMMON, *SIX, "--method", "fixmatch", *PAIRED], None),
    "adamatch": (train_student, [*COMMON, *SIX, "--method", "fixmatch", *PAIRED, "--threshold", "relative"], None),
    "softmatch": (train_student, [*COMMON, *SIX, "--method", "fixmatch", *PAIRED, "--threshold", "soft"], None),
    "sskd": (train_student, [*COMMON, *SIX, "--method", "sskd"], "supervised"),
    "crd": (train_student, [*COMMON, *SIX, "--method", "crd", "--negatives", "8"], "supervised"),
}
SAVING = ("save", "fsync", "hash", "rename", "remove")


class Moments:
    """Counts the moments of this process, and kills it at one of them."""

    def __init__(self, deadly: int | None, how: signal.Signals = signal.SIGKILL):
        self.deadly, self.how, self.names, self.process = deadly, how, [], os.getpid()
        for where, what, name in (
            (CallbackHandler, "call_event", "event"),
            (_BaseDataLoaderIter, "__next__", "batch"),
            (MethodTrainer, "compute_loss", "loss"),
            (torch.Tensor, "backward", "backward"),
            (os, "fsync", "fsync"),
            (os, "rename", "rename"),
            (checkpoints, "_digest", "hash"),
            (shutil, "rmtree", "remove"),
            (torch, "save", "save"),
            (safetensors.torch, "save_file", "save"),
        ):
            setattr(where, what, self.counted(getattr(where, what), name))

    def counted(self, function, name):
        def wrapper(*args, **options):
            if os.getpid() != self.process:
                return function(*args, **options)
            self.names.append(f"event {args[1]}" if name == "event" else name)
            if len(self.names) - 1 == self.deadly:
                if name == "save":
                    function(*args, **options)
                    os.truncate(args[1], os.path.getsize(args[1]) // 2)
                os.kill(os.getpid(), self.how)
            return function(*args, **options)

        return wrapper


def fork(work, log: Path) -> int:
    """Run ``work`` in a fork that writes its lines to ``log``; the process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log.open("a") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class Case:
    """One command in a folder of its own."""

    def __init__(self, name: str, folder: Path, photos: Path):
        self.command, options, teacher = CASES[name]
        self.name, self.folder = name, folder
        options = [*options, "--data_dir", str(photos)]
        self.teacher = folder / name / "teacher"
        if teacher is not None:  # a copy: a head may be fitted beside it
            shutil.copytree(folder / teacher / "whole", self.teacher)
            options += ["--teacher", str(self.teacher)]
        self.options = options

    def start(self, run: str, *more: str, deadly: int | None = None, moments: Path | None = None) -> int:
        def work():
            counter = Moments(deadly)
            self.command.main([*self.options, "--output_dir", str(self.folder / self.name / run), *more])
            if moments is not None:
                moments.write_text(json.dumps(counter.names))

        return fork(work, self.folder / self.name / f"{run}.log")

    def run(self, run: str, *more: str, **options) -> int:
        return end(self.start(run, *more, **options))

    def resume(self, run: str) -> int:
        begun = self.folder / self.name / run
        if not begun.exists():
            return self.run(run)
        whole = any(map(checkpoints.complete_checkpoint, begun.glob("checkpoint-*")))
        return self.run(run, *(["--resume_from_checkpoint", "true"] if whole else ["--overwrite_output_dir"]))

    def whole(self) -> list[str]:
        """The run that nobody kills, and its moments."""
        (self.folder / self.name).mkdir(exist_ok=True)
        moments = self.folder / self.name / "moments.json"
        started = time.perf_counter()
        assert self.run("whole", moments=moments) == 0, (self.folder / self.name / "whole.log").read_text()[-3000:]
        self.seconds = time.perf_counter() - started
        return json.loads(moments.read_text())


def kill_and_resume(case: Case, kills: int) -> list[dict]:
    """As many kills, every other one while a checkpoint is saved.

    Of the baseline one more when all steps are taken, and one by the clock, at any moment indeed.
    """
    names, draw, told = case.whole(), random.Random(case.name), []
    first = names.index("event on_step_end")
    saving = [at for at, name in enumerate(names) if name in SAVING and at > first]
    moments = [draw.choice((saving, range(first, len(names)))[number % 2]) for number in range(kills)]
    if case.name == "supervised":
        moments.append(len(names) - 1 - names[::-1].index("event on_train_end"))
    for number, deadly in enumerate(moments):
        run = f"killed{number}"
        for head in case.teacher.glob("sskd_head-*"):
            head.unlink()
        code = case.run(run, deadly=deadly)
        told.append({"run": run, "at": f"{deadly} of {len(names)}: {names[deadly]}", "killed": code})
        told[-1]["resumed"] = case.resume(run)
    if case.name == "supervised":
        process = case.start("clock")
        time.sleep(draw.random() * case.seconds)
        os.kill(process, signal.SIGKILL)
        told.append({"run": "clock", "at": "any", "killed": end(process), "resumed": case.resume("clock")})
    return told


def several(folder: Path, photos: Path) -> list[dict]:
    """Two processes, of which the second is killed at a step, or gets a signal; then both are resumed."""
    options = [*TEACHING, "--per_device_train_batch_size", "4", "--queue_length", "16", "--data_dir", str(photos)]
    (folder / "two").mkdir()

    def work(run: str, *more: str, deadly: int | None = None, how: signal.Signals = signal.SIGKILL):
        second = os.environ["RANK"] == "1"
        if second:
            Moments(deadly, how)
        try:
            train_teacher.main([*options, "--output_dir", str(folder / "two" / run), *more])
        except SystemExit as stop:
            (folder / "two" / f"{run}.{second:d}.code").write_text(str(stop.code))

    in_world(2, lambda: work("whole"))
    told = []
    for run, how in (("killed", signal.SIGKILL), ("stopped", signal.SIGTERM)):
        try:
            in_world(2, lambda run=run, how=how: work(run, deadly=150, how=how))
        except RuntimeError:
            pass
        codes = sorted((folder / "two").glob(f"{run}.*.code"))
        killed = [int(code.read_text()) for code in codes] or -9
        told.append({"run": run, "at": "150 of the second process", "killed": killed, "resumed": 0})
        found = checkpoints.checkpoints_in(folder / "two" / run)
        told[-1]["checkpoints"] = [checkpoints.checkpoint_step(one) for one in found]
        in_world(2, lambda run=run: work(run, "--resume_from_checkpoint", "true"))
    return told


if __name__ == "__main__":
    torch.set_num_threads(1)
    gc.freeze()  # what the imports made is not searched for garbage in each fork
    out, images, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    for chosen in sys.argv[4:]:
        if chosen == "two":
            story = several(out, images)
        else:
            story = kill_and_resume(Case(chosen, out, images), count)
        (out / chosen / "story.json").write_text(json.dumps(story, indent=1))
