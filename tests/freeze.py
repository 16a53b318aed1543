"""Record what every method and every script gives at tiny settings, to hold two versions of the package side by side.

    python tests/freeze.py record before.json
    python tests/freeze.py record after.json             (with the other version)
    python tests/freeze.py compare before.json after.json

Each method trains six steps on a folder of coloured noise, and again from its checkpoint at step three; each script
runs once. Recorded are hashes of the final weights, metrics.json, the card, and the files. Everything runs on one CPU
thread with a fixed seed, through the scripts alone, so that what lies behind them may move. pytest does not collect
this file: the hashes hold for one machine and one set of libraries.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

SCRIPTS = Path(__file__).parents[1] / "scripts"
TINY = json.dumps({"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4})
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}
RUN = [
    *("--dataset_name", "imagefolder", "--data_dir", "photos", "--use_cpu", "--disable_tqdm", "true"),
    *("--image_size", "32", "--backbone", "resnet18", "--backbone_args", TINY, "--report_to", "none"),
    *("--max_steps", "6", "--save_steps", "3", "--logging_steps", "2", "--eval_steps", "3", "--seed", "5"),
]
TEACHER = [*RUN, "--per_device_train_batch_size", "8"]
STUDENT = [*RUN, "--per_device_train_batch_size", "6"]
# Name -> script and options. Later ones use the folders of earlier ones.
RUNS: dict[str, tuple[str, list[str]]] = {
    "moco": ("train_teacher", [*TEACHER, "--projector_dim", "8"]),
    "simclr": ("train_teacher", [*TEACHER, "--projector_dim", "8", "--method", "simclr", "--optim", "sgd"]),
    "seed": ("pretrain_student", [*TEACHER, "--teacher", "moco", "--patches", "2"]),
    "dogo": ("pretrain_student", [*TEACHER, "--method", "dogo", "--peer_learning_rate", "1e-4"]),
    "dogo_moco": ("pretrain_student", [*TEACHER, "--method", "dogo", "--contrast", "moco", "--projector_dim", "8"]),
    "supervised": ("train_student", [*STUDENT, "--method", "supervised", "--mixup", "0.3", "--ema_decay", "0.9"]),
    "overhaul": ("train_student", [*STUDENT, "--teacher", "moco", "--distil_from_epoch", "0", "--layer_decay", "0.8"]),
    "kd": ("train_student", [*STUDENT, "--method", "kd", "--teacher", "supervised", "--unlabelled_ratio", "1"]),
    "fitnet": ("train_student", [*STUDENT, "--method", "fitnet", "--teacher", "moco", "--auto_augment", "cifar10"]),
    "crd": ("train_student", [*STUDENT, "--method", "crd", "--teacher", "supervised", "--negatives", "8"]),
    "sskd": ("train_student", [*STUDENT, "--method", "sskd", "--teacher", "supervised", "--head_epochs", "2"]),
    "fixmatch": ("train_student", [*STUDENT, "--method", "fixmatch", "--teacher", "moco", "--corruptions"]),
    "search": (
        "train_student",
        [*STUDENT, "--method", "supervised", "--trials", "2", "--search_space", "space.yaml", "--save_strategy", "no"],
    ),
}
TABLE = {
    "title": "Tiny",
    "runs": {
        "one": {
            "job": "train_student",
            "options": {
                **{"dataset_name": "imagefolder", "data_dir": "photos", "use_cpu": True, "method": "supervised"},
                **{"image_size": 32, "backbone": "test_resnet", "max_steps": 2, "per_device_train_batch_size": 6},
            },
        }
    },
    "groups": [{"title": "Tiny", "rows": [{"name": "one", "run": "one", "score": "test", "baseline": True}]}],
}
OTHERS: dict[str, tuple[str, list[str]]] = {
    "evaluate": (
        "evaluate",
        [*RUN[:4], "--model", "supervised", "kd", "moco", "--corruptions", "--output", "evaluate/scores.json"],
    ),
    "evaluate_report": ("evaluate", [*RUN[:4], "--model", "supervised", "--report", "evaluate_report"]),
    "advise": ("evaluate", ["--advise", *RUN[:4], "--output", "advise/advice.json", "--trial_steps", "4"]),
    "push_to_hub": ("push_to_hub", ["--model", "overhaul", "--repo_id", "me/tiny", "--dry_run"]),
    "benchmark": (
        "benchmark",
        [
            *("--backbone", "resnet18", "--backbone_args", TINY, "--image_sizes", "32", "--batch", "8", "--use_cpu"),
            *("--images", "64", "--steps", "2", "--warmup", "1", "--rounds", "2", "--output_dir", "benchmark"),
        ],
    ),
    "reproduce": ("reproduce", ["--table", "tiny.yaml", "--output_dir", "reproduce", "--seeds", "4"]),
    "quickstart": ("quickstart", ["--output_dir", "quickstart", "--length", "0.01", "--images_per_class", "50"]),
}


def write_inputs() -> None:
    random = np.random.default_rng(0)

    def write(path: Path, colour: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.normal(0, 30, size=(20, 26, 3))
        Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)

    for name, colour in COLOURS.items():
        for split, count in (("train", 12), ("validation", 4), ("test", 4)):
            for number in range(count):
                write(Path("photos", split, name, f"{number}.png"), colour)
    for number in range(10):
        write(Path("photos", "unlabelled", f"{number}.png"), list(COLOURS.values())[number % 3])
    Path("space.yaml").write_text("learning_rate: {low: 0.001, high: 0.1, log: true}\nmixup: [0.0, 0.4]\n")
    Path("tiny.yaml").write_text(json.dumps(TABLE))


def run_script(name: str, argv: list[str]) -> tuple[int, str]:
    """Exit code and stdout of a script, run in this process as ``__main__``."""
    before, sys.argv = sys.argv, [str(SCRIPTS / f"{name}.py"), *argv]
    shown, path = io.StringIO(), list(sys.path)
    sys.path.insert(0, str(SCRIPTS))
    try:
        with contextlib.redirect_stdout(shown):
            runpy.run_path(sys.argv[0], run_name="__main__")
        return 0, shown.getvalue()
    except SystemExit as stop:
        return int(stop.code or 0), shown.getvalue()
    finally:
        sys.argv, sys.path = before, path


def weights_hash(file: Path) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(file).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def facts(folder: Path) -> dict[str, Any]:
    """What a folder holds: weights as hashes, figures, cards, names of all files."""
    found: dict[str, Any] = {"weights": {}, "figures": {}, "cards": {}, "files": []}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found["files"].append(re.sub(r"(sskd_head-)\w+", r"\1*", name))
        if path.name == "model.safetensors":
            found["weights"][name] = weights_hash(path)
        elif path.name in ("metrics.json", "search.json", "scores.json", "results.json"):
            found["figures"][name] = json.loads(path.read_text())
        elif path.name == "README.md":
            found["cards"][name] = path.read_text()
    return found


def record(output: Path, work: Path | None) -> None:
    output = output.resolve()
    folder = (work or Path(tempfile.mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    torch.set_num_threads(1)
    write_inputs()
    table: dict[str, Any] = {}
    for name, (script, options) in RUNS.items():
        code, _ = run_script(script, [*options, "--output_dir", name])
        table[name] = {"code": code, **facts(Path(name))}
        if (Path(name) / "checkpoint-3").is_dir():
            again = Path(f"{name}_resumed")
            shutil.copytree(Path(name) / "checkpoint-3", again / "checkpoint-3")
            code, _ = run_script(script, [*options, "--output_dir", str(again), "--resume_from_checkpoint", "true"])
            table[again.name] = {"code": code, **facts(again)}
        output.write_text(json.dumps(table, indent=1))
        print(name, table[name]["code"], table[name]["weights"], flush=True)
    for name, (script, options) in OTHERS.items():
        code, shown = run_script(script, options)
        table[name] = {"code": code, "stdout": shown, **facts(Path(name))}
        output.write_text(json.dumps(table, indent=1))
        print(name, table[name]["code"], table[name]["weights"], flush=True)


# Measured anew each time, or names of this very run.
_TIMES = re.compile(
    r"seconds|runtime|cost|fingerprint|samples_per|steps_per|duration|images_per_second|^time$|all_trials|rate"
)


def _still(value: Any) -> Any:
    """Figures without what a clock says, to 12 digits: scipy's Wilson interval differs from ours in the last bit."""
    if isinstance(value, float):
        return round(value, 12)
    if isinstance(value, dict):
        return {name: _still(each) for name, each in value.items() if not _TIMES.search(name)}
    return [_still(each) for each in value] if isinstance(value, list) else value


def _final(weights: dict[str, str]) -> dict[str, str]:
    """Those of models; how a checkpoint's folder divides its tensors over files may change."""
    return {name: digest for name, digest in weights.items() if "checkpoint-" not in name}


def _card(text: str) -> list[str]:
    moving = re.compile(r"fingerprint|seconds|minutes|\b\d+(\.\d+)? ?s\b|code [0-9a-f]{12}|settings [0-9a-f]{12}")
    return [line for line in text.splitlines() if not moving.search(line)]


def compare(before: Path, after: Path) -> int:
    old, new = json.loads(before.read_text()), json.loads(after.read_text())
    differing = 0
    print(f"{'run':18} {'weights':34} figures  card  files")
    for name in old:
        if name not in new:
            print(f"{name:18} missing")
            differing += 1
            continue
        a, b = old[name], new[name]
        same = {
            "code": a["code"] == b["code"],
            "weights": _final(a["weights"]) == _final(b["weights"]),
            "figures": _still(a["figures"]) == _still(b["figures"]),
            "card": {k: _card(v) for k, v in a["cards"].items()} == {k: _card(v) for k, v in b["cards"].items()},
            "files": a["files"] == b["files"],
        }
        hashes = " ".join((a["weights"].get("model.safetensors", "-"), b["weights"].get("model.safetensors", "-")))
        print(f"{name:18} {hashes:34} " + "  ".join(f"{k} {'same' if v else 'DIFFERS'}" for k, v in same.items()))
        differing += not all(same.values())
        if not same["card"]:
            import difflib

            for card in a["cards"]:
                lines = difflib.unified_diff(
                    *(_card(x["cards"].get(card, "")) for x in (a, b)), lineterm="", n=0, fromfile=card, tofile=card
                )
                print("\n".join(f"      {line[:200]}" for line in list(lines)[:30]))
        if not same["files"]:
            print(f"      gone: {sorted(set(a['files']) - set(b['files']))[:10]}")
            print(f"      new: {sorted(set(b['files']) - set(a['files']))[:10]}")
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    recording = jobs.add_parser("record")
    recording.add_argument("output", type=Path)
    recording.add_argument("--work", type=Path, help="Keep the runs in this folder.")
    comparing = jobs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    args = parser.parse_args()
    if args.job == "record":
        record(args.output, args.work)
    else:
        raise SystemExit(min(1, compare(args.before, args.after)))


if __name__ == "__main__":
    main()
