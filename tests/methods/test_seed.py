import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.methods import Seed
from hf_vipriors.training import PretrainArguments

T_STUDENT, T_TEACHER = 0.2, 0.01


def batch(sizes=(32,), count=4, first=0):
    generator = torch.Generator().manual_seed(first)
    views = [torch.randn(count, 3, size, size, generator=generator) for size in sizes]
    return {"views": views, "labels": torch.full((count,), -1), "index": torch.arange(first, first + count)}


@pytest.fixture
def build(embedder):
    """``build(queue_length=10)``: SEED from one small network to another, both 8 wide."""

    def make(seed=0, **options):
        options = {"queue_length": 10} | options
        return Seed(embedder(seed + 1, projector_dim=8), embedder(0, projector_dim=8), **options)

    return make


def formula(method, queue, view, index, masked, temperatures=(T_STUDENT, T_TEACHER)):
    """-sum p_t log p_s over [own embedding ; queue entries of other images], image by image, in float64."""
    teacher = F.normalize(method.teacher.model(view).projection.double(), dim=1)
    student = F.normalize(method.student(view).projection.double(), dim=1)
    total = 0.0
    for z_t, z_s, number in zip(teacher, student, index, strict=True):
        keep = [i for i, other in enumerate(queue.index) if not masked or other != number]
        entries = torch.stack([z_t, *queue.keys[keep].double()])
        target = (entries @ z_t / temperatures[1]).softmax(dim=0)
        total = total - (target * (entries @ z_s / temperatures[0]).log_softmax(dim=0)).sum()
    return (total / len(view)).float()


def fill(queue, method, first=0, count=6):
    """Real keys, among them those of the images of ``batch()``: otherwise no entry would be masked."""
    other = batch(count=count, first=first)
    queue.push_from_all(method.teacher.embedding(other["views"][0]), other["index"])


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("temperatures", [(T_STUDENT, T_TEACHER), (0.5, 0.07)])
def test_loss_is_the_formula(build, masked, temperatures):
    options = {"student_temperature": temperatures[0], "teacher_temperature": temperatures[1]}
    method = build(instance_aware=masked, **options).eval()
    fill(method.queue, method, first=2)
    inputs = batch()
    assert set(method.queue.index.tolist()) & set(inputs["index"].tolist())
    output = method(**inputs)
    want = formula(method, method.queue, inputs["views"][0], inputs["index"], masked, temperatures)
    torch.testing.assert_close(output.loss, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.parts["similarity"], output.loss.detach())
    if masked:
        blind = formula(method, method.queue, inputs["views"][0], inputs["index"], False, temperatures)
        assert not torch.isclose(want, blind, rtol=1e-3), "the mask must matter here"


def test_default_temperatures_are_the_published_ones(build):
    method = build().eval()
    inputs = batch()
    want = formula(method, method.queue, inputs["views"][0], inputs["index"], True)
    torch.testing.assert_close(method(**inputs).loss, want, rtol=1e-4, atol=1e-5)


def test_the_logged_cosine_is_that_of_student_and_teacher(build):
    method = build().eval()
    view = batch()["views"][0]
    want = F.cosine_similarity(method.student(view).projection, method.teacher.model(view).projection).mean()
    torch.testing.assert_close(method(**batch()).parts["teacher_cosine"], want.detach())


def test_the_student_moves_and_the_teacher_does_not(build, assert_trained, snapshot, steps, watched):
    method = build()
    untouched, before = watched(method.teacher.model), snapshot(method)
    steps(method.train(), batch(), torch.optim.SGD(method.parameters(), lr=0.1))
    assert_trained(before, method)
    untouched(method)
    assert all(name.startswith("student.") for name in before)
    assert method.deployable() is method.student


def test_the_student_comes_to_agree_with_the_teacher(build):
    method, inputs = build(), batch(count=8)
    optimizer, cosines = torch.optim.AdamW(method.parameters(), lr=5e-3), []
    for _ in range(15):
        output = method(**inputs)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        cosines.append(output.parts["teacher_cosine"].item())
    assert cosines[-1] > cosines[0] + 0.3


def test_embeddings_enter_the_queue_after_the_loss(build):
    method, inputs = build(), batch()
    method.student.eval()  # the queue follows the method, not the student
    want = formula(method, method.queue, inputs["views"][0], inputs["index"], True)
    torch.testing.assert_close(method(**inputs).loss, want, rtol=1e-4, atol=1e-5)
    teacher = F.normalize(method.teacher.model(inputs["views"][0]).projection, dim=1)
    torch.testing.assert_close(method.queue.keys[:4], teacher)
    assert method.queue.index.tolist() == [0, 1, 2, 3] + [-1] * 6
    for first in (4, 8):
        method(**batch(first=first))
    assert method.queue.index.tolist() == [10, 11, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_queues_are_still_while_evaluating(build):
    method = build(patch_queue_length=5).eval()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    method(**batch((32, 16)))
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("weight", [None, 1.0, 0.5])
def test_multi_crop_is_the_mean_over_all_views_or_of_each_size_with_its_queue(build, weight):
    method = build(patch_queue_length=7, patch_weight=weight).eval()
    fill(method.queue, method, first=1)
    fill(method.patch_queue, method, first=3, count=5)
    inputs = batch((32, 32, 16, 16, 16))
    want = [
        formula(method, method.queue if view.shape[-1] == 32 else method.patch_queue, view, inputs["index"], True)
        for view in inputs["views"]
    ]
    full, small = torch.stack(want[:2]).mean(), torch.stack(want[2:]).mean()
    total = torch.stack(want).mean() if weight is None else full + weight * small
    torch.testing.assert_close(method(**inputs).loss, total, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "views"), [({}, 1), ({"patches": 3}, 5), ({"patches": 3, "patch_weight": 1.0}, 4)]
)
def test_the_published_multi_crop_has_one_full_view(tiny_config, options, views):
    args = PretrainArguments("out", method="seed", teacher="t", use_cpu=True, image_size=32, patch_size=16, **options)
    made = Seed.views(args, tiny_config())(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.Generator())
    assert len(made) == views and [view.shape[-1] for view in made].count(32) == views - options.get("patches", 0)


def test_of_each_size_one_view_of_every_image_enters_its_queue(build):
    method, inputs = build(patch_queue_length=7), batch((32, 32, 16, 16, 16))
    method(**inputs)
    for queue, view in ((method.queue, inputs["views"][0]), (method.patch_queue, inputs["views"][2])):
        want = F.normalize(method.teacher.model(view).projection, dim=1)
        torch.testing.assert_close(queue.keys[:4], want, rtol=1e-4, atol=1e-5)
        assert queue.index.tolist() == [0, 1, 2, 3] + [-1] * (len(queue) - 4)


def test_small_views_without_a_queue_are_refused(build):
    with pytest.raises(ValueError, match="patch_queue_length"):
        build()(**batch((32, 16)))


@pytest.mark.parametrize("patches", [None, 6])
def test_a_checkpoint_holds_student_and_queues_and_is_enough(build, assert_resumes, patches):
    sizes = (32,) if patches is None else (32, 16)
    method = build(patch_queue_length=patches)
    method(**batch(sizes))
    roots = {name.split(".")[0] for name in method.state_dict()}
    assert roots == {"student", "queue"} | ({"patch_queue"} if patches else set())
    assert_resumes(method, build(seed=5, patch_queue_length=patches), batch(sizes, first=3))


def test_a_teacher_without_projector_gives_its_pooled_features(embedder, classifiers):
    for teacher in (embedder(), classifiers()[1]):
        student = embedder(1, projector_dim=16)
        method = Seed(student, teacher, queue_length=6)
        method(**batch())
        torch.testing.assert_close(
            method.queue.keys[:4], F.normalize(teacher.features(batch()["views"][0]), dim=1), rtol=1e-4, atol=1e-5
        )


def test_a_student_of_another_width_is_refused(embedder):
    for width in (6, None):
        with pytest.raises(ValueError, match="embeds in 8"):
            Seed(embedder(projector_dim=width), embedder(projector_dim=8), queue_length=4)


STUDENTS = ["resnet18", "resnet34", "resnet50", "efficientnet_b0", "efficientnet_b1", "mobilenetv3_large_100"]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDENTS)
def test_the_published_students(embedder, assert_trained, snapshot, watched, name):
    student = embedder(1, name, projector_dim=8, backbone_args={})
    method = Seed(student, embedder(projector_dim=8), queue_length=8).train()
    untouched, before = watched(method.teacher.model), snapshot(method)
    optimizer = torch.optim.SGD(method.parameters(), lr=10.0)
    loss = method(**batch()).loss
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert_trained(before, method)
    untouched(method)
