"""The optimizer step, and the layout of what it walks through."""

import copy
import math

import pytest
import torch
from safetensors.torch import load_file

from hf_vipriors.data import ImageStore
from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.methods import KnowledgeDistillation, MoCo, Supervised
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel
from hf_vipriors.training import StudentArguments, StudentTrainer
from hf_vipriors.training.checkpoints import checkpoint_state
from hf_vipriors.training.optimizer import begin_momentum, follow_layout, optimizer_class
from hf_vipriors.views import ClassificationViews

LAST = torch.channels_last


def arguments(tmp_path, **options):
    given = {"method": "supervised", "learning_rate": 0.1, "max_steps": 3, "save_strategy": "no"} | options
    return StudentArguments(
        output_dir=str(tmp_path / "run"), use_cpu=True, disable_tqdm=True, report_to="none", **given
    )


def trainer_of(method, args):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 1, 32, 32), dtype=torch.uint8, generator=generator)
    store = ImageStore(images, torch.arange(16) % 4)
    views = ClassificationViews(32, [0.5] * 3, [0.25] * 3)
    names = ["class0", "class1", "class2", "class3"]
    return StudentTrainer(method, args, train_dataset=store, views=views, eval_dataset=store, class_names=names)


def distilled(tiny_config, **options):
    torch.manual_seed(0)
    return KnowledgeDistillation(*(VipriorsForImageClassification(tiny_config()) for _ in range(2)), **options)


def kernels(module):
    """Those whose two layouts differ in memory."""
    return [p for p in module.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]


def gradients(like, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator)) for p in like]


def step(optimizer, seed):
    (group,) = optimizer.param_groups
    for parameter, gradient in zip(group["params"], gradients(group["params"], seed), strict=True):
        parameter.grad = gradient
    optimizer.step()


@pytest.mark.parametrize("name", ["sgd", "adamw_torch"])
def test_fused_takes_the_step_that_unfused_takes(tiny_config, tmp_path, name):
    kind, options = optimizer_class(arguments(tmp_path, optim=name))
    assert options.pop("fused")
    model = VipriorsForImageClassification(tiny_config()).to(memory_format=LAST)
    other = copy.deepcopy(model)
    fused, plain = kind(model.parameters(), fused=True, **options), kind(other.parameters(), **options)
    before = [p.detach().clone() for p in model.parameters()]
    for seed in range(4):
        step(fused, seed), step(plain, seed)
    for old, ours, theirs in zip(before, model.parameters(), other.parameters(), strict=True):
        assert not torch.equal(old, ours)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["sgd", "adamw_torch"])
def test_a_checkpoint_of_the_other_layout_goes_on_as_it_would_have(tiny_config, tmp_path, name):
    kind, options = optimizer_class(arguments(tmp_path, optim=name))
    model = VipriorsForImageClassification(tiny_config())
    saved = kind(model.parameters(), **options)
    step(saved, 0)
    other = copy.deepcopy(model).to(memory_format=LAST)
    resumed = kind(other.parameters(), **options)
    resumed.register_load_state_dict_post_hook(follow_layout)
    resumed.load_state_dict(copy.deepcopy(saved.state_dict()))
    step(saved, 1), step(resumed, 1)
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_trainers_optimizer_follows_the_layout(tiny_config, tmp_path):
    model = VipriorsForImageClassification(tiny_config())
    kind, options = optimizer_class(arguments(tmp_path))
    names = [n for n, p in model.named_parameters() if p.ndim > 1] + [
        n for n, p in model.named_parameters() if p.ndim < 2
    ]
    saved = kind([model.get_parameter(name) for name in names], **options)
    step(saved, 0)
    trainer = trainer_of(Supervised(copy.deepcopy(model)), arguments(tmp_path))
    optimizer = trainer.create_optimizer()
    state = {number: value for number, value in saved.state_dict()["state"].items()}
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    for parameter in kernels(trainer.model):
        momentum = optimizer.state[parameter]["momentum_buffer"]
        assert momentum.stride() == parameter.stride()
        assert momentum.is_contiguous(memory_format=LAST)


def test_channels_last_computes_the_same_loss_and_gradients(tiny_config):
    method = distilled(tiny_config)
    other = copy.deepcopy(method).to(memory_format=LAST)
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(6, 3, 32, 32, generator=generator).contiguous(memory_format=LAST)]
    inputs = {"views": views, "labels": torch.arange(6) % 4, "index": torch.arange(6)}
    losses = []
    for each in (method, other):
        losses.append(each(**inputs).loss)
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1])
    for ours, theirs in zip(method.parameters(), other.parameters(), strict=True):
        assert theirs.grad.stride() == theirs.stride()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_student_average_teacher_and_momentum_copy_are_laid_out_as_the_views_are(tiny_config, tmp_path):
    method = distilled(tiny_config, ema_decay=0.9)
    moco = MoCo(VipriorsModel(tiny_config(projector_dim=8)), queue_length=8)
    for each in (method, moco):
        trainer_of(each, arguments(tmp_path))
    for model in (method.student, method.ema.module, method.teacher.model, moco.model, moco.momentum_model):
        assert kernels(model) and all(p.is_contiguous(memory_format=LAST) for p in kernels(model))


def test_checkpoint_and_exports_are_those_of_the_usual_layout(tiny_config, tmp_path):
    model = VipriorsForImageClassification(tiny_config())
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = trainer_of(Supervised(model), arguments(tmp_path))
    trainer._save(str(tmp_path / "checkpoint"))
    state = checkpoint_state(tmp_path / "checkpoint")
    model.save_pretrained(tmp_path / "ours")
    export_native(model, tmp_path / "native", class_names=trainer.class_names)
    saved = load_file(tmp_path / "ours" / "model.safetensors")
    native = load_file(tmp_path / "native" / "model.safetensors")
    for name, value in values.items():
        assert torch.equal(state[f"student.{name}"], value) and torch.equal(saved[name], value)
        assert torch.equal(native[name.removeprefix("backbone.")], value)
        assert state[f"student.{name}"].is_contiguous()


def test_a_loss_that_is_no_number_ends_the_training_at_the_next_log(tiny_config, tmp_path):
    args = arguments(tmp_path, max_steps=6, logging_steps=2, eval_strategy="no")
    trainer = trainer_of(Supervised(VipriorsForImageClassification(tiny_config())), args)
    compute = trainer.compute_loss

    def broken(*inputs, **options):
        return compute(*inputs, **options) * (math.nan if trainer.state.global_step == 2 else 1.0)

    trainer.compute_loss = broken
    with pytest.raises(InputError, match="nan at step 4.*learning_rate"):
        trainer.train()
    assert trainer.state.global_step == 4


def test_a_first_gradient_that_comes_late_steps_as_without_the_fused_kernel():
    """As a connector's of a distillation that begins at a later epoch."""
    found = {}
    for fused in (True, False):
        early, late = (torch.nn.Parameter(torch.ones(3, 2)) for _ in range(2))
        optimizer = torch.optim.SGD([early, late], lr=0.1, momentum=0.9, nesterov=True, fused=fused)
        optimizer.register_step_pre_hook(begin_momentum)
        for step in range(4):
            early.grad = torch.full_like(early, step + 1.0)
            late.grad = torch.full_like(late, 2.0) if step >= 2 else None
            optimizer.step()
        found[fused] = torch.stack([early.detach(), late.detach()])
    torch.testing.assert_close(found[True], found[False])
    assert (found[True][1] < 0.6).all(), "it moved"
