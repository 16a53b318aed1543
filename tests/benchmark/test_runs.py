"""What is timed is the real step: the ceiling computes what the training computes, and nothing is counted twice."""

from types import SimpleNamespace

import pytest
import torch

from hf_vipriors.benchmark import runs as benchmark_runs
from hf_vipriors.benchmark.arguments import BenchmarkArguments
from hf_vipriors.benchmark.rivals import PREFETCH, Images, Recipe, WorkerFed
from hf_vipriors.benchmark.runs import PARTS, Ceiling, Plan, Rounds, Stopwatch, end_to_end, split
from hf_vipriors.benchmark.setup import batches, build_case, synthetic_store
from hf_vipriors.run import build_trainer
from hf_vipriors.training import StudentTrainer, TeacherTrainer

TINY = {"channels": [8, 8, 16, 16], "stem_type": "deep", "stem_width": 4}
CPU = torch.device("cpu")


def request(method="moco", **options):
    common = {"backbone": "resnet18", "backbone_args": TINY, "image_sizes": [16], "batch": 8, "images": 32}
    return BenchmarkArguments(method=method, use_cpu=True, **common, **options)


class _Recorder:
    """Keeps what the training is fed with, and its losses."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.inputs, self.losses = [], []

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.inputs.append(inputs)
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.losses.append(loss.detach().clone())
        return loss


class RecordingTeacherTrainer(_Recorder, TeacherTrainer):
    pass


class RecordingStudentTrainer(_Recorder, StudentTrainer):
    pass


@pytest.mark.parametrize(
    ("method", "options"),
    [("moco", {"encoder_momentum": 0.5}), ("overhaul", {"ema_decay": 0.5, "feature_weight": 0.1}), ("dogo", {})],
)
def test_the_ceiling_computes_what_the_training_computes(method, options):
    plan, asked = Plan(1, 1, 5), request(method, options=options)
    real = build_case(asked, 16, steps=plan.total)
    trainer = build_trainer(real.setup, RecordingTeacherTrainer, RecordingStudentTrainer)
    trainer.train()
    twin = build_case(asked, 16, steps=plan.total)
    ceiling = Ceiling(build_trainer(twin.setup), trainer.inputs, plan)
    losses = torch.stack([ceiling.step(number) for number in range(plan.total)])
    assert len(set(losses.tolist())) == plan.total, "the network learns"
    torch.testing.assert_close(losses, torch.stack(trainer.losses), rtol=1e-5, atol=1e-6)
    for (name, ours), theirs in zip(twin.method.state_dict().items(), real.method.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=name)


def test_the_ceiling_is_fed_with_what_the_views_make():
    case = build_case(request(), 16, steps=3)
    found = batches(build_trainer(case.setup), 3, seed=0)
    assert len(found) == 3 and all([v.shape for v in one["views"]] == [(8, 3, 16, 16)] * 2 for one in found)
    assert len(torch.cat([one["index"] for one in found]).unique()) == 24, "other images in each"


def test_a_case_is_the_same_each_time_it_is_built():
    first, second = (build_case(request("kd"), 16, steps=3) for _ in range(2))
    for ours, theirs in ((first.method, second.method), (first.teacher, second.teacher)):
        for (name, our), their in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(our, their), name
    assert torch.equal(first.store.images, second.store.images)


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(benchmark_runs, "time", clock)
    return clock


def test_rounds_leave_out_warm_up_and_the_turns_of_others(clock):
    def others(seconds):
        said.append(seconds)
        clock.now += 1000

    said: list[float] = []
    rounds = Rounds(Plan(rounds=2, warmup=2, steps=4), CPU, others)
    for step in range(1, 13):
        clock.now += 100 if (step - 1) % 6 < 2 else 2.5
        rounds.on_step_end(None, SimpleNamespace(global_step=step), None)
    assert rounds.seconds == said == [2.5, 2.5]


def test_a_plain_loop_is_timed_without_its_warm_up(clock):
    seen = []

    def step(number):
        seen.append(number)
        clock.now += 100 if number < 3 else 2.0

    assert benchmark_runs.timed(step, Plan(1, 1, 4), CPU, warmup=3) == 2.0
    assert seen == list(range(7))


def test_the_stopwatch_counts_nothing_twice(clock):
    watch = Stopwatch(CPU)
    clock.now += 1
    with watch("data"):
        clock.now += 2
        with watch("views"):
            clock.now += 4
        clock.now += 8
    watch.around("forward", lambda: setattr(clock, "now", clock.now + 16))()
    assert watch.lap() == {"rest": 1, "data": 10, "views": 4, "forward": 16}
    clock.now += 5
    assert watch.lap() == {"rest": 5}


def test_training_takes_every_round_and_pauses_after_it():
    pauses = []
    plan = Plan(rounds=3, warmup=1, steps=2)
    case = build_case(request(), 16, steps=plan.total)
    seconds = end_to_end(case, plan, pauses.append)
    assert seconds == pauses and len(seconds) == 3 and all(s > 0 for s in seconds)
    assert torch.equal(case.method.queue.index >= 0, torch.ones(16, dtype=torch.bool)), "it really trained"


def test_the_parts_of_a_step_add_up_to_its_time(monkeypatch):
    plan = Plan(1, 1, 4)
    case = build_case(request("supervised"), 16, steps=plan.total)
    slow = case.method.end_step

    def end_step(progress):
        benchmark_runs.time.sleep(0.2)
        slow(progress)

    case.method.end_step = end_step
    found = split(case, plan)
    assert tuple(found.seconds) == PARTS and 0.2 < found.seconds["optimizer"] < 0.6
    assert sum(found.seconds.values()) < 2 and found.peak_bytes > 2**20


class Mean(Recipe):
    transform = staticmethod(lambda image: torch.tensor([float(image.size[0])]))

    def __init__(self):
        super().__init__()
        self.scale, self.steps = torch.nn.Parameter(torch.ones(1)), 0

    def forward(self, views, labels):
        assert views.shape == (8, 1) and labels.shape == (8,)
        return (self.scale * views).mean()

    def after_step(self):
        self.steps += 1


def test_a_rival_uses_up_what_its_workers_made_ahead():
    case = build_case(request(), 16, steps=3)
    recipe = Mean()
    rival = WorkerFed(recipe, case, Plan(2, 1, 3), workers=2)
    for number in (1, 2):
        assert rival.round() > 0
        assert recipe.steps == number * (PREFETCH * 2 + 3)
    assert len(rival.loader) == PREFETCH * 2 + 3 + PREFETCH * 2, "one pass, and the workers are busy to its end"
    assert recipe.scale.item() != 1, "it learns"
    assert next(rival._batches, None) is None, "its workers have ended"


def test_gray_images_have_three_channels():
    images = Images(synthetic_store(4, 1, 16, 0), lambda image: image)
    image, label = images[3]
    assert image.mode == "RGB" and image.size == (18, 18) and label == 3
