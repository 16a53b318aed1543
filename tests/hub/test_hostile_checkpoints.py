"""Published files that were damaged or made to do harm: one line, no huge memory, no long wait."""

import io
import pickle
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models import resnet18, resnet50

from hf_vipriors.errors import InputError
from hf_vipriors.hub.import_checkpoint import import_checkpoint

# torch warns of what it meets on its way to a refusal.
pytestmark = pytest.mark.filterwarnings("ignore")
KEPT = "module.encoder_q."


@pytest.fixture(scope="module")
def state():
    """A narrow ResNet-18 as MoCo wrote it: what an attack changes stands out."""
    network = resnet18(num_classes=8).state_dict()
    return {KEPT + name: tensor for name, tensor in network.items()}


def line_of(path) -> str:
    with pytest.raises(InputError) as error:
        import_checkpoint(path)
    line = error.value.on_command_line
    assert "\n" not in line and len(line) < 900 and path.name in line, line
    return line


def written(content, path):
    torch.save(content, path)
    return path


ATTACKS = {
    "a number as name": ({3: torch.ones(1)}, "no state_dict"),
    "a tuple as name": ({(1, (2, 3)): torch.ones(1)}, "no state_dict"),
    "a stem without sides": ({KEPT + "conv1.weight": torch.tensor(1.0)}, "conv1.weight"),
    "a stem of nothing": ({KEPT + "conv1.weight": torch.ones(0, 3, 7, 7)}, "conv1.weight"),
    "a block without channels": ({KEPT + "layer1.0.conv2.weight": torch.ones(0, 64, 3, 3)}, "conv2.weight"),
    "a vector for a kernel": ({KEPT + "layer2.0.conv2.weight": torch.ones(128)}, "layer2.0.conv2.weight"),
    "a projector of one number": ({KEPT + "fc.weight": torch.tensor(1.0)}, "fc.weight"),
    "2^40 numbers in four bytes": ({KEPT + "bn1.weight": torch.ones(1).expand(2**40)}, "bn1.weight"),
    "2^33 numbers that are left out": ({"module.queue": torch.ones(1, 1).expand(2**33, 1)}, "queue"),
    "a tensor without content": ({KEPT + "bn1.weight": torch.ones(64, device="meta")}, "bn1.weight"),
    "a sparse tensor": ({KEPT + "bn1.weight": torch.ones(64).to_sparse()}, "bn1.weight"),
    "a quantised tensor": (
        {KEPT + "bn1.weight": torch.quantize_per_tensor(torch.ones(64), 0.1, 0, torch.qint8)},
        "bn1.weight",
    ),
    "a block of 5,000 digits": ({KEPT + f"layer1.{'9' * 5000}.conv1.weight": torch.ones(1)}, "left over"),
    # Small in the file, and the network that fits it would take terabytes.
    "a million channels": ({KEPT + "layer4.0.conv2.weight": torch.ones(1_000_000, 1, 1, 1)}, "that can be built"),
    "a million projections": ({KEPT + "fc.weight": torch.ones(1_000_000, 1)}, "that can be built"),
}


@pytest.mark.parametrize(("change", "word"), ATTACKS.values(), ids=ATTACKS)
def test_state_that_attacks(state, tmp_path, change, word):
    assert word in line_of(written({"state_dict": state | change}, tmp_path / "moco.pth.tar"))


def test_an_archive_that_unpacks_to_more_than_it_is(state, tmp_path):
    content, packed = io.BytesIO(), tmp_path / "bomb.pth"
    torch.save({"state_dict": {KEPT + "conv1.weight": torch.zeros(4_000_000)}}, content)
    with zipfile.ZipFile(content) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert packed.stat().st_size < 50_000
    assert "compressed" in line_of(packed)


class Mark:
    """Unpickled, it leaves a file."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.fixture(scope="module", params=[True, False], ids=["archive", "before torch 1.6"])
def small(request):
    """A file of a few kilobytes with all that a published one has, and a program in its optimizer."""
    state = {KEPT + "conv1.weight": torch.rand(4, 3, 3, 3), "module.queue": torch.rand(2, 4)}
    content = {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: {"momentum": torch.rand(2)}}, "lr": [0.1]}}
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=request.param)
    return stream.getvalue()


@given(data=st.data())
def test_damaged_files(small, tmp_path, data):
    """Cut, or a few bits turned. It is no ResNet, so that a file which is read in spite of that is refused later."""
    damaged = bytearray(small[: data.draw(st.just(len(small)) | st.integers(0, len(small) - 1), label="length")])
    for bit in data.draw(st.lists(st.integers(0, 8 * len(small) - 1), max_size=4), label="bits"):
        if bit // 8 < len(damaged):
            damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "damaged.pth.tar"
    path.write_bytes(damaged)
    line_of(path)


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path, content):
    path = tmp_path / "any.pth"
    for head in (b"", b"PK\x03\x04", pickle.PROTO + b"\x02"):
        path.write_bytes(head + content)
        line_of(path)


@given(protocol=st.integers(0, 5), cut=st.integers(0, 60), bit=st.integers(0, 800))
def test_a_damaged_program_does_not_run_either(tmp_path, protocol, cut, bit):
    mark = tmp_path / "mark"
    program = bytearray(pickle.dumps({"state_dict": Mark(mark)}, protocol=protocol))
    program[bit // 8 % len(program)] ^= 1 << bit % 8
    path = tmp_path / "program.pt"
    for content in (program, program[: len(program) - cut]):
        path.write_bytes(content)
        line_of(path)
    assert not mark.exists()


def test_stages_of_less_than_a_channel(tmp_path):
    """A bottleneck with two channels at its end has half a channel within."""
    state = {KEPT + name: tensor for name, tensor in resnet50(num_classes=8, width_per_group=4).state_dict().items()}
    narrow = {KEPT + "layer1.0.conv3.weight": torch.ones(2, 4, 1, 1)}
    assert "channels" in line_of(written({"state_dict": state | narrow}, tmp_path / "moco.pth"))
