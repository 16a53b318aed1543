import pytest

from hf_vipriors.advice import rules as advise_rules
from hf_vipriors.advice.rules import Facts, batch_for, epochs_for, image_side, recommendation
from hf_vipriors.advice.trial import ARGUMENTS
from hf_vipriors.cli.parser import Parser
from hf_vipriors.training import DataArguments
from hf_vipriors.training.resolve import resolve
from hf_vipriors.training.teacher_checks import check_teacher_given


def facts(per_class=50, *, classes=10, unlabelled=0, side=300, accelerator=False):
    return Facts({f"c{i}": per_class for i in range(classes)}, unlabelled, side, accelerator)


@pytest.mark.parametrize(
    ("found", "method", "jobs"),
    [
        (facts(50, unlabelled=5000), "phase 1 + FixMatch", ["supervised", "phase 1", "FixMatch"]),
        (facts(50), "supervised, then phase 1 + fine-tuning", ["supervised", "phase 1", "fine-tuning"]),
        (
            facts(50, unlabelled=500),
            "supervised, then phase 1 + fine-tuning",
            ["supervised", "phase 1", "fine-tuning"],
        ),
        (facts(1000, unlabelled=90_000), "phase 1 + FixMatch", ["supervised", "phase 1", "FixMatch"]),
        (facts(1000, unlabelled=1000), "supervised", ["supervised"]),
        (Facts({}, 800, 300, False), "phase 1", ["phase 1"]),
    ],
)
def test_the_rule_table(found, method, jobs):
    advice = recommendation(found, "mine")
    assert advice.method == method and [job.name for job in advice.jobs] == jobs
    assert advice.reason.endswith(".") and advice.enough.endswith((".", "seeds."))


@pytest.mark.parametrize(
    ("per_class", "begins"),
    [(3, "Not yet: 'c0' has 3"), (20, "Only just: 20"), (50, "Yes: 50"), (900, "Yes, many: 900")],
)
def test_enough(per_class, begins):
    assert advise_rules.enough(facts(per_class)).startswith(begins)
    assert advise_rules.enough(Facts({"many": 500, "rare": 4}, 0, 64, False)).startswith("Not yet: 'rare' has 4")


def test_small_images_are_enlarged_three_times_at_most_and_a_cpu_is_spared():
    assert [image_side(facts(side=side)) for side in (8, 16, 28, 32, 63, 100)] == [48, 48, 64, 96, 96, 96]
    assert image_side(facts(side=130, accelerator=True)) == 128
    assert image_side(facts(side=4000)) == 96
    assert image_side(facts(side=4000, accelerator=True)) == 224


@pytest.mark.parametrize(("images", "batch"), [(5, 2), (16, 4), (500, 64), (511, 64), (512, 128), (10**6, 128)])
def test_batch_is_a_power_of_two_within_a_quarter(images, batch):
    assert batch_for(images, 128) == batch


def test_epochs_stay_within_bounds_and_aim_at_steps():
    assert epochs_for(6400, 64, 10_000, (60, 300), drop_last=False) == 100
    assert epochs_for(64, 64, 10_000, (60, 300), drop_last=False) == 300
    assert epochs_for(10**6, 64, 10_000, (60, 300), drop_last=False) == 60


@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize("unlabelled", [0, 5000])
@pytest.mark.parametrize("per_class", [2, 10, 50, 2000])
def test_every_job_is_accepted_by_its_command(per_class, unlabelled, accelerator):
    """No range check, no unknown option: what is recommended can be run, and its batch suits its images."""
    found = facts(per_class, unlabelled=unlabelled, accelerator=accelerator)
    for job in recommendation(found, "mine").jobs:
        parser = Parser([DataArguments, ARGUMENTS[job.command]], "")
        _, args = parser.parse(["--use_cpu"], parser.checked(job.options, job.name))
        images = found.labelled + (found.unlabelled if job.command == "train_teacher" else 0)
        assert args.per_device_train_batch_size * 4 <= images or args.per_device_train_batch_size == 2
        check_teacher_given(args)
        assert resolve(args, images=images).args.learning_rate > 0


def test_phase_2_starts_from_the_teacher_that_phase_1_leaves():
    _, teacher, student = recommendation(facts(), "mine").jobs
    assert student.options["teacher"] == teacher.options["output_dir"]
    assert len({job.options["output_dir"] for job in recommendation(facts(), "mine").jobs}) == 3


def test_fixmatch_has_the_threshold_that_its_augmentation_leaves_predictions_above():
    advice = recommendation(facts(unlabelled=5000), "mine")
    assert advice.jobs[-1].options["threshold"] == "relative"
    assert not any("threshold" in job.options for job in advice.jobs[:-1])


def test_unequal_classes_are_weighted():
    even, uneven = facts(), Facts({"a": 100, "b": 50}, 0, 64, False)
    assert "class_weights" not in recommendation(even, "mine").jobs[0].options
    assert recommendation(uneven, "mine").jobs[0].options["class_weights"] == "balanced"
