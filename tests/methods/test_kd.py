import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hf_vipriors import losses
from hf_vipriors.methods import KnowledgeDistillation, Progress


def batch(count=4, size=32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, size, size, generator=generator)
    return {"views": [images], "labels": torch.arange(count) % 4, "index": torch.arange(count)}


def divergence(student, teacher, temperature):
    """T^2 KL(teacher || student), mean over the rows, in float64."""
    log_s, log_t = ((t.double() / temperature).log_softmax(dim=1) for t in (student, teacher))
    return (temperature**2 * (log_t.exp() * (log_t - log_s)).sum(dim=1).mean()).float()


@pytest.mark.parametrize(("weights", "temperature", "smoothing"), [((0.1, 0.9), 4.0, 0.0), ((1.0, 1.0), 2.0, 0.1)])
def test_loss_is_the_formula(classifiers, weights, temperature, smoothing):
    student, teacher = classifiers()
    method = KnowledgeDistillation(
        student,
        teacher,
        classification_weight=weights[0],
        kd_weight=weights[1],
        kd_temperature=temperature,
        label_smoothing=smoothing,
    ).eval()
    inputs = batch()
    output, logits = method(**inputs), student(inputs["views"][0]).logits
    classification = F.cross_entropy(logits, inputs["labels"], label_smoothing=smoothing)
    distilled = divergence(logits, teacher(inputs["views"][0]).logits, temperature)
    torch.testing.assert_close(output.loss, weights[0] * classification + weights[1] * distilled, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(output.parts["classification"], classification.detach())
    torch.testing.assert_close(output.parts["kd"], distilled.detach(), rtol=1e-4, atol=1e-6)
    assert distilled > 1e-3
    torch.testing.assert_close(output.logits, logits)


def test_default_weights_and_temperature_are_the_published_ones(classifiers):
    student, teacher = classifiers()
    published = {"classification_weight": 0.1, "kd_weight": 0.9, "kd_temperature": 4.0}
    want = KnowledgeDistillation(student, teacher, **published).eval()(**batch()).loss
    assert torch.equal(KnowledgeDistillation(student, teacher).eval()(**batch()).loss, want)


def test_the_student_moves_and_the_teacher_does_not(classifiers, assert_trained, snapshot, steps, watched):
    student, teacher = classifiers()
    untouched = watched(teacher)
    method = KnowledgeDistillation(student, teacher)
    before = snapshot(method)
    steps(method.train(), batch(), torch.optim.SGD(method.parameters(), lr=0.1))
    assert_trained(before, method)
    untouched(method)
    assert method.deployable() is student


def test_answers_alone_teach_every_parameter(classifiers, assert_trained, snapshot, steps):
    """The teacher's predictions reach the whole student, without any label."""
    method = KnowledgeDistillation(*classifiers(), classification_weight=0.0)
    before = snapshot(method)
    steps(method.train(), batch(), torch.optim.SGD(method.parameters(), lr=0.1))
    assert_trained(before, method)


def test_the_student_comes_to_answer_as_the_teacher(classifiers):
    method, parts = KnowledgeDistillation(*classifiers(), classification_weight=0.0), []
    optimizer = torch.optim.AdamW(method.parameters(), lr=5e-3)
    for _ in range(15):
        output = method(**batch(8))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        parts.append(output.parts["kd"].item())
    assert parts[-1] < 0.3 * parts[0]


def test_a_checkpoint_holds_the_student_and_is_enough(classifiers, assert_resumes):
    student, teacher = classifiers()
    method = KnowledgeDistillation(student, teacher, ema_decay=0.9)
    method(**batch())
    method.end_step(Progress(step=1, epoch=0, share=0))
    assert {name.split(".")[0] for name in method.state_dict()} == {"student", "ema"}
    torch.manual_seed(9)
    fresh = type(student)(student.config)
    assert_resumes(method, KnowledgeDistillation(fresh, teacher, ema_decay=0.9), batch())


def test_both_networks_see_the_mixed_images(classifiers):
    np.random.seed(0)
    student, teacher = classifiers()
    method, seen, inputs = KnowledgeDistillation(student, teacher, mixup=1.0), [], batch()
    for model in (student, teacher):
        model.backbone.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    original = inputs["views"][0].clone()
    method(**inputs)
    assert torch.equal(*seen) and not torch.allclose(seen[0], original)


def test_the_teacher_sees_the_images_in_its_own_statistics(classifiers):
    student, teacher = classifiers()
    same = KnowledgeDistillation(student, teacher).eval()(**batch()).parts["kd"]
    teacher.config.image_mean, teacher.config.image_std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    method = KnowledgeDistillation(student, teacher).eval()
    images = batch()["views"][0]
    want = divergence(student(images).logits, teacher(method.teacher.prepared(images)).logits, 4.0)
    got = method(**batch()).parts["kd"]
    torch.testing.assert_close(got, want.detach(), rtol=1e-4, atol=1e-6)
    assert not torch.isclose(got, same, rtol=1e-3)


def test_a_teacher_with_batch_statistics_where_asked(classifiers):
    student, teacher = classifiers()
    KnowledgeDistillation(student, teacher, batch_statistics=True)
    assert teacher.training
    KnowledgeDistillation(student, teacher)
    assert not teacher.training


def test_answers_of_a_teacher_without_these_classes_are_refused(classifiers, embedder):
    student, _ = classifiers()
    with pytest.raises(ValueError, match="5 classes, not 4"):
        KnowledgeDistillation(student, classifiers(classes=5)[1])
    with pytest.raises(ValueError, match="not 4"):
        KnowledgeDistillation(student, embedder(projector_dim=8))


def test_without_answers_any_teacher_will_do(classifiers, embedder):
    student, _ = classifiers()
    for teacher in (embedder(projector_dim=8), classifiers(classes=5)[1]):
        method = KnowledgeDistillation(student, teacher, classification_weight=1.0, kd_weight=0.0, label_smoothing=0.0)
        output = method.eval()(**batch())
        want = F.cross_entropy(student(batch()["views"][0]).logits, batch()["labels"])
        torch.testing.assert_close(output.loss, want)
        assert set(output.parts) == {"classification"}


@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_images_without_a_label_get_the_answers_alone(classifiers, mixup):
    student, teacher = classifiers()
    method = KnowledgeDistillation(student, teacher, mixup=mixup, label_smoothing=0.0).eval()
    inputs = batch()
    inputs["labels"][2:] = -1
    np.random.seed(0)
    output = method(**inputs)
    np.random.seed(0)
    labelled, targets = method.mixed(inputs["views"][0][:2], inputs["labels"][:2])
    others, _ = method.mixed(inputs["views"][0][2:], torch.zeros_like(inputs["labels"][2:]))
    images = torch.cat([labelled, others])
    logits = student(images).logits
    torch.testing.assert_close(output.parts["classification"], F.cross_entropy(logits[:2], targets))
    torch.testing.assert_close(output.parts["kd"], losses.kd(logits, teacher(images).logits))
    assert targets.shape == (2, method.num_classes)


def test_the_order_of_labelled_and_unlabelled_images_does_not_matter(classifiers):
    method = KnowledgeDistillation(*classifiers(), label_smoothing=0.0).eval()
    inputs = batch()
    inputs["labels"][0] = -1
    turned = {"views": [inputs["views"][0].flip(0)], "labels": inputs["labels"].flip(0), "index": inputs["index"]}
    torch.testing.assert_close(method(**inputs).loss, method(**turned).loss)


FAMILIES = [("resnet18", "convnext_atto"), ("vit_tiny_patch16_224", "resnet18"), ("mobilenetv3_small_050", "resnet18")]


@pytest.mark.slow
@pytest.mark.parametrize(("student", "teacher"), FAMILIES)
def test_any_two_networks(classifiers, assert_trained, snapshot, steps, watched, student, teacher):
    student, teacher = classifiers(student, teacher)
    untouched = watched(teacher)
    method = KnowledgeDistillation(student, teacher).train()
    before = snapshot(method)
    assert method(**batch()).parts["kd"] > 0
    steps(method, batch(), torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.0))
    assert_trained(before, method)
    untouched(method)
