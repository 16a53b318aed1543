import pytest

from hf_vipriors.data.imbalance import long_tail_sizes
from hf_vipriors.errors import InputError


@pytest.mark.parametrize("imbalance", [2, 10, 50])
def test_the_papers_profile_on_balanced_classes(imbalance):
    mu = imbalance ** (-1 / 9)
    assert long_tail_sizes([500] * 10, imbalance) == [round(500 * mu**k) for k in range(10)]


def test_the_ratio_is_the_one_asked_for_whatever_the_classes_hold():
    for available in ([100, 100], [100, 30, 200], [5, 80, 60, 40]):
        sizes = long_tail_sizes(available, 4)
        assert sizes[0] / sizes[-1] == pytest.approx(4, rel=0.3)
        assert sizes == sorted(sizes, reverse=True)
        assert all(size <= count for size, count in zip(sizes, available, strict=True))
        assert any(size == count for size, count in zip(sizes, available, strict=True)), "as large as possible"


def test_a_class_without_images_is_refused():
    assert long_tail_sizes([50] * 3, 50)[-1] == 1
    with pytest.raises(InputError, match="imbalance 500 leaves the smallest class without an image .* 50 or less"):
        long_tail_sizes([50] * 3, 500)
