"""Phase 1 and phase 2 for an hour under repeated kills; pytest does not collect it, it takes as long as it is told.

    python tests/soak.py --minutes 60

Phase 1, phase 2 and evaluation run once undisturbed, then in fresh folders over and over: each training is killed
(SIGKILL) after a random while and resumed, until it ends. It must end with the weights, to the last bit, and the
figures of the undisturbed one, and memory and open files must not grow from the first chain to the last.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
logger = logging.getLogger("soak")
SAVING = ["--save_strategy", "steps", "--save_steps", "25", "--save_total_limit", "2", "--disable_tqdm", "true"]
SHORT = {"teacher": "4", "student": "20"}  # epochs: a chain in some minutes
GROWTH = 1.1
SAMPLE_SECONDS = 0.25


def command(name: str, folder: Path) -> list[str]:
    script, options = {
        "teacher": ("train_teacher.py", ["--config", str(ROOT / "scripts/recipes/moco_fashion.yaml")]),
        "student": (
            "train_student.py",
            [
                *("--config", str(ROOT / "scripts/recipes/quickstart_student.yaml"), "--method", "overhaul"),
                *("--teacher", str(folder / "teacher")),
            ],
        ),
        "evaluated": ("evaluate.py", ["--model", str(folder / "student"), "--report", str(folder / "evaluated")]),
    }[name]
    if name in SHORT:
        options = [*options, *SAVING, "--num_train_epochs", SHORT[name], "--output_dir", str(folder / name)]
    return [sys.executable, str(ROOT / "scripts" / script), *options]


def live(words: list[str], log: Path, seconds: float) -> tuple[bool, int, int]:
    """One life: whether it ended by itself, its most bytes of memory, its most open files.

    Raises:
        SystemExit: it ended with an error.
    """
    memory = files = 0
    with log.open("ab") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)
        watched, end = psutil.Process(process.pid), time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            try:
                memory, files = max(memory, watched.memory_info().rss), max(files, watched.num_fds())
            except psutil.Error:
                break
            time.sleep(SAMPLE_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()
            return False, memory, files
    if process.wait():
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}: see {log}")
    return True, memory, files


def chain(folder: Path, random_seconds: random.Random | None) -> tuple[int, dict[str, int], dict[str, int]]:
    """Run it: how many kills it met, and the most memory and open files of each part."""
    kills, memory, files = 0, {}, {}
    folder.mkdir(parents=True)
    for name in ("teacher", "student", "evaluated"):
        ended = False
        while not ended:
            words, place = command(name, folder), folder / name
            if place.exists():
                saved = any(place.glob("checkpoint-*"))
                words += ["--resume_from_checkpoint", "true"] if saved else ["--overwrite_output_dir"]
            patience = random_seconds.uniform(8, 45) if random_seconds and name in SHORT else float("inf")
            ended, most, opened = live(words, folder / "log", patience)
            kills += not ended
            memory[name], files[name] = max(most, memory.get(name, 0)), max(opened, files.get(name, 0))
    return kills, memory, files


def outcome(folder: Path) -> dict[str, str]:
    """What must not depend on kills: weights, and figures without the times."""
    found = {}
    for name in ("teacher", "student"):
        found[f"{name}'s weights"] = hashlib.sha256((folder / name / "model.safetensors").read_bytes()).hexdigest()
        metrics = json.loads((folder / name / "metrics.json").read_text())
        for timed in [key for key in metrics if "second" in key or "memory" in key]:
            del metrics[timed]
        kept = {key: metrics[key] for key in ("test", "knn", "linear") if key in metrics}
        found[f"{name}'s figures"] = json.dumps(kept, sort_keys=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="how long chains are begun (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which a life ends (default: 0)")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    moments, start = random.Random(args.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        _, memory, files = chain(Path(scratch) / "undisturbed", None)
        wanted, whole, number = outcome(Path(scratch) / "undisturbed"), 0, 0
        logger.info("undisturbed: MiB %s, open files %s", _mebibytes(memory), files)
        while time.monotonic() - start < 60 * args.minutes:
            folder, number = Path(scratch) / str(number), number + 1
            kills, now, opened = chain(folder, moments)
            whole += kills
            logger.info("chain %d: %d kills, MiB %s, open files %s", number, kills, _mebibytes(now), opened)
            if different := [name for name, value in outcome(folder).items() if value != wanted[name]]:
                raise SystemExit(f"chain {number} differs from the undisturbed one in {', '.join(different)}")
            for name in now:
                if now[name] > GROWTH * memory[name] or opened[name] > files[name] + 2:
                    raise SystemExit(f"chain {number}: {name} takes more than the undisturbed one")
            shutil.rmtree(folder)
    logger.info(
        "%d chains, %d kills: weights and figures of the undisturbed chain, memory and files flat", number, whole
    )


def _mebibytes(memory: dict[str, int]) -> dict[str, int]:
    return {name: round(value / 2**20) for name, value in memory.items()}


if __name__ == "__main__":
    main()
