"""How close does a real training come to what this machine can do?

    python scripts/benchmark.py                                   the quickstart's phase 1 at 32, 64 and 128 pixels
    python scripts/benchmark.py --vs lightly                      and beside lightly's MoCo (pip install lightly)
    python scripts/benchmark.py --method overhaul --vs loop       phase 2 beside a plain PyTorch loop
    python scripts/benchmark.py --backbone resnet50 --image_sizes 224 --precision bf16 --batch 256 --estimate
    python scripts/benchmark.py --image_sizes 32 --scaling 500 5000 50000 500000
    torchrun --nproc_per_node 8 scripts/benchmark.py --backbone resnet50 --image_sizes 224 --precision bf16
    torchrun --nproc_per_node 2 scripts/benchmark.py --use_cpu    two processes on a CPU

"End to end" is the Trainer of the real command, from an image store to the optimizer step. The "ceiling" is the same
method, optimizer, precision and batch in a plain loop, fed with views that already lie on the device. They, and with
--vs somebody else, take turns round by round, so that what else the machine does meets all of them; the figures are
medians over rounds, and a ratio is taken within each round. A training of its own, alone, tells the parts of a step
and the peak memory: bytes allocated on a GPU; on a CPU what the process held, libraries included. In several processes
the figures are for the global batch, the memory is the main process's. The images are noise: nothing that is timed
looks at what is in them.

OUTPUT_DIR gets benchmark.json (all rounds, machine, versions, command) and benchmark.png. (--help lists the options)
"""

from __future__ import annotations

import logging
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from ..cli import process
from ..cli.parser import Parser
from ..errors import InputError
from ..files import check_can_write, read_json, write_file, write_json
from ..invocation import command
from ..logs import quiet
from ..reports.benchmark_plots import benchmark_figure
from ..reports.figure_files import to_png
from ..run import build_trainer
from ..terminal import Console
from .arguments import BenchmarkArguments
from .report import (
    CEILING,
    END_TO_END,
    NAMES,
    PAPER_RUNS,
    case_figures,
    estimate_line,
    estimates,
    machine,
    matching_paper_runs,
    of_ceiling,
    rich_tables,
    where,
)
from .rivals import check_installed, rival
from .runs import Ceiling, Contestant, Plan, end_to_end, split
from .setup import Case, batches, build_case

logger = logging.getLogger(__name__)
RESULTS = "benchmark"
_BATCHES = 4  # different ones for the ceiling, so that no cache holds them all


def benchmark(request: BenchmarkArguments, argv: Sequence[str] = ()) -> dict[str, Any]:
    """Measure all that is asked for; nothing is written.

    Args:
        argv: the command line, for the record.

    Returns:
        One entry of ``benchmark.json``: title, command, machine, settings, cases, scaling, estimate.

    Raises:
        InputError: before anything is measured, on whatever cannot work.
    """
    papers = _paper_runs(request)
    check_installed(request.vs)
    first = _quietly(request, request.image_sizes[0], request.images, 1)
    _check(request, first)
    found = {
        "title": _title(request, first),
        "command": _command(request, argv),
        "machine": machine(first.args.device),
        "settings": _settings(request, first),
        "cases": [_case(request, size) for size in request.image_sizes],
        "scaling": _scaling(request),
    }
    return found | {"estimate": estimates(papers, found["cases"], request.price_per_hour)}


def _quietly(request: BenchmarkArguments, size: int, images: int, steps: int) -> Case:
    with quiet(logging.ERROR):
        return build_case(request, size, images, steps=steps)


def _paper_runs(request: BenchmarkArguments) -> list:
    if not request.estimate:
        return []
    found = matching_paper_runs(
        request.method, request.backbone, request.backbone_args, request.teacher_backbone, request.image_sizes
    )
    if not found:
        known = "; ".join(
            f"--method {run.method} --backbone {run.backbone}"
            f"{f' --teacher_backbone {run.teacher}' if run.teacher else ''} --image_sizes {run.image_size}"
            for run in PAPER_RUNS
        )
        raise InputError(f"--estimate goes by the rate of a paper's own network, which this run has not: {known}")
    return found


def _check(request: BenchmarkArguments, first: Case) -> None:
    if request.vs is not None and first.args.world_size > 1:
        raise InputError(f"--vs {request.vs} runs in one process: leave it out under torchrun and accelerate launch")


def _title(request: BenchmarkArguments, first: Case) -> str:
    network = sum(p.numel() for p in first.method.deployable().backbone.parameters()) / 1e6
    taught = f" from {request.teacher_backbone}" if first.teacher is not None else ""
    batch = f"batch {first.args.step_images}"
    kind = "gray" if request.channels == 1 else "colour"
    return (
        f"{request.method}, {request.backbone} of {network:.2f} M{taught}, {kind} images, {batch}, {request.precision}"
    )


def _command(request: BenchmarkArguments, argv: Sequence[str]) -> str:
    """As it was given, without where its files went: that is a path of this machine."""
    words = list(argv)
    if "--output_dir" in words:
        place = words.index("--output_dir")
        del words[place : place + 2]
    words = [word for word in words if not word.startswith("--output_dir=")]
    return f"{command('benchmark')} {shlex.join(words)}".rstrip()


def _settings(request: BenchmarkArguments, first: Case) -> dict[str, Any]:
    left_out = ("output_dir", "append", "overwrite_output_dir", "scaling", "estimate", "price_per_hour")
    settings = {name: value for name, value in asdict(request).items() if name not in left_out}
    args = first.args
    return settings | {"processes": args.world_size, "global_batch": args.step_images, "optim": str(args.optim)}


def _case(request: BenchmarkArguments, size: int) -> dict[str, Any]:
    """One image size: the parts of a step first, while nothing else is in memory, then the rounds."""
    plan, alone = Plan(request.rounds, request.warmup, request.steps), Plan(1, request.warmup, request.steps)
    parts = split(_quietly(request, size, request.images, alone.total), alone)
    others = _others(request, size, plan)
    case = _quietly(request, size, request.images, plan.total)
    seconds: dict[str, list[float]] = {END_TO_END: [], **{name: [] for name in others}}

    def pause(ours: float) -> None:
        seconds[END_TO_END].append(ours)
        for name, other in others.items():
            seconds[name].append(other.round())
        said = ", ".join(f"{NAMES[name]} {case.images_per_step / taken[-1]:,.0f}" for name, taken in seconds.items())
        logger.info("%d px, round %d of %d, images/s: %s", size, len(seconds[CEILING]), plan.rounds, said)

    end_to_end(case, plan, pause)
    figures = case_figures(seconds, case.images_per_step, parts.seconds, parts.peak_bytes)
    return {"image_size": size, "images": request.images, **figures}


def _others(request: BenchmarkArguments, size: int, plan: Plan) -> dict[str, Contestant]:
    """Who takes turns with the real training, by name."""
    case = _quietly(request, size, request.images, plan.total)
    found: dict[str, Contestant] = {}
    beside = {} if request.vs is None else {request.vs: rival(case, plan, request.vs_workers)}
    trainer = build_trainer(case.setup)
    found[CEILING] = Ceiling(trainer, batches(trainer, _BATCHES, request.seed), plan)
    return found | beside


def _scaling(request: BenchmarkArguments) -> list[dict[str, Any]]:
    """End to end on stores of other sizes, in turns; smallest first, for memory that was held once may stay held."""
    size, counts = request.image_sizes[0], sorted(request.scaling)
    once = Plan(1, request.warmup, request.steps)
    parts = {count: split(_quietly(request, size, count, once.total), once) for count in counts}
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    per_step = 0
    for number in range(request.rounds if counts else 0):
        for count in counts:
            case = _quietly(request, size, count, once.total)
            seconds[count] += end_to_end(case, once)
            per_step = case.images_per_step
        logger.info("stores of %s images: round %d of %d", ", ".join(map(str, counts)), number + 1, request.rounds)
    return [
        {
            "images": count,
            "seconds_per_step": seconds[count],
            "images_per_second": per_step / statistics.median(seconds[count]),
            "split": parts[count].seconds,
            "peak_bytes": parts[count].peak_bytes,
        }
        for count in counts
    ]


def figure(found: dict[str, Any]) -> bytes:
    """The chart of one benchmark as a PNG file."""
    cases = found["cases"]
    drawn = benchmark_figure(
        [case["image_size"] for case in cases],
        [case["split"] for case in cases],
        [{NAMES[name]: rate for name, rate in case["images_per_second"].items()} for case in cases],
        [{NAMES[name]: share for name, share in of_ceiling(case["ratios"]).items()} for case in cases],
        title=found["title"],
        where=where(found),
        ours=NAMES[END_TO_END],
        full=NAMES[CEILING],
    )
    return to_png(drawn)


def earlier(request: BenchmarkArguments) -> list[dict[str, Any]]:
    """The benchmarks that --output_dir holds and keeps.

    Raises:
        InputError: it holds some, and nobody said what becomes of them; or it cannot be written to.
    """
    check_can_write(request.output_dir, "output_dir")
    path = Path(request.output_dir) / f"{RESULTS}.json"
    if not path.is_file():
        return []
    if request.append:
        return read_json(path)["benchmarks"]
    if not request.overwrite_output_dir:
        raise InputError(f"{path} is there: --append adds this benchmark to it, --overwrite_output_dir replaces it")
    return []


def write(request: BenchmarkArguments, kept: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """``benchmark.json`` with all, and the chart of each: ``benchmark.png``, ``benchmark-2.png``, ..."""
    folder = Path(request.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{RESULTS}.json", {"benchmarks": [*kept, found]})
    name = RESULTS if not kept else f"{RESULTS}-{len(kept) + 1}"
    write_file(folder / f"{name}.png", figure(found))


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/benchmark.py`` and of ``-m hf_vipriors.benchmark.benchmark``."""
    argv = list(sys.argv[1:] if argv is None else argv)

    def job() -> None:
        (request,) = Parser([BenchmarkArguments], __doc__).parse(argv)
        transformers_logging.disable_progress_bar()
        kept = earlier(request)
        found = benchmark(request, argv)
        if not process.is_main_process():
            return
        write(request, kept, found)
        console = Console()
        console.print(where(found))
        for table in rich_tables(found):
            console.print(table)
        for one in found["estimate"]:
            console.print(estimate_line(one, found))
        console.print(f"{Path(request.output_dir) / RESULTS}.json, and the chart beside it", soft_wrap=True)

    process.run(job)


if __name__ == "__main__":
    main()
