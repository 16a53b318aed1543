import pytest
import torch
from torch.nn import functional as F

from hf_vipriors.losses import margin_info_nce, nt_xent
from hf_vipriors.methods import DoGo, MoCo, Progress, SimCLR


def batch(count=4, views=4, first=0):
    generator = torch.Generator().manual_seed(1 + first)
    return {
        "views": [torch.randn(count, 3, 32, 32, generator=generator) for _ in range(views)],
        "labels": torch.full((count,), -1),
        "index": torch.arange(first, first + count),
    }


@pytest.fixture
def build(embedder):
    """``build("simclr", "moco", weights=...)``: peers of different widths."""

    def make(a="simclr", b="simclr", seed=0, fields=(None, None), **options):
        peers = []
        for number, (kind, width) in enumerate(((a, 8), (b, 6))):
            own = {"projector_batch_norm": kind == "simclr", "projector_dim": width} | (fields[number] or {})
            model = embedder(seed + number, **own)
            peers.append(SimCLR(model, temperature=0.5) if kind == "simclr" else MoCo(model, queue_length=6))
        return DoGo(*peers, **options)

    return make


def similarities(first, second, temperature):
    return F.normalize(first.double(), dim=1) @ F.normalize(second.double(), dim=1).T / temperature


def divergence(student, teacher):
    """KL(softmax(teacher) || softmax(student)), mean over the rows."""
    target = teacher.softmax(dim=1)
    return (target * (teacher.log_softmax(dim=1) - student.log_softmax(dim=1))).sum(dim=1).mean().float()


def own_loss_and_pair(peer, views, index):
    """A peer's contrastive loss, and the two embeddings it compares."""
    first = peer.model(views[0]).projection
    if isinstance(peer, SimCLR):
        second = peer.model(views[1]).projection
        return nt_xent(first, second, temperature=0.5), (first, second)
    key = F.normalize(peer.momentum_model(views[1]).projection, dim=1)
    indices = {"query_index": index, "queue_index": peer.queue.index}
    return margin_info_nce(first, key, peer.queue.keys, temperature=0.2, margin=0.4, **indices), (first, key)


PEERS = [("simclr", "simclr"), ("moco", "moco"), ("simclr", "moco")]


@pytest.mark.parametrize(("a", "b"), PEERS)
@pytest.mark.parametrize(
    ("weights", "temperature", "reduction"), [((1.0, 1.0), 0.1, "batchmean"), ((100.0, 1.0), 0.5, "mean")]
)
def test_loss_is_the_formula(build, a, b, weights, temperature, reduction):
    method = build(a, b, weights=weights, temperature=temperature, reduction=reduction).eval()
    inputs = batch()
    output = method(**inputs)
    own_a, pair_a = own_loss_and_pair(method.peer_a, inputs["views"][:2], inputs["index"])
    own_b, pair_b = own_loss_and_pair(method.peer_b, inputs["views"][2:], inputs["index"])
    s_a, s_b = similarities(*pair_a, temperature), similarities(*pair_b, temperature)
    entries = 1 if reduction == "batchmean" else 4
    mutual_a, mutual_b = divergence(s_a, s_b) / entries, divergence(s_b, s_a) / entries
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(output.loss, own_a + weights[0] * mutual_a + own_b + weights[1] * mutual_b, **close)
    wanted = {"contrastive": own_a, "peer_contrastive": own_b, "mutual": mutual_a, "peer_mutual": mutual_b}
    for name, want in wanted.items():
        torch.testing.assert_close(output.parts[name], want.detach(), **close)
    assert mutual_a > 1e-4 and not torch.isclose(mutual_a, mutual_b), "the two directions must differ here"


@pytest.mark.parametrize(("a", "b"), PEERS)
def test_gradient_is_that_of_the_formula(build, a, b):
    """The mutual part flows into every view that the peer's own loss trains: MoCo's keys are constants."""
    method, inputs = build(a, b, weights=(3.0, 2.0)).eval(), batch()
    names = [n for n, p in method.named_parameters() if p.requires_grad]
    parameters = [method.get_parameter(n) for n in names]
    got = torch.autograd.grad(method(**inputs).loss, parameters)
    own_a, pair_a = own_loss_and_pair(method.peer_a, inputs["views"][:2], inputs["index"])
    own_b, pair_b = own_loss_and_pair(method.peer_b, inputs["views"][2:], inputs["index"])
    s_a, s_b = similarities(*pair_a, 0.1), similarities(*pair_b, 0.1)
    own, mutual = own_a + own_b, 3 * divergence(s_a, s_b.detach()) + 2 * divergence(s_b, s_a.detach())
    alone = torch.autograd.grad(own, parameters, retain_graph=True)
    want = torch.autograd.grad(own + mutual, parameters)
    for name, gradient, expected, without in zip(names, got, want, alone, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
        assert not torch.allclose(gradient, without, rtol=1e-3, atol=1e-4), f"{name} hears nothing of the other peer"


def test_defaults_are_the_divergence_itself_at_the_published_temperature(build):
    named = build(weights=(1.0, 1.0), temperature=0.1, reduction="batchmean").eval()
    assert torch.equal(build().eval()(**batch()).loss, named(**batch()).loss)


@pytest.mark.parametrize(("a", "b"), PEERS)
def test_each_peer_is_a_constant_target_of_the_other(build, a, b):
    """With w_a 0 peer a gets the gradient of its own contrastive loss and nothing else, and the reverse."""
    for weights, name, views in (((0.0, 5.0), "peer_a", slice(2)), ((5.0, 0.0), "peer_b", slice(2, 4))):
        method, inputs = build(a, b, weights=weights).eval(), batch()
        method(**inputs).loss.backward()
        peer = method.get_submodule(name)
        got = {n: p.grad.clone() for n, p in peer.named_parameters() if p.requires_grad}
        method.zero_grad()
        own_loss_and_pair(peer, inputs["views"][views], inputs["index"])[0].backward()
        for parameter, gradient in got.items():
            torch.testing.assert_close(gradient, peer.get_parameter(parameter).grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("a", "b"), PEERS)
def test_both_peers_move_and_momentum_encoders_only_by_their_average(build, assert_trained, snapshot, steps, a, b):
    method = build(a, b)
    before = snapshot(method)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    steps(method.train(), batch(), optimizer)
    assert_trained(before, method, stays=("peer_a.momentum_model", "peer_b.momentum_model"))
    method.end_step(Progress(step=1, epoch=0.1, share=0.1))
    for name, old in before.items():
        if ".momentum_model." in name:
            query = method.get_parameter(name.replace("momentum_model", "model"))
            torch.testing.assert_close(method.get_parameter(name), 0.999 * old + 0.001 * query)


def test_every_peer_hears_of_each_step(build, monkeypatch):
    method, heard = build(), []
    for name in ("peer_a", "peer_b"):
        for hook in ("begin_step", "end_step"):
            monkeypatch.setattr(
                method.get_submodule(name), hook, lambda progress, who=(name, hook): heard.append((*who, progress))
            )
    now = Progress(step=3, epoch=0.5, share=0.1)
    method.begin_step(now), method.end_step(now)
    assert heard == [(n, h, now) for h in ("begin_step", "end_step") for n in ("peer_a", "peer_b")]


def test_queues_take_the_keys_of_their_own_peer_and_are_still_while_evaluating(build):
    method, inputs = build("moco", "moco"), batch()
    method.eval()(**inputs)
    assert method.peer_a.queue.pointer == method.peer_b.queue.pointer == 0
    assert method.peer_a.queue.index.eq(-1).all()
    method.train()
    method.peer_a.momentum_model.eval(), method.peer_b.momentum_model.eval()
    method(**inputs)
    for peer, view in ((method.peer_a, inputs["views"][1]), (method.peer_b, inputs["views"][3])):
        want = F.normalize(peer.momentum_model(view).projection, dim=1)
        torch.testing.assert_close(peer.queue.keys[:4], want, rtol=1e-4, atol=1e-5)
        assert peer.queue.index.tolist() == [0, 1, 2, 3, -1, -1]


@pytest.mark.parametrize(("a", "b"), PEERS)
def test_a_checkpoint_holds_both_peers_and_is_enough(build, assert_resumes, a, b):
    method = build(a, b)
    method(**batch())
    assert {name.split(".")[0] for name in method.state_dict()} == {"peer_a", "peer_b"}
    assert_resumes(method, build(a, b, seed=10), batch(first=2))


def test_peer_b_has_a_learning_rate_of_its_own(build):
    assert build().learning_rate_factors() == {}
    method = build(learning_rate_factor=0.1)
    ((prefix, factor),) = method.learning_rate_factors().items()
    theirs = {id(p) for n, p in method.named_parameters() if n.startswith(prefix)}
    assert factor == 0.1 and theirs == {id(p) for p in method.peer_b.parameters()}


WIDE = {"backbone_args": {"channels": [8, 8, 16, 32], "stem_type": "deep", "stem_width": 4}}


def test_the_smaller_peer_is_exported_and_both_are_evaluated(build):
    for fields, smaller in (((None, WIDE), "peer_a"), ((WIDE, None), "peer_b"), ((None, None), "peer_a")):
        method = build(fields=fields)
        larger = {"peer_a": "peer_b", "peer_b": "peer_a"}[smaller]
        assert method.deployable() is method.get_submodule(smaller).model
        evaluated = method.evaluated()
        assert list(evaluated) == ["", "peer_"]
        assert evaluated[""] is method.deployable()
        assert evaluated["peer_"] is method.get_submodule(larger).model


def test_a_wide_projector_makes_no_peer_the_larger_one(build):
    """It stays behind at export; the backbones count."""
    method = build(fields=({"projector_hidden_dim": 512}, WIDE))
    assert method.deployable() is method.peer_a.model


def test_peer_b_sees_its_views_in_its_own_statistics(build):
    theirs = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    method, inputs, seen = build(fields=(None, theirs)).eval(), batch(), {}
    for name in ("peer_a", "peer_b"):
        model = method.get_submodule(name).model
        model.register_forward_pre_hook(lambda _, args, n=name: seen.__setitem__(n, args[0]))
    method(**inputs)
    ours = method.peer_a.model.config
    pixels = torch.cat(inputs["views"][2:]) * torch.tensor(ours.image_std).view(3, 1, 1)
    pixels = pixels + torch.tensor(ours.image_mean).view(3, 1, 1)
    want = (pixels - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    torch.testing.assert_close(seen["peer_b"], want)
    assert torch.equal(seen["peer_a"], torch.cat(inputs["views"][:2]))


def test_a_peer_that_takes_one_size_gets_it(embedder):
    peers = [SimCLR(embedder(projector_dim=8, image_size=48))]
    peers.append(SimCLR(embedder(0, "vit_tiny_patch16_224", projector_dim=8)))
    views = [torch.randn(4, 3, 48, 48) for _ in range(4)]
    assert DoGo(*peers)(views, torch.full((4,), -1), torch.arange(4)).loss.isfinite()


@pytest.mark.parametrize("views", [2, 3, 5])
def test_other_than_four_views_are_refused(build, views):
    with pytest.raises(ValueError, match="four views"):
        build()(**batch(views=views))


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), [("mobilenetv3_small_050", "resnet18"), ("resnet18", "vit_tiny_patch16_224")])
def test_peers_of_any_two_families(embedder, assert_trained, snapshot, steps, a, b):
    method = DoGo(*(SimCLR(embedder(0, name, projector_dim=8, projector_batch_norm=True)) for name in (a, b)))
    before = snapshot(method)
    steps(method.train(), batch(), torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.0))
    assert_trained(before, method)
