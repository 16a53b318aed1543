"""Which method and settings suit a data set, and why: the rules of ``evaluate.py --advise``, all in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError

# Labelled images per class. The VIPriors challenge has 50 [2008.00261]; below 10 the images chosen decide the result.
TOO_FEW, FEW, PLENTY = 10, 50, 250
LEAST = 4  # images in all, two batches of two
# Unlabelled images for each labelled one, from which FixMatch has more to learn from than the labels have.
POOL = 2.0
# Classes this unequal (largest to smallest) get weights in the loss.
UNEQUAL = 2.0
# Optimizer steps to aim at, and the epochs they may become. Phase 1: 800 epochs [2008.00261]; on Fashion-VIPriors the
# kNN was still rising after 3,000 steps. Phase 2: on 50 labels a class of CIFAR-10 2,000 steps from
# scratch ended four points below 10,000, which had come to rest after half of them.
PHASE_1_STEPS, PHASE_1_EPOCHS = 10_000, (100, 800)
# In as many epochs a linear probe has more on its features than on those of MoCo with a margin: 42.8 for 40.5 on 5,500
# images of CIFAR-10 after 70 (50 labels a class), 65.4 for 61.8 on as many of Fashion-VIPriors after 15 (5 a class).
PHASE_1_METHOD = "simclr"
PHASE_2_STEPS, PHASE_2_EPOCHS = 5_000, (60, 600)
# Sides that timm's networks divide well. Without an accelerator larger ones cost hours.
SIDES, CPU_SIDE = (48, 64, 96, 128, 160, 224), 96
# Networks for photographs keep a 16th of each side or less: on CIFAR-10 (32 pixels, 50 labels a class, 0.70 M, from
# scratch) 96 pixels were worth 4 points over 48, and 3 over 64, where each was trained until it came to rest.
ENLARGED_TO, ENLARGED_TIMES = 96, 3
# Against memorising few images. From scratch on 50 labels a class of CIFAR-10 AutoAugment and this weight decay were
# worth 11 points (two seeds), on Fashion-VIPriors one (three seeds); AutoAugment alone 3 at 5 a class.
AUGMENTATION = {"mixup": 0.3, "cutmix": 1.0, "auto_augment": "imagenet", "weight_decay": 5e-3, "ema_decay": 0.995}
# Under these few predictions reach a fixed threshold: it cost two points on CIFAR-10, and gained none where the
# classes of the pool are unequal.
CONSISTENCY = {"threshold": "relative"}
CPU_BACKBONE = {
    "backbone": "resnet18",
    "backbone_args": {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8},
}


@dataclass(frozen=True)
class Facts:
    """What the rules look at.

    Attributes:
        per_class: labelled training images by class name; empty where nothing is labelled.
        unlabelled: images for phase 1 alone.
        side: median of the shorter sides, pixels.
        accelerator: whether one is there.
        unreadable: images that cannot be read.
    """

    per_class: dict[str, int]
    unlabelled: int
    side: int
    accelerator: bool
    unreadable: int = 0

    @property
    def labelled(self) -> int:
        return sum(self.per_class.values())

    @property
    def mean(self) -> float:
        """Labelled images of a class, on average."""
        return self.labelled / max(1, len(self.per_class))

    @property
    def smallest(self) -> tuple[str, int]:
        return min(self.per_class.items(), key=lambda item: item[1])

    @property
    def imbalance(self) -> float:
        """Largest class / smallest class."""
        return max(self.per_class.values()) / max(1, self.smallest[1]) if self.per_class else 1.0


@dataclass(frozen=True)
class Job:
    """A command to run next: ``name`` for the reader, ``command`` of :mod:`hf_vipriors.commands`, its options."""

    name: str
    command: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One recommended value, and the reason in one sentence."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """The answer: ``enough`` in a sentence, the method and its reason, the settings, and the jobs to run in order."""

    enough: str
    method: str
    reason: str
    settings: list[Setting] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)


def enough(facts: Facts) -> str:
    """Whether the labelled images are enough, in one sentence."""
    if not facts.per_class:
        return "Nothing is labelled: features can be learnt, classes cannot. Label 10 images of each class or more."
    name, count = facts.smallest
    if count < TOO_FEW:
        return f"Not yet: {name!r} has {count} labelled images. Below {TOO_FEW} it is luck which ones were labelled."
    if facts.mean < FEW:
        return f"Only just: {facts.mean:.0f} labelled images a class. Every label more helps; repeat runs with seeds."
    if facts.mean < PLENTY:
        return f"Yes: {facts.mean:.0f} labelled images a class, the range that this package is made for."
    return f"Yes, many: {facts.mean:.0f} labelled images a class. Ordinary training does well there."


def method_for(facts: Facts) -> tuple[str, str, tuple[str, ...]]:
    """The rule table: (method, the reason in one sentence, names of the jobs to run, in order)."""
    if not facts.per_class:
        return "phase 1", "Without labels only features can be learnt.", ("phase 1",)
    if facts.unlabelled >= POOL * facts.labelled:
        reason = (
            f"{facts.unlabelled:,} images without labels stand beside {facts.labelled:,} with one: phase 1 learns "
            "from all of them, and FixMatch once more beside the labels. On CIFAR-10 phase 1 was worth six points to "
            "FixMatch at 5 labels a class and one at 50, where it may be left out if time is short. Another shortcut: "
            "--method supervised --propagate_labels true from phase 1 had three quarters of FixMatch's gain in a "
            "third of its time, at 5 a class. The supervised run is what they must beat on validation."
        )
        return "phase 1 + FixMatch", reason, ("supervised", "phase 1", "FixMatch")
    if facts.mean >= PLENTY:
        return "supervised", "With this many labels a prior from the same images adds little.", ("supervised",)
    reason = (
        "There are few labels and no large unlabelled pool. A tuned supervised recipe is hard to beat where classes "
        "differ at a glance; where they do not, phase 1 gained points. Train both, and keep what validation prefers. "
        "Phase 2 (--method overhaul) gained nothing over fine-tuning where both were measured."
    )
    return "supervised, then phase 1 + fine-tuning", reason, ("supervised", "phase 1", "fine-tuning")


def image_side(facts: Facts) -> int:
    """The largest usual side that enlarges nothing; small images are enlarged to 96 pixels, three times at most.

    Without an accelerator 96 pixels at most.
    """
    room = max(facts.side, min(ENLARGED_TO, ENLARGED_TIMES * facts.side))
    fitting = [side for side in SIDES if side <= room] or [SIDES[0]]
    return min(fitting[-1], SIDES[-1] if facts.accelerator else CPU_SIDE)


def batch_for(images: int, most: int) -> int:
    """The largest power of two that is at most ``most`` and a quarter of the images, and at least 2.

    A quarter, so that the few images meet in other company from one step to the next.
    """
    return max(2, 2 ** (min(most, max(1, images // 4)).bit_length() - 1))


def epochs_for(images: int, batch: int, steps: int, bounds: tuple[int, int], *, drop_last: bool) -> int:
    """Epochs for about ``steps`` optimizer steps, within ``bounds``, rounded to tens."""
    epochs = steps / steps_per_epoch(images, batch, drop_last=drop_last)
    return round(min(max(epochs, bounds[0]), bounds[1]) / 10) * 10


def steps_per_epoch(images: int, batch: int, *, drop_last: bool) -> int:
    return max(1, images // batch if drop_last else -(-images // batch))


def recommendation(facts: Facts, name: str) -> Recommendation:
    """Method, settings and jobs for a data set.

    Args:
        facts: of it.
        name: what the output folders are called after.

    Raises:
        InputError: fewer than four images.

    Example:
        >>> facts = Facts({"cat": 50, "dog": 50}, unlabelled=900, side=300, accelerator=False)
        >>> advice = recommendation(facts, "pets")
        >>> advice.method, [setting.value for setting in advice.settings if setting.name == "image size"]
        ('phase 1 + FixMatch', ['96'])
    """
    method, reason, wanted = method_for(facts)
    pool = facts.labelled + facts.unlabelled
    if pool < LEAST:
        raise InputError(f"{pool} images are too few for any training: gather {LEAST} at the very least")
    side = image_side(facts)
    shared: dict[str, Any] = {} if facts.accelerator else dict(CPU_BACKBONE)
    shared |= {"image_size": side} | ({"crop_pct": 1.0} if facts.side <= side else {})
    teacher, student = _teacher(pool, shared, name), _student(facts, shared) if facts.per_class else {}
    jobs = {
        "supervised": Job(
            "supervised",
            "train_student",
            {"method": "supervised", **student, "output_dir": f"outputs/{name}_baseline"},
        ),
        "phase 1": Job("phase 1", "train_teacher", teacher),
        "FixMatch": _from_teacher("FixMatch", "fixmatch", student | CONSISTENCY, teacher["output_dir"], name),
        "fine-tuning": _from_teacher("fine-tuning", "supervised", student, teacher["output_dir"], name),
    }
    settings = [Setting("image size", str(side), _side_reason(facts, side))]
    if "phase 1" in wanted:
        settings += _phase_1_settings(pool, teacher)
    if facts.per_class:
        settings += _phase_2_settings(facts, student)
    return Recommendation(enough(facts), method, reason, settings, [jobs[each] for each in wanted])


def _teacher(pool: int, shared: dict[str, Any], name: str) -> dict[str, Any]:
    batch = batch_for(pool, 128)
    return {
        **{"method": PHASE_1_METHOD, **shared},
        "num_train_epochs": epochs_for(pool, batch, PHASE_1_STEPS, PHASE_1_EPOCHS, drop_last=True),
        "per_device_train_batch_size": batch,
        "output_dir": f"outputs/{name}_teacher",
    }


def _student(facts: Facts, shared: dict[str, Any]) -> dict[str, Any]:
    batch = batch_for(facts.labelled, 64)
    return {
        **shared,
        **AUGMENTATION,
        "base_learning_rate": 0.2,
        **({"class_weights": "balanced"} if facts.imbalance >= UNEQUAL else {}),
        "num_train_epochs": epochs_for(facts.labelled, batch, PHASE_2_STEPS, PHASE_2_EPOCHS, drop_last=False),
        "per_device_train_batch_size": batch,
    }


def _from_teacher(job: str, method: str, student: dict[str, Any], teacher: str, name: str) -> Job:
    options = {"method": method, "teacher": teacher, **student, "output_dir": f"outputs/{name}_student"}
    return Job(job, "train_student", options)


def _side_reason(facts: Facts, side: int) -> str:
    if facts.side < side:
        return (
            f"the images have {facts.side} pixels, and networks made for photographs see more in them enlarged: on "
            "CIFAR-10 96 pixels were worth 4 points over 48, for three times the time a step."
        )
    if not facts.accelerator and facts.side > CPU_SIDE:
        return f"no accelerator here: larger costs hours (the images would allow {min(facts.side, SIDES[-1])})."
    return f"half of the images have {facts.side} pixels or more on the shorter side; nothing is enlarged."


def _phase_1_settings(pool: int, teacher: dict[str, Any]) -> list[Setting]:
    batch, epochs = teacher["per_device_train_batch_size"], teacher["num_train_epochs"]
    steps = epochs * steps_per_epoch(pool, batch, drop_last=True)
    return [
        Setting(
            "phase 1 method",
            PHASE_1_METHOD,
            "learnt more than MoCo from thousands of images in as many epochs, and no less from 500.",
        ),
        Setting(
            "phase 1 batch", str(batch), "the default, 128." if batch == 128 else "a quarter of the images at most."
        ),
        Setting("phase 1 epochs", str(epochs), f"about {steps:,} steps; the online kNN tells when it stops rising."),
    ]


def _phase_2_settings(facts: Facts, student: dict[str, Any]) -> list[Setting]:
    batch, epochs = student["per_device_train_batch_size"], student["num_train_epochs"]
    steps = epochs * steps_per_epoch(facts.labelled, batch, drop_last=False)
    settings = [
        Setting(
            "labelled batch",
            str(batch),
            "the default, 64." if batch == 64 else "a quarter of the labelled images at most.",
        ),
        Setting(
            "labelled epochs",
            str(epochs),
            f"about {steps:,} steps; 2,000 ended four points lower than 10,000 where both were tried. --time_limit "
            "30m ends within that time.",
        ),
        Setting(
            "against memorising",
            "AutoAugment, CutMix, mixup, weight decay 5e-3, EMA",
            "worth up to 11 points from scratch; where a turned or recoloured image is another class, leave "
            "--auto_augment out.",
        ),
    ]
    if facts.imbalance >= UNEQUAL:
        settings.append(
            Setting("class weights", "balanced", f"the largest class has {facts.imbalance:.1f} times the smallest.")
        )
    return settings
