import pytest
import torch

from hf_vipriors.losses import sskd
from hf_vipriors.methods import Progress, Sskd, SskdPretext, self_supervision_head

PUBLISHED = {"weights": (0.1, 0.9, 2.7, 10.0), "temperatures": (4.0, 4.0, 0.5), "keep": (1.0, 0.75)}


def batch(count=4, size=32):
    """Four rotations of each image, row 4i upright."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, size, size, generator=generator)
    turned = torch.stack([images.rot90(k, (2, 3)) for k in range(4)], dim=1).flatten(0, 1)
    return {"views": [turned], "labels": torch.arange(count) % 4, "index": torch.arange(count)}


@pytest.fixture
def build(classifiers):
    def make(**options):
        student, teacher = classifiers()
        return Sskd(student, teacher, self_supervision_head(16), **options)

    return make


def outputs(method, images):
    """Logits and projections of student and teacher, network by network."""
    student, teacher, head = method.student, method.teacher.model, method._held_head[0]
    ours = student(images).logits, method.head(student.features(images))
    return *ours, teacher(images).logits, head(teacher.features(images))


# Stage 2


@pytest.mark.parametrize(
    "options",
    [PUBLISHED, {"weights": (1.0, 2.0, 3.0, 4.0), "temperatures": (2.0, 3.0, 0.7), "keep": (0.5, 0.25)}],
    ids=["published", "other"],
)
def test_loss_is_the_formula(build, options):
    method, inputs = build(**options).eval(), batch(5)
    output, images = method(**inputs), inputs["views"][0]
    want = sskd.sskd(*outputs(method, images), inputs["labels"], **options)
    torch.testing.assert_close(output.loss, want.total)
    by_parts = sum(w * p for w, p in zip(options["weights"], (want.ce, want.kd, want.tf, want.ss), strict=True))
    torch.testing.assert_close(output.loss, by_parts)
    names = {"classification": want.ce, "kd": want.kd, "transfer": want.tf, "similarity": want.ss}
    for name, part in names.items():
        torch.testing.assert_close(output.parts[name], part.detach())
    torch.testing.assert_close(output.logits, method.student(images[::4]).logits)
    assert len(output.logits) == 5


def test_defaults_are_the_published_ones(build):
    assert torch.equal(build().eval()(**batch()).loss, build(**PUBLISHED).eval()(**batch()).loss)


def test_similarities_alone_reach_the_whole_backbone(build):
    method = build(weights=(0.0, 0.0, 0.0, 10.0))
    method(**batch()).loss.backward()
    for name, parameter in method.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached != name.startswith("student.backbone.fc."), name


def answering(method, labels, right):
    """Make the teacher's predictions a table: row r of ``labels``' rotations is right where ``right`` says, and where
    it is not the wrong rows rank their answer 1, 2, 3, 1, 2, 3 ..."""
    predictions = labels.repeat_interleave(4)
    logits = torch.zeros(len(predictions), 4)
    for row, (answer, is_right) in enumerate(zip(predictions.tolist(), right.tolist(), strict=True)):
        order = [answer] if is_right else []
        others = [c for c in range(4) if c != answer]
        order = order + others if is_right else others[: row % 3 + 1] + [answer] + others[row % 3 + 1 :]
        logits[row, order] = torch.tensor([3.0, 2.0, 1.0, 0.0])
    features = torch.randn(len(predictions), 16, generator=torch.Generator().manual_seed(2))
    method.teacher.pooled_and_logits = lambda images: (features, logits)


@pytest.mark.parametrize(("keep", "kept"), [(1.0, 12), (0.5, 8), (0.25, 6), (0.1, 5), (0.0, 5)])
def test_the_share_of_rows_kept_for_the_answers_is_logged(build, keep, kept):
    """Of 12 rotated rows the teacher is right on 5; of the 7 others int(7 keep) are transferred."""
    method, inputs = build(keep=(keep, 0.75)).eval(), batch()
    right = torch.zeros(4, 4, dtype=torch.bool)
    right[:, 0] = True  # upright rows are never selected
    right[0, 1:], right[1, 2:] = True, True
    answering(method, inputs["labels"], right.flatten())
    parts = method(**inputs).parts
    assert parts["kept_transfer"].item() == pytest.approx(kept / 12)


def test_the_share_of_rows_kept_for_the_similarities_is_logged(build):
    inputs, shares = batch(), []
    for keep in (0.0, 0.5, 1.0):
        method = build(keep=(1.0, keep)).eval()
        projection = outputs(method, inputs["views"][0])[3]
        unit = torch.nn.functional.normalize(projection, dim=1).view(4, 4, -1)
        similarity = unit[:, 1:].flatten(0, 1) @ unit[:, 0].T
        right = int((similarity.argmax(dim=1) == torch.arange(4).repeat_interleave(3)).sum())
        assert 0 < right < 12
        shares.append(method(**inputs).parts["kept_similarity"].item())
        assert shares[-1] == pytest.approx((right + int((12 - right) * keep)) / 12)
    assert shares[0] < shares[1] < shares[2] == 1


def test_student_and_head_move_teacher_and_its_head_do_not(build, assert_trained, snapshot, steps, watched):
    method = build()
    held = method._held_head[0]
    of_teacher, of_head, before = watched(method.teacher.model), watched(held), snapshot(method)
    assert any(name.startswith("head.") for name in before)
    steps(method.train(), batch(), torch.optim.SGD(method.parameters(), lr=0.01))
    assert_trained(before, method)
    of_teacher(method), of_head(method)
    assert method.deployable() is method.student


def test_a_trainable_head_is_frozen_on_the_way_in(classifiers):
    student, teacher = classifiers()
    held = self_supervision_head(16).train()
    assert all(p.requires_grad for p in held.parameters())
    Sskd(student, teacher, held)
    assert not any(p.requires_grad for p in held.parameters()) and not held.training


def test_teacher_and_head_follow_to(build):
    method = build().double()
    assert {p.dtype for p in method._held_head[0].parameters()} == {torch.float64}
    inputs = batch()
    assert method(**inputs | {"views": [inputs["views"][0].double()]}).loss.isfinite()


def test_a_checkpoint_holds_student_and_its_head_and_is_enough(build, classifiers, assert_resumes):
    method = build(ema_decay=0.9)
    method(**batch())
    method.end_step(Progress(step=1, epoch=0, share=0))
    assert {name.split(".")[0] for name in method.state_dict()} == {"student", "head", "ema"}
    student, _ = classifiers()
    torch.manual_seed(9)
    other = Sskd(type(student)(student.config), method.teacher.model, method._held_head[0], ema_decay=0.9)
    assert_resumes(method, other, batch())
    assert method.deployable() is method.ema.module


def test_rows_that_are_not_four_for_each_label_are_refused(build):
    inputs = batch()
    with pytest.raises(ValueError, match="12 rows for 4 labels"):
        build()(**inputs | {"views": [inputs["views"][0][:12]]})


def test_an_image_without_label_is_refused(build):
    inputs = batch()
    inputs["labels"][1] = -1
    with pytest.raises(ValueError, match="without a label"):
        build()(**inputs)


def test_a_teacher_without_these_classes_is_refused(classifiers, embedder):
    student, _ = classifiers()
    for teacher in (classifiers(classes=5)[1], embedder(projector_dim=8)):
        with pytest.raises(ValueError, match="not 4"):
            Sskd(student, teacher, self_supervision_head(16))


# Stage 1


def test_head_is_two_layers_as_wide_as_the_features():
    head = self_supervision_head(16)
    assert [type(m).__name__ for m in head] == ["Linear", "ReLU", "Linear"]
    assert {tuple(p.shape) for p in head.parameters()} == {(16, 16), (16,)}


def test_pretext_is_the_formula_on_frozen_features(classifiers):
    _, teacher = classifiers()
    head, inputs = self_supervision_head(16), batch()
    output = SskdPretext(teacher, head)(**inputs)
    unit = torch.nn.functional.normalize(head(teacher.features(inputs["views"][0])), dim=1).view(4, 4, -1)
    log_p = (unit[:, 1:].flatten(0, 1) @ unit[:, 0].T).log_softmax(dim=1)
    want = -log_p[torch.arange(12), torch.arange(4).repeat_interleave(3)].mean()
    torch.testing.assert_close(output.loss, want)
    torch.testing.assert_close(output.parts["pretext"], want.detach())


def test_pretext_moves_the_head_alone(classifiers, assert_trained, snapshot, steps, watched):
    _, teacher = classifiers()
    head = self_supervision_head(16).requires_grad_(False).eval()
    untouched, method = watched(teacher), SskdPretext(teacher, head)
    before = snapshot(method)
    assert before.keys() == {f"head.{name}" for name, _ in head.named_parameters()}
    assert set(method.state_dict()) == before.keys()
    steps(method.train(), batch(), torch.optim.SGD(method.parameters(), lr=0.1))
    assert_trained(before, method)
    untouched(method)
    assert method.deployable() is teacher


def test_the_head_learns_the_task(classifiers):
    _, teacher = classifiers()
    method, losses = SskdPretext(teacher, self_supervision_head(16)), []
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-2)
    for _ in range(30):
        loss = method(**batch(8)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05


FAMILIES = [("resnet18", "convnext_atto"), ("vit_tiny_patch16_224", "resnet18"), ("resnet18", "mobilenetv3_small_050")]


@pytest.mark.slow
@pytest.mark.parametrize(("student", "teacher"), FAMILIES)
def test_any_two_networks(classifiers, assert_trained, snapshot, steps, watched, student, teacher):
    student, teacher = classifiers(student, teacher)
    untouched = watched(teacher)
    head = self_supervision_head(teacher.backbone.head_hidden_size)
    pretext = SskdPretext(teacher, head).train()
    before = snapshot(pretext)
    steps(pretext, batch(2), torch.optim.AdamW(pretext.parameters(), lr=1e-3, weight_decay=0.0))
    assert_trained(before, pretext)
    method = Sskd(student, teacher, head).train()
    before = snapshot(method)
    steps(method, batch(2), torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.0))
    assert_trained(before, method)
    untouched(method)
