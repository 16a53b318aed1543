import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.cli.parser import Parser
from hf_vipriors.errors import InputError
from hf_vipriors.methods import FixMatch, Progress, Supervised
from hf_vipriors.methods.pseudo_labels import PseudoLabels
from hf_vipriors.shipped import recipes
from hf_vipriors.training import DataArguments, StudentArguments
from hf_vipriors.training.resolve import complete


def batch(labels=(0, 1, -1, -1, -1), size=32):
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(len(labels), 3, size, size, generator=generator) for _ in range(2)]
    return {"views": views, "labels": torch.tensor(labels), "index": torch.arange(len(labels))}


def make(classifiers, **options):
    student, other = classifiers()
    method = FixMatch(student, **({"ema_decay": 0.9, "label_smoothing": 0.0} | options))
    # The average predicts otherwise than the student: whose predictions are taken must show.
    method.ema.module.load_state_dict(other.state_dict())
    other.eval()
    method.begin_step(Progress(step=50, epoch=1.0, share=0.5))
    return method.eval(), student, other


def by_hand(student, teacher, inputs, confidence):
    """Image by image, as the formula has it."""
    weak, strong = inputs["views"]
    labelled = [i for i, label in enumerate(inputs["labels"]) if label >= 0]
    others = [i for i, label in enumerate(inputs["labels"]) if label < 0]
    supervised = sum(-student(weak[[i]]).logits.log_softmax(1)[0, inputs["labels"][i]] for i in labelled)
    total = 0.0
    for i in others:
        answer = teacher(weak[[i]]).logits.softmax(1)[0]
        if answer.max() >= confidence:
            total = total - student(strong[[i]]).logits.log_softmax(1)[0, answer.argmax()]
    return supervised / len(labelled), total / len(others)


@pytest.mark.parametrize("confidence", [0.0, 0.3])
def test_the_loss_is_the_formula(classifiers, confidence):
    method, student, other = make(classifiers, confidence=confidence, consistency_weight=0.7)
    inputs = batch()
    predictions = other(inputs["views"][0][2:]).logits.softmax(1).amax(1)
    if confidence:
        method.pseudo_labels.confidence = confidence = (
            predictions.sort().values[:2].mean().item()
        )  # one of three falls below
    supervised, consistency = by_hand(student, other, inputs, confidence)
    output = method(**inputs)
    torch.testing.assert_close(output.loss, supervised + 0.7 * consistency)
    torch.testing.assert_close(output.parts["consistency"], consistency.detach())
    assert output.parts["confident"] == pytest.approx((predictions >= confidence).float().mean().item())


def test_the_answers_get_no_gradient_and_the_student_does(classifiers):
    method, student, other = make(classifiers, confidence=0.0)
    method(**batch()).loss.backward()
    assert all(p.grad is None for p in method.ema.module.parameters())
    assert all(p.grad is not None and p.grad.any() for p in student.parameters())


def test_while_it_trains_the_average_normalises_by_the_batch_as_mean_teachers_do(classifiers):
    method, _, other = make(classifiers, confidence=0.0)
    inputs = batch()
    unlabelled = inputs["views"][0][2:]
    method.train()
    method(**inputs)
    other.train()
    other(unlabelled)  # its running statistics follow
    for (name, ours), theirs in zip(method.ema.module.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
    torch.testing.assert_close(method.predictions(unlabelled), other(unlabelled).logits.softmax(1))


@pytest.mark.parametrize(("share", "used"), [(0.0, 1), (0.5, 1), (0.85, 2), (1.0, 3)])
def test_a_curriculum_begins_with_few_of_the_images_without_labels(classifiers, share, used):
    method, *_ = make(classifiers, confidence=0.0, curriculum=True)
    method.begin_step(Progress(step=1, epoch=1.0, share=share))
    assert method.rows_used(5, labelled=2) == 2 + used
    assert method.rows_used(5, labelled=None) == 5, "which ones have a label is not known"
    method.ramped.fill_(1.0)
    inputs = batch((0, 1, *[-1] * used))
    # A relative threshold predicts for the labelled images in the same batch, too.
    without, *_ = make(classifiers, confidence=0.0, threshold="relative")
    without.load_state_dict(method.state_dict())
    torch.testing.assert_close(method(**inputs).loss, without(**inputs).loss)


def test_a_curriculum_is_not_compiled():
    with pytest.raises(InputError, match="curriculum changes"):
        StudentArguments("unused", method="fixmatch", curriculum=True, torch_compile=True)


def test_answers_count_more_and_more(classifiers):
    method, student, _ = make(classifiers, confidence=0.0)
    losses = []
    for share in (0.0, 0.1, 0.2, 1.0):
        method.begin_step(Progress(step=1, epoch=0.0, share=share))
        losses.append(method(**batch()).loss.item())
    alone = F.cross_entropy(student(batch()["views"][0][:2]).logits, batch()["labels"][:2]).item()
    assert losses[0] == pytest.approx(alone)
    assert losses[1] - alone == pytest.approx((losses[2] - alone) / 2, rel=1e-3)
    assert losses[2] == pytest.approx(losses[3])


def test_what_is_kept_is_the_average(classifiers):
    method, student, _ = make(classifiers)
    assert method.deployable() is method.ema.module is not student


def test_without_an_average_there_are_no_answers(classifiers):
    with pytest.raises(ValueError, match="ema_decay"):
        FixMatch(classifiers()[0])


def test_layer_decay_falls_from_the_head_to_the_stem(classifiers):
    student, _ = classifiers()
    assert Supervised(student).learning_rate_factors() == {}
    factors = Supervised(student, layer_decay=0.5).learning_rate_factors()
    assert factors.keys() == {f"student.backbone.{name}" for name, _ in student.backbone.named_parameters()}
    head, last, first, stem = (
        factors[f"student.backbone.{name}"]
        for name in ("fc.weight", "layer4.1.conv1.weight", "layer1.0.conv1.weight", "conv1.0.weight")
    )
    assert head == 1.0 and head > last > first > stem > 0


def test_targets_are_hard_unless_smoothing_is_asked_for(classifiers):
    """Smoothed ones peak below the threshold."""
    method = FixMatch(classifiers()[0], ema_decay=0.9)
    assert method._mixed(torch.zeros(1, 3, 32, 32), torch.tensor([2]))[1].tolist() == [[0, 0, 1, 0]]


@pytest.mark.parametrize(
    "recipe", ["quickstart_student", "fashion_student", "cifar10_student", "image_folder_student"]
)
@pytest.mark.parametrize(
    ("method", "given", "want"), [("fixmatch", [], 0), ("supervised", [], 0.1), ("fixmatch", ["0.2"], 0.2)]
)
def test_no_recipe_smooths_its_targets(recipe, method, given, want):
    options = ["--config", str(recipes() / f"{recipe}.yaml"), "--method", method, "--teacher", "t", "--use_cpu"]
    _, args = Parser([DataArguments, StudentArguments], "").parse(
        [*options, *(["--label_smoothing", *given] if given else [])]
    )
    assert complete(args).args.label_smoothing == want


RELATIVES = {
    "adamatch": {"threshold": "relative", "distribution_alignment": "labelled"},
    "softmatch": {"threshold": "soft", "distribution_alignment": "uniform"},
}


@pytest.mark.parametrize("relative", RELATIVES)
@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_the_loss_of_a_relative_is_its_formula(classifiers, relative, mixup):
    """Labelled images are compared with as they are, though mixup changes them in place for the student."""
    method, student, other = make(classifiers, mixup=mixup, statistics_momentum=0.5, **RELATIVES[relative])
    weak, strong = (view.clone() for view in batch()["views"])
    alike = PseudoLabels(
        4,
        threshold=RELATIVES[relative]["threshold"],
        alignment=RELATIVES[relative]["distribution_alignment"],
        momentum=0.5,
    )
    predictions = other(weak).logits.softmax(dim=1)
    method.pseudo_labels.train()
    classes, weights = alike(predictions[2:], predictions[:2])
    assert weights.any()
    want = (weights * F.cross_entropy(student(strong[2:]).logits, classes, reduction="none")).mean()
    output = method(**batch())
    torch.testing.assert_close(output.parts["consistency"], want.detach())
    assert output.parts["confident"] == weights.mean()


@pytest.mark.parametrize("relative", RELATIVES)
def test_a_checkpoint_of_a_relative_is_enough(classifiers, assert_resumes, relative):
    one, two = (FixMatch(classifiers()[0], ema_decay=0.9, **RELATIVES[relative]) for _ in range(2))
    for method in (one, two):
        method.begin_step(Progress(step=50, epoch=1.0, share=0.5))
    one.train()(**batch())
    assert_resumes(one, two, batch())


def arguments(**options):
    return complete(StudentArguments("out", method="fixmatch", use_cpu=True, **options)).args


@pytest.mark.parametrize(
    ("options", "alignment", "papers", "idle"),
    [
        ({}, "none", set(), {"statistics_momentum"}),
        ({"strong_augmentation": "randaugment"}, "none", {"1909.13719"}, {"statistics_momentum"}),
        ({"threshold": "relative"}, "labelled", {"2106.04732"}, set()),
        ({"threshold": "soft"}, "uniform", {"2301.10921"}, {"confidence"}),
        ({"threshold": "relative", "distribution_alignment": "none"}, "none", {"2106.04732"}, {"statistics_momentum"}),
        ({"distribution_alignment": "uniform"}, "uniform", {"2301.10921"}, set()),
        (
            {"threshold": "soft", "distribution_alignment": "labelled"},
            "labelled",
            {"2106.04732", "2301.10921"},
            {"confidence"},
        ),
    ],
)
def test_a_threshold_has_the_alignment_of_its_paper_which_the_card_cites(options, alignment, papers, idle):
    args = arguments(**options)
    FixMatch.check(args)
    assert args.distribution_alignment == alignment
    assert {paper.url.rsplit("/", 1)[1] for paper in FixMatch.papers_used(args)} == {
        "2008.00261",
        "2001.07685",
        "1904.04717",
    } | papers
    args.propagate_labels = False
    assert "1904.04717" not in {paper.url.rsplit("/", 1)[1] for paper in FixMatch.papers_used(args)}
    assert {"confidence", "statistics_momentum"} - set(FixMatch.options_read(args)) == idle


@pytest.mark.parametrize("strong", ["jitter", "randaugment"])
def test_the_strong_view_is_the_one_that_was_asked_for(strong, tiny_config):
    assert FixMatch.views(arguments(strong_augmentation=strong), tiny_config()).strong == strong


@pytest.mark.parametrize(
    "options",
    [{"threshold": "soft", "confidence": 0.8}, {"statistics_momentum": 0.9}],
    ids=lambda each: next(iter(each)),
)
def test_an_option_without_effect_is_refused(options):
    with pytest.raises(InputError, match="has no effect with threshold"):
        FixMatch.check(arguments(**options))
