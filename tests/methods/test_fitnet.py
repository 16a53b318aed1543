import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.losses import kd
from hf_vipriors.methods import FitNet


def batch(count=4, size=32):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, size, size, generator=generator)
    return {"views": [images], "labels": torch.arange(count) % 4, "index": torch.arange(count)}


def outputs_of(model, module, images):
    """What ``module`` gives while ``model`` sees ``images``."""
    found = []
    handle = model.backbone.get_submodule(module).register_forward_hook(lambda _, __, out: found.append(out.clone()))
    model(images)
    handle.remove()
    return found[0]


@pytest.mark.parametrize(("hint_weight", "kd_weight"), [(100.0, 0.0), (3.0, 0.7)])
def test_loss_is_the_formula_on_the_middle_stage_behind_its_relu(classifiers, hint_weight, kd_weight):
    student, teacher = classifiers()
    method = FitNet(student, teacher, hint_weight=hint_weight, kd_weight=kd_weight, label_smoothing=0.0).eval()
    inputs = batch()
    images = inputs["views"][0]
    output = method(**inputs)
    before = [m[1].min() for m in (method.stages.of_student(images)[0], method.stages.of_teacher(images)[0])]
    maps = [outputs_of(model, "layer2", images) for model in (student, teacher)]
    assert all(m.min() == 0 > b for m, b in zip(maps, before, strict=True)), "its ReLU must matter here"
    hint = (method.regressor(maps[0]) - maps[1]).square().sum() / maps[1].numel()
    logits = student(images).logits
    want = F.cross_entropy(logits, inputs["labels"]) + hint_weight * hint
    want = want + kd_weight * kd(logits, teacher(images).logits)
    torch.testing.assert_close(output.loss, want)
    torch.testing.assert_close(output.parts["hint"], hint.detach())
    torch.testing.assert_close(output.logits, logits)
    assert hint > 1e-4 and ("kd" in output.parts) == bool(kd_weight)


def test_each_network_runs_once_with_its_head(classifiers):
    """A second pass through a head with a batch norm would count its statistics twice."""
    student, teacher = classifiers()
    method, calls = FitNet(student, teacher), []
    for model in (student, teacher):
        for name in ("conv1", "global_pool"):
            model.backbone.get_submodule(name).register_forward_hook(lambda *_, key=(model, name): calls.append(key))
    method(**batch())
    assert len(calls) == len(set(calls)) == 4


def test_defaults_are_the_published_ones(classifiers):
    student, teacher = classifiers()
    torch.manual_seed(3)
    named = FitNet(student, teacher, hint_weight=100.0, classification_weight=1.0, kd_weight=0.0)
    torch.manual_seed(3)
    assert torch.equal(FitNet(student, teacher).eval()(**batch()).loss, named.eval()(**batch()).loss)


def test_stages_without_a_relu_are_compared_as_they_are(classifiers):
    student, teacher = classifiers("mobilenetv3_small_050", "convnext_atto", image_size=64)
    method = FitNet(student, teacher).eval()
    inputs = batch(size=64)
    ours, theirs = method.stages.pairs[method.hint]
    assert ours.norm is None and theirs.norm is None
    output = method(**inputs)
    maps = [outputs_of(m, s.name, inputs["views"][0]) for m, s in ((student, ours), (teacher, theirs))]
    assert all(m.min() < 0 for m in maps)
    assert maps[0].shape[-2:] == maps[1].shape[-2:]
    torch.testing.assert_close(output.parts["hint"], F.mse_loss(method.regressor(maps[0]), maps[1]).detach())


@pytest.mark.parametrize(("student_size", "teacher_size"), [(64, 32), (32, 64)])
def test_the_larger_map_is_averaged_down(tiny_config, classifiers, student_size, teacher_size):
    """A ViT has one resolution, so the maps differ in size, either way."""
    student, teacher = classifiers("resnet18", "vit_tiny_patch16_224", image_size=64)
    if teacher_size > student_size:
        student, teacher = teacher, student
    method = FitNet(student, teacher).eval()
    images = batch(size=64)["views"][0]
    student_maps, _ = method.stages.of_student(images)
    teacher_maps, _ = method.stages.of_teacher(images)
    maps = [
        m[method.hint].relu() if stage.norm is not None else m[method.hint]
        for m, stage in zip((student_maps, teacher_maps), method.stages.pairs[method.hint], strict=True)
    ]
    regressed, target = method.regressor(maps[0]), maps[1]
    sides = (regressed.shape[-1], target.shape[-1])
    assert sides[0] != sides[1]
    small = min(sides)
    # The factor is a whole number here: averaging down is plain average pooling.
    regressed, target = (F.avg_pool2d(m, m.shape[-1] // small) for m in (regressed, target))
    torch.testing.assert_close(method(**batch(size=64)).parts["hint"], F.mse_loss(regressed, target).detach())


def test_student_and_regressor_move_and_the_teacher_does_not(classifiers, assert_trained, snapshot, steps, watched):
    student, teacher = classifiers()
    untouched = watched(teacher)
    method = FitNet(student, teacher)
    before = snapshot(method)
    assert any(name.startswith("regressor.") for name in before)
    steps(method.train(), batch(), torch.optim.SGD(method.parameters(), lr=0.01))
    assert_trained(before, method)
    untouched(method)
    assert method.deployable() is student


def test_the_hint_alone_trains_up_to_its_stage_and_nothing_behind(classifiers):
    method = FitNet(*classifiers(), classification_weight=0.0)
    method(**batch()).loss.backward()
    reached = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"regressor.0.weight", "student.backbone.layer2.1.bn2.weight"} <= reached
    assert not any(name.startswith(("student.backbone.layer3", "student.backbone.fc")) for name in reached)


def test_a_teacher_without_answers_will_do_unless_they_are_distilled(classifiers, embedder):
    student, _ = classifiers()
    teacher = embedder(projector_dim=8)
    assert set(FitNet(student, teacher)(**batch()).parts) == {"classification", "hint"}
    with pytest.raises(ValueError, match="classes"):
        FitNet(student, teacher, kd_weight=1.0)


def test_a_checkpoint_holds_student_and_regressor_and_is_enough(classifiers, assert_resumes):
    student, teacher = classifiers()
    method = FitNet(student, teacher)
    method(**batch())
    assert {name.split(".")[0] for name in method.state_dict()} == {"student", "regressor"}
    torch.manual_seed(9)
    assert_resumes(method, FitNet(type(student)(student.config), teacher), batch())


def test_the_average_of_the_weights_carries_no_taps(classifiers):
    """Evaluated between two steps, it must not write into the maps of the student."""
    method = FitNet(*classifiers(), ema_decay=0.9)
    hooks = [m for m in method.ema.module.modules() if m._forward_pre_hooks]
    assert not hooks and any(m._forward_pre_hooks for m in method.student.modules())


FAMILIES = [("resnet18", "convnext_atto"), ("vit_tiny_patch16_224", "resnet18"), ("mobilenetv3_small_050", "resnet50")]


@pytest.mark.slow
@pytest.mark.parametrize(("student", "teacher"), FAMILIES)
def test_any_two_networks(classifiers, assert_trained, snapshot, steps, watched, student, teacher):
    student, teacher = classifiers(student, teacher, image_size=64)
    untouched = watched(teacher)
    method = FitNet(student, teacher).train()
    before = snapshot(method)
    assert method(**batch(size=64)).parts["hint"] > 0
    steps(method, batch(size=64), torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.0))
    assert_trained(before, method)
    untouched(method)
