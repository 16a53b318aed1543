import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.losses import overhaul
from hf_vipriors.methods import OverhaulDistillation, Progress
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel


def batch(size=32, count=4):
    torch.manual_seed(1)
    return {"views": [torch.randn(count, 3, size, size)], "labels": torch.arange(count), "index": torch.arange(count)}


def pair(tiny_config, **options):
    torch.manual_seed(0)
    teacher = VipriorsModel(tiny_config(projector_dim=8))
    student = VipriorsForImageClassification(tiny_config())
    student.load_backbone_from(teacher)
    options.setdefault("start_epoch", 0)
    return teacher, OverhaulDistillation(student, teacher, **options)


def test_loss_is_the_formula_on_pre_activation_maps(tiny_config):
    teacher, method = pair(tiny_config, feature_weight=0.01, label_smoothing=0.0)
    method.eval()
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(0.05 * torch.randn_like(p))
    inputs, maps = batch(), {}
    for name, backbone in (("s", method.student.backbone), ("t", teacher.backbone)):
        for number in range(1, 5):
            activation = backbone.get_submodule(f"layer{number}.1.act2")
            activation.register_forward_pre_hook(
                lambda _, args, key=(name, number): maps.__setitem__(key, args[0].clone())
            )
    output = method(**inputs)
    images = inputs["views"][0]
    method.student(images), teacher(images)
    want = F.cross_entropy(method.student(images).logits, inputs["labels"])
    for number in range(1, 5):
        norm = teacher.backbone.get_submodule(f"layer{number}.1.bn2")
        student = method.connectors[number - 1](maps["s", number])
        distance = overhaul.partial_l2(student, maps["t", number], overhaul.bn_margin(norm.weight, norm.bias))
        want = want + 0.01 * 2.0 ** -(4 - number) * distance / 4
    torch.testing.assert_close(output.loss, want)
    assert output.parts["distillation"] > 0


@pytest.mark.parametrize("next_norm", [True, False])
def test_a_wide_resnet_is_compared_behind_the_next_norm_where_asked(next_norm):
    """The published program's three maps with their margins; else four sums by the plain distance."""
    torch.manual_seed(0)
    config = VipriorsConfig.for_backbone("cifar_wrn_16_1", image_size=32, class_names=["a", "b", "c", "d"])
    student, teacher = VipriorsForImageClassification(config), VipriorsForImageClassification(config)
    options = {"feature_weight": 0.01, "label_smoothing": 0.0, "start_epoch": 0}
    method = OverhaulDistillation(student, teacher, next_norm=next_norm, **options).eval()
    inputs, maps = batch(), {}
    norms = ("layer2.0.bn1", "layer3.0.bn1", "norm.0") if next_norm else ("stem", "layer1", "layer2", "layer3")
    for key, backbone in (("s", student.backbone), ("t", teacher.backbone)):
        for name in norms:
            backbone.get_submodule(name).register_forward_hook(
                lambda module, args, output, key=(key, name): maps.__setitem__(key, output.clone())
            )
    output = method(**inputs)
    student(inputs["views"][0]), teacher(inputs["views"][0])
    want, count = 0, len(norms)
    for number, name in enumerate(norms):
        ours, theirs = method.connectors[number](maps["s", name]), maps["t", name]
        norm = teacher.backbone.get_submodule(name)
        if next_norm:
            distance = overhaul.partial_l2(ours, theirs, overhaul.bn_margin(norm.weight, norm.bias))
        else:
            distance = (ours - theirs).square().sum()
        want = want + 2.0 ** -(count - 1 - number) * distance / 4
    assert len(method.connectors) == count
    torch.testing.assert_close(output.parts["distillation"], want.detach())


PUBLISHED = ("resnet50", 224, {}, 1e-4, 40.1408)  # 2008.00261
OURS = ("resnet18", 48, {"channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}, 0.03, 41.28)


@pytest.mark.parametrize(
    ("backbone", "size", "arguments", "weight", "strength"),
    [OURS, pytest.param(*PUBLISHED, marks=pytest.mark.slow)],
    ids=["recipes", "published"],
)
def test_the_log_tells_how_strong_the_term_is(backbone, size, arguments, weight, strength):
    config = VipriorsConfig.for_backbone(
        backbone, image_size=size, backbone_args=arguments, class_names=["a", "b", "c", "d"]
    )
    networks = VipriorsForImageClassification(config), VipriorsForImageClassification(config)
    method = OverhaulDistillation(*networks, start_epoch=0, feature_weight=weight).eval()
    with torch.no_grad():
        for count in (1, 2):
            parts = method(**batch(size, count)).parts
            assert parts["weight_x_elements"].item() == pytest.approx(strength)


def test_student_and_connectors_move_teacher_does_not(tiny_config, assert_trained, snapshot, steps):
    teacher, method = pair(tiny_config, feature_weight=0.01)
    before, teacher_state = snapshot(method), {n: t.clone() for n, t in teacher.state_dict().items()}
    method.train()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    steps(method, batch(), optimizer)
    assert_trained(before, method)
    assert any(name.startswith("connectors") for name in before)
    assert all(torch.equal(t, teacher_state[n]) for n, t in teacher.state_dict().items())


def test_teacher_is_pinned_and_left_out(tiny_config):
    teacher, method = pair(tiny_config)
    method.train()
    assert not teacher.training and not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not any(name.startswith("teacher") for name in method.state_dict())
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in method.parameters()}
    method.double()
    assert next(teacher.parameters()).dtype == torch.float64, "the teacher follows .to()"


def test_teacher_with_batch_statistics_as_the_published_program(tiny_config):
    teacher, _ = pair(tiny_config, batch_statistics=True)
    assert teacher.training


def test_cross_entropy_alone_before_the_start_epoch(tiny_config):
    _, method = pair(tiny_config, start_epoch=5)
    method.begin_step(Progress(step=0, epoch=4.9, share=0.1))
    assert set(method(**batch()).parts) == {"classification"}
    method.begin_step(Progress(step=1, epoch=5.0, share=0.1))
    assert set(method(**batch()).parts) == {"classification", "distillation", "weight_x_elements"}


def test_input_is_normalised_again_for_a_teacher_with_other_statistics(tiny_config):
    torch.manual_seed(0)
    teacher = VipriorsModel(tiny_config(projector_dim=8))
    teacher.config.image_mean, teacher.config.image_std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    student = VipriorsForImageClassification(tiny_config())
    method = OverhaulDistillation(student, teacher)
    raw = torch.rand(2, 3, 4, 4)

    def normalised(config):
        return (raw - torch.tensor(config.image_mean).view(3, 1, 1)) / torch.tensor(config.image_std).view(3, 1, 1)

    torch.testing.assert_close(method.teacher.prepared(normalised(student.config)), normalised(teacher.config))


def test_a_teacher_that_takes_one_size_gets_it(tiny_config):
    torch.manual_seed(0)
    teacher = VipriorsModel(tiny_config("vit_tiny_patch16_224", image_size=32, projector_dim=8))
    student = VipriorsForImageClassification(tiny_config(image_size=64))
    method = OverhaulDistillation(student, teacher, start_epoch=0)
    assert method.teacher.prepared(torch.randn(2, 3, 64, 64)).shape == (2, 3, 32, 32)
    assert method(**batch(64)).parts["distillation"] > 0


FAMILIES = [
    ("resnet50", "resnet18"),
    ("resnet18", "mobilenetv3_small_050"),
    ("resnet18", "vit_tiny_patch16_224"),
    ("convnext_atto", "resnet18"),
    ("vit_tiny_patch16_224", "efficientnet_b0"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("teacher", "student"), FAMILIES)
def test_any_two_networks(tiny_config, assert_trained, snapshot, steps, teacher, student):
    torch.manual_seed(0)
    teacher = VipriorsModel(tiny_config(teacher, image_size=64, projector_dim=8))
    student = VipriorsForImageClassification(tiny_config(student, image_size=64))
    method = OverhaulDistillation(student, teacher, start_epoch=0, feature_weight=1e-3).train()
    before = snapshot(method)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    output = method(**batch(64, 4))
    assert output.loss.isfinite() and output.parts["distillation"] > 0
    steps(method, batch(64, 4), optimizer)
    assert_trained(before, method)
    assert len(method.stages.pairs) >= 2
