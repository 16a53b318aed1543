"""A checkpoint that was cut or had bits turned: it is loaded as a whole, or refused with one line."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from hf_vipriors.errors import InputError
from hf_vipriors.methods import KeyQueue
from hf_vipriors.training.checkpoints import MODEL, read_method_state


def method() -> nn.Module:
    return nn.ModuleDict({"head": nn.Linear(3, 4), "queue": KeyQueue(5, 2)})


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    file = tmp_path_factory.mktemp("whole") / MODEL
    save_file(method().state_dict(), file, metadata={"format": "pt"})
    return file.read_bytes()


@given(data=st.data())
def test_cut_or_with_bits_turned(tmp_path, content, data):
    header = 8 + int.from_bytes(content[:8], "little")
    for bits in st.integers(0, 8 * header - 1), st.integers(0, 8 * len(content) - 1):  # mostly where it hurts
        damaged = bytearray(content)
        for bit in data.draw(st.lists(bits, min_size=1, max_size=3), label="bits"):
            damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / MODEL).write_bytes(damaged)
        ours = method()
        shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
        try:
            read_method_state(ours, str(tmp_path))
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 900 and str(tmp_path) in str(error)
        assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes
    (tmp_path / MODEL).write_bytes(content[: data.draw(st.integers(0, len(content) - 1), label="length")])
    with pytest.raises(InputError, match="damaged"):
        read_method_state(method(), str(tmp_path))


@given(st.binary(max_size=100))
def test_any_bytes(tmp_path, content):
    (tmp_path / MODEL).write_bytes(content)
    with pytest.raises(InputError):
        read_method_state(method(), str(tmp_path))


@given(
    st.dictionaries(st.sampled_from([*method().state_dict(), "else"]), st.lists(st.integers(0, 5), max_size=2)),
    st.sampled_from([torch.float32, torch.int64, torch.float16, torch.bool]),
)
def test_tensors_of_another_run(tmp_path, shapes, dtype):
    wanted = {name: list(tensor.shape) for name, tensor in method().state_dict().items()}
    save_file({name: torch.zeros(shape, dtype=dtype) for name, shape in shapes.items()}, tmp_path / MODEL)
    if shapes != wanted:
        with pytest.raises(InputError, match="of another run"):
            read_method_state(method(), str(tmp_path))
