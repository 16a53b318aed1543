import pytest
import torch

from hf_vipriors.methods.pseudo_labels import ALIGNMENTS, THRESHOLDS, PseudoLabels

CLASSES = 4


def predictions(count, seed, size=2.0):
    generator = torch.Generator().manual_seed(seed)
    return (size * torch.randn(count, CLASSES, generator=generator) + torch.tensor([1.0, 0, 0, 0])).softmax(dim=1)


def batches(steps=5):
    return [(predictions(6, seed), predictions(3, 100 + seed, size=3.0)) for seed in range(steps)]


class SlowLoop:
    """Batch by batch and number by number, as the papers have it."""

    def __init__(self, threshold, alignment, confidence, momentum):
        self.threshold, self.alignment, self.confidence, self.most = threshold, alignment, confidence, momentum
        self.steps = 0
        self.mean, self.target = [1 / CLASSES] * CLASSES, [1 / CLASSES] * CLASSES
        self.mu, self.var = 1 / CLASSES, 1.0

    def followed(self, average, value):
        return self.m * average + (1 - self.m) * value

    def __call__(self, unlabelled, labelled):
        self.m = min(self.most, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        columns = [[row[c] for row in unlabelled] for c in range(CLASSES)]
        self.mean = [self.followed(old, sum(new) / len(new)) for old, new in zip(self.mean, columns, strict=True)]
        if self.alignment == "labelled":
            columns = [[row[c] for row in labelled] for c in range(CLASSES)]
            target = zip(self.target, columns, strict=True)
            self.target = [self.followed(old, sum(new) / len(new)) for old, new in target]
        aligned = unlabelled
        if self.alignment != "none":
            scale = [q / m for q, m in zip(self.target, self.mean, strict=True)]
            scaled = [[p * s for p, s in zip(row, scale, strict=True)] for row in unlabelled]
            aligned = [[p / sum(row) for p in row] for row in scaled]
        confidence = [max(row) for row in aligned]
        shown = unlabelled if self.alignment == "uniform" else aligned
        return [row.index(max(row)) for row in shown], [self.weight(c, confidence, labelled) for c in confidence]

    def weight(self, c, confidence, labelled):
        if self.threshold == "soft":
            if c is confidence[0]:
                mean = sum(confidence) / len(confidence)
                self.mu = self.followed(self.mu, mean)
                variance = sum((each - mean) ** 2 for each in confidence) / (len(confidence) - 1)
                self.var = self.followed(self.var, variance)
            below = min(c - self.mu, 0)
            return float(torch.tensor(-(below**2) / (2 * self.var / 2**2)).exp())
        least = self.confidence
        if self.threshold == "relative":
            least *= sum(max(row) for row in labelled) / len(labelled)
        return float(c >= least)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_agrees_with_a_slow_loop(threshold, alignment, momentum):
    options = {"threshold": threshold, "alignment": alignment, "confidence": 0.8, "momentum": momentum}
    labels, slow = PseudoLabels(CLASSES, **options), SlowLoop(**options)
    seen = set()
    for unlabelled, labelled in batches():
        classes, weights = labels(unlabelled, labelled)
        want = slow(unlabelled.tolist(), labelled.tolist())
        assert classes.tolist() == want[0]
        torch.testing.assert_close(weights, torch.tensor(want[1]), rtol=1e-3, atol=1e-5)
        seen |= set(weights.tolist())
    assert ({0.0, 1.0} == seen) == (threshold != "soft"), "from the first batches on"
    kept = {"updates": slow.steps} | {
        "mean": slow.mean,
        "target": slow.target,
        "confidence_mean": slow.mu,
        "confidence_variance": slow.var,
    }
    for name, average in labels.state_dict().items():
        torch.testing.assert_close(average, torch.tensor(kept[name]), rtol=1e-4, atol=1e-6)


def test_alignment_changes_the_class_with_labelled_images_and_never_with_equal_shares():
    """The first class is predicted too often: images just beyond the border to another one."""
    unlabelled, labelled = predictions(200, 0), torch.full((4, CLASSES), 1 / CLASSES)
    raw = unlabelled.argmax(dim=1)
    found = {}
    for alignment in ALIGNMENTS:
        labels = PseudoLabels(CLASSES, alignment=alignment, momentum=0.0)
        found[alignment], _ = labels(unlabelled, labelled)
    assert torch.equal(found["none"], raw) and torch.equal(found["uniform"], raw)
    assert (found["labelled"] == 0).sum() < (raw == 0).sum()


def test_what_runs_is_still_while_evaluating_and_starts_as_published():
    labels = PseudoLabels(CLASSES, threshold="soft", alignment="labelled").eval()
    labels(*batches(1)[0])
    state = {name: tensor.tolist() for name, tensor in labels.state_dict().items()}
    equal = [1 / CLASSES] * CLASSES
    averages = {"confidence_mean": 0.25, "confidence_variance": 1.0, "mean": equal, "target": equal}
    assert state == averages | {"updates": 0}
    labels.train()(*batches(1)[0])
    assert all(tensor.tolist() != state[name] for name, tensor in labels.state_dict().items())


def test_a_checkpoint_holds_what_runs_and_nothing_else():
    kept = {
        (threshold, alignment): set(PseudoLabels(CLASSES, threshold=threshold, alignment=alignment).state_dict())
        for threshold in THRESHOLDS
        for alignment in ALIGNMENTS
    }
    assert not kept["fixed", "none"] and not kept["relative", "none"], "checkpoints of before stay readable"
    assert kept["relative", "labelled"] == {"updates", "mean", "target"}
    assert kept["soft", "uniform"] == {"updates", "confidence_mean", "confidence_variance", "mean"}


def test_one_image_has_no_variance_and_a_weight_all_the_same():
    labels = PseudoLabels(CLASSES, threshold="soft")
    for _ in range(3):
        _, weights = labels(predictions(1, 0))
    assert weights.isfinite().all() and labels.confidence_variance < 1


@pytest.mark.parametrize("options", [{"threshold": "flat"}, {"alignment": "labeled"}])
def test_refuses_unknown_words(options):
    with pytest.raises(ValueError, match="must be one of"):
        PseudoLabels(CLASSES, **options)
