import math

import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.losses import kd
from hf_vipriors.methods import Crd

LABELS = torch.tensor([0, 1, 2, 3] * 4)  # of all 16 training images: 12 of other classes for each


def batch(count=4, first=0, size=32):
    generator = torch.Generator().manual_seed(1 + first)
    index = torch.arange(first, first + count)
    views = [torch.randn(count, 3, size, size, generator=generator)]
    return {"views": views, "labels": LABELS[index], "index": index}


@pytest.fixture
def build(classifiers):
    def make(**options):
        student, teacher = classifiers()
        return Crd(student, teacher, **{"labels": LABELS, "embedding_dim": 8, "label_smoothing": 0.0} | options)

    return make


def embeddings(method, images):
    """Unit embeddings by student and teacher."""
    student, teacher = method.student.features(images), method.teacher.model.features(images)
    pair = (method.student_embedding(student), method.teacher_embedding(teacher))
    return tuple(F.normalize(e, dim=1) for e in pair)


def direction(anchors, memory, index, normaliser, temperature):
    """Noise-contrastive estimation of one direction with every image of another class, by the paper's critic h."""
    total, images = 0.0, len(LABELS)
    for anchor, number in zip(anchors.double(), index, strict=True):
        positive, others = memory[number].double(), memory[LABELS != LABELS[number]].double()
        noise = len(others) / images

        def h(x, anchor=anchor, noise=noise):
            u = (anchor @ x / temperature).exp() / normaliser
            return u / (u + noise)

        total = total - h(positive).log() - sum((1 - h(x)).log() for x in others)
    return (total / len(anchors)).float()


def first_normaliser(anchors, memory, index, temperature):
    values = []
    for anchor, number in zip(anchors, index, strict=True):
        pairs = torch.stack([memory[number], *memory[LABELS != LABELS[number]]])
        values.append((pairs @ anchor / temperature).exp())
    return len(LABELS) * torch.cat(values).mean().item()


@pytest.mark.parametrize(
    ("weight", "kd_weight", "temperature"), [(0.8, 0.0, 0.07), (2.0, 0.5, 0.3)], ids=["published", "other"]
)
def test_loss_is_the_formula(build, weight, kd_weight, temperature):
    """Twice, with two images of the first batch in the second: their positives are what the memory keeps of them. The
    normalisers are those of the first batch both times."""
    method = build(contrast_weight=weight, kd_weight=kd_weight, temperature=temperature)
    method.student.eval()
    levels = None
    for first in (0, 2):
        inputs = batch(first=first)
        images, index = inputs["views"][0], inputs["index"]
        student, teacher = embeddings(method, images)
        pairs = (student, method.teacher_memory.clone()), (teacher, method.student_memory.clone())
        if levels is None:
            levels = [first_normaliser(anchors, memory, index, temperature) for anchors, memory in pairs]
        contrast = sum(
            direction(anchors, memory, index, level, temperature)
            for (anchors, memory), level in zip(pairs, levels, strict=True)
        )
        logits = method.student(images).logits
        want = F.cross_entropy(logits, inputs["labels"]) + weight * contrast
        if kd_weight:
            want = want + kd_weight * kd(logits, method.teacher.model(images).logits)
        output = method(**inputs)
        torch.testing.assert_close(output.parts["contrast"], contrast.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.loss, want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.logits, logits)
        torch.testing.assert_close(method.normalisers, torch.tensor(levels), rtol=1e-4, atol=1e-4)
        weights = method.student_embedding.weight, method.teacher_embedding.weight
        gradients = torch.autograd.grad(output.loss, weights)
        torch.testing.assert_close(gradients, torch.autograd.grad(want, weights), rtol=1e-3, atol=1e-5)


def test_defaults_are_the_published_ones(build, classifiers):
    torch.manual_seed(3)
    named = build(contrast_weight=0.8, temperature=0.07, memory_momentum=0.5, classification_weight=1.0, kd_weight=0.0)
    other = build()
    other.load_state_dict(named.state_dict())
    found = []
    for method in (named, other):
        torch.manual_seed(4)  # in which order the negatives are summed is drawn
        found.append(method(**batch()).loss)
    assert torch.equal(*found)
    assert torch.equal(named.student_memory, other.student_memory)
    student, teacher = classifiers()
    wide = Crd(student, teacher, labels=torch.arange(20000) % 4)
    assert wide.student_embedding.out_features == 128 and wide.negatives == 15000
    assert Crd(student, teacher, labels=torch.arange(40000) % 4).negatives == 16384


def test_untaught_the_contrast_stands_at_its_known_level(build):
    """Embeddings that are all alike: log(1 + K) + K log(1 + 1 / K) for each direction."""
    method = build(temperature=0.5).eval()
    with torch.no_grad():
        for name in ("student_embedding", "teacher_embedding"):
            method.get_parameter(f"{name}.weight").zero_()
            method.get_parameter(f"{name}.bias").copy_(torch.eye(8)[0])
        method.student_memory.copy_(torch.eye(8)[:1]), method.teacher_memory.copy_(torch.eye(8)[:1])
    want = 2 * (math.log(1 + 12) + 12 * math.log(1 + 1 / 12))
    assert method(**batch()).parts["contrast"].item() == pytest.approx(want, rel=1e-4)


def test_student_and_embeddings_move_and_the_teacher_does_not(build, assert_trained, snapshot, steps, watched):
    method = build()
    untouched, before = watched(method.teacher.model), snapshot(method)
    assert {"student_embedding.weight", "teacher_embedding.weight"} <= before.keys()
    steps(method.train(), batch(), torch.optim.SGD(method.parameters(), lr=0.01))
    assert_trained(before, method)
    untouched(method)
    assert method.deployable() is method.student


def test_the_contrast_alone_reaches_the_whole_backbone(build):
    method = build(classification_weight=0.0)
    method(**batch()).loss.backward()
    for name, parameter in method.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached != name.startswith("student.backbone.fc."), name


@pytest.mark.parametrize("negatives", [1, 5, 12])
def test_negatives_are_different_images_of_other_classes(build, negatives):
    method = build(negatives=negatives)
    torch.manual_seed(0)
    index, met = torch.tensor([0, 5, 10, 15]), set()
    for _ in range(100):
        others = method._others(index)
        assert others.shape == (4, negatives)
        assert (LABELS[others] != LABELS[index][:, None]).all()
        assert all(len(row.unique()) == negatives for row in others)
        met |= set(others[0].tolist())
    assert met == set(torch.where(LABELS != 0)[0].tolist()), "every image of another class comes up"


def test_classes_are_those_of_the_data_set_not_of_the_batch(build):
    """The labels of a batch say nothing about the other images: the numbers do."""
    method = build()
    seen = []
    method._contrast = lambda student, teacher, index, others: seen.append(others) or student.sum()
    method(**batch() | {"index": torch.tensor([3, 7, 11, 15])})
    assert (LABELS[seen[0]] != 3).all()


def test_where_fewer_exist_the_largest_class_decides(build):
    labels = torch.tensor([0] * 13 + [1, 2, 3])
    method = build(labels=labels)
    others = method._others(torch.tensor([0, 14]))
    assert others.shape == (2, 3)
    assert others[0].sort().values.tolist() == [13, 14, 15] and 14 not in others[1].tolist()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_memory_moves_by_its_momentum_after_the_loss_for_the_images_of_the_batch(build, momentum):
    method = build(memory_momentum=momentum)
    method.student.eval()
    inputs = batch(first=3)
    old = method.student_memory.clone(), method.teacher_memory.clone()
    method(**inputs)
    for memory, before, embedding in zip(
        (method.student_memory, method.teacher_memory), old, embeddings(method, inputs["views"][0]), strict=True
    ):
        want = F.normalize(momentum * before[3:7] + (1 - momentum) * embedding, dim=1)
        torch.testing.assert_close(memory[3:7], want, rtol=1e-4, atol=1e-5)
        rest = [i for i in range(16) if i not in range(3, 7)]
        assert torch.equal(memory[rest], before[rest])
        assert not memory.requires_grad


def test_memories_start_as_random_unit_vectors(build):
    method = build()
    for memory in (method.student_memory, method.teacher_memory):
        assert memory.shape == (16, 8) and len(memory.unique(dim=0)) == 16
        torch.testing.assert_close(memory.norm(dim=1), torch.ones(16))
    assert not torch.equal(method.student_memory, method.teacher_memory)


def test_memories_and_normalisers_are_still_while_evaluating(build):
    method = build().eval()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    assert method(**batch()).loss.isfinite()
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("negatives", [12, 5])
def test_a_checkpoint_holds_memories_and_normalisers_and_is_enough(build, classifiers, assert_resumes, negatives):
    method = build(negatives=negatives)
    method(**batch())
    roots = {name.split(".")[0] for name in method.state_dict()}
    linear = {"student_embedding", "teacher_embedding"}
    assert roots == {"student", "student_memory", "teacher_memory", "normalisers"} | linear
    student, _ = classifiers()
    torch.manual_seed(9)
    options = {"labels": LABELS, "embedding_dim": 8, "label_smoothing": 0.0, "negatives": negatives}
    other = Crd(type(student)(student.config), method.teacher.model, **options)
    assert not torch.equal(other.student_memory, method.student_memory)
    assert_resumes(method, other, batch(first=2))


def test_one_class_has_no_negatives(build):
    with pytest.raises(ValueError, match="only one"):
        build(labels=torch.zeros(16, dtype=torch.long))


def test_a_teacher_without_answers_will_do_unless_they_are_distilled(classifiers, embedder):
    student, _ = classifiers()
    teacher = embedder(projector_dim=8)
    assert set(Crd(student, teacher, labels=LABELS)(**batch()).parts) == {"classification", "contrast"}
    with pytest.raises(ValueError, match="classes"):
        Crd(student, teacher, labels=LABELS, kd_weight=1.0)


FAMILIES = [("resnet18", "convnext_atto"), ("vit_tiny_patch16_224", "resnet18"), ("mobilenetv3_small_050", "resnet18")]


@pytest.mark.slow
@pytest.mark.parametrize(("student", "teacher"), FAMILIES)
def test_any_two_networks(classifiers, assert_trained, snapshot, steps, watched, student, teacher):
    student, teacher = classifiers(student, teacher)
    untouched = watched(teacher)
    method = Crd(student, teacher, labels=LABELS, embedding_dim=8).train()
    before = snapshot(method)
    assert method(**batch()).parts["contrast"] > 0
    steps(method, batch(), torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.0))
    assert_trained(before, method)
    untouched(method)
