"""Train the classifier on labels: distilled from a teacher, fine-tuned from it, or from scratch.

    accelerate launch scripts/train_student.py --teacher outputs/teacher --output_dir outputs/student
    accelerate launch scripts/train_student.py --method supervised --output_dir outputs/baseline
    accelerate launch scripts/train_student.py --method sskd --teacher outputs/baseline --backbone resnet10t
    accelerate launch scripts/train_student.py --method supervised --output_dir outputs/tuned --trials 20 \\
        --search_space scripts/recipes/search/supervised.yaml

The result is a native checkpoint: `pipeline("image-classification", model=DIR)` and
`timm.create_model("local-dir:DIR", pretrained=True)` load it without this package (one of a network that only this
package knows, such as cifar_resnet8, needs `import hf_vipriors` first).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..cli import process
from ..cli.parser import Parser
from ..data import ImageSplits
from ..errors import InputError
from ..evaluation.answers import write_answers
from ..evaluation.classification import score
from ..evaluation.features import probabilities
from ..evaluation.robustness import robustness
from ..hub.card_facts import CardFacts
from ..hub.native_export import export_native
from ..hub.teachers import load_teacher
from ..models import VipriorsForImageClassification
from ..training import DataArguments, StudentArguments, StudentTrainer
from . import cards, publishing, search, wiring
from .fingerprint import fingerprint, record
from .leaks import look_for_leaks
from .search_checks import check_not_given
from .student_setup import fit_teacher_head, set_up_student, student_config

logger = logging.getLogger(__name__)


@dataclass
class StudentResult:
    """A trained student: the model, the trainer's log, its scores, and its answers on the test split."""

    model: VipriorsForImageClassification
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    test_probabilities: Tensor
    directory: Path
    facts: CardFacts


@wiring.holding_output_dir
def train_student(data: DataArguments, args: StudentArguments, splits: ImageSplits | None = None) -> StudentResult:
    """Run phase 2 from data and teacher to a native checkpoint with its card.

    Raises:
        InputError: before anything is written, on whatever cannot work.
    """
    resume = search.resume_point(data, args)
    wiring.check_output_dir(args, resume)
    teacher = load_teacher(args.teacher, revision=args.teacher_revision) if args.teacher else None
    splits = splits or wiring.load_data(data)
    if "train" not in splits.splits:
        raise InputError("no labelled train split: a student needs labels (only phase 1 does without)")
    publishing.check_push(args, student_config(args, splits.class_names, teacher), "student")
    tuned = search.tune(data, args, splits, teacher, resume) if args.trials or args.settings_of else None
    run, found, images = (args, None, None) if tuned is None else (tuned.args, tuned.found, tuned.images)
    setup = set_up_student(data, run, splits, teacher, images)
    sums = fingerprint(setup.images.by_split(), setup.method, run) if run.should_save else {}
    wiring.load_method_state(setup.method, resume)
    if not args.trials or resume is not None:  # trials have claimed the folder
        wiring.claim_output_dir(args, data, "train_student", resume)
    record(run, sums)
    fit_teacher_head(setup, data, splits, teacher)
    trainer = StudentTrainer(**setup.trainer_options())
    if run.guards:
        look_for_leaks(trainer.guards, splits, ("train", "unlabelled") if run.unlabelled_ratio else ("train",))
    trainer.train(resume_from_checkpoint=resume)
    seconds = wiring.training_seconds(trainer, resume)
    result = finish(trainer.evaluated()[""], setup.images.test, data, run, splits, trainer, seconds, found, sums)
    publishing.push_result(args)
    return result


def finish(
    student: VipriorsForImageClassification,
    test_store: Any,
    data: DataArguments,
    args: StudentArguments,
    splits: ImageSplits,
    trainer: StudentTrainer,
    seconds: float | None,
    found: dict[str, Any] | None,
    sums: dict[str, str],
) -> StudentResult:
    """Score once on test, export, write the card.

    Args:
        found: what a search says of its settings.
        sums: the fingerprint.
        others: of the run.
    """
    batch = args.per_device_eval_batch_size
    answers = probabilities(student, test_store, batch_size=batch, device=args.device)
    result = score(answers.values, answers.labels, splits.class_names)
    metrics = {"test": result.to_dict(), "seconds": seconds, "test_is_validation": splits.test_is_validation}
    metrics |= {"warnings": trainer.guards.found(), "fingerprint": sums}
    if found is not None:
        metrics["search"] = found
    if args.corruptions:
        bar = args.should_save and not args.disable_tqdm
        metrics["corrupted"] = robustness(student, test_store, batch_size=batch, device=args.device, progress=bar)
        logger.info("corrupted test images: top-1 %.1f %%", 100 * metrics["corrupted"]["top1"])
    directory = Path(args.output_dir)
    facts = cards.student_facts(student, data, args, splits, metrics)
    if args.should_save:
        export_native(student, directory, class_names=splits.class_names)
        trainer.state.save_to_json(str(directory / "trainer_state.json"))
        cards.write_card(facts, directory)
        write_answers(directory, answers.values, answers.labels)
        wiring.write_json(directory / "metrics.json", metrics)
        low, high = result.interval
        logger.info(
            "student saved to %s: %s top-1 %.1f %% (95 %% interval %.1f to %.1f)",
            directory,
            "validation" if splits.test_is_validation else "test",
            100 * result.top1,
            100 * low,
            100 * high,
        )
    trainer.accelerator.wait_for_everyone()
    return StudentResult(student, trainer.state.log_history, metrics, answers.values, directory, facts)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``scripts/train_student.py`` and of ``-m hf_vipriors.commands.train_student``."""

    def job() -> None:
        parser = Parser([DataArguments, StudentArguments], __doc__)
        data, args = parser.parse(argv)
        check_not_given(parser.given(argv), args)
        train_student(data, args)

    process.run(job, resume=["--resume_from_checkpoint", "true"])


if __name__ == "__main__":
    main()
