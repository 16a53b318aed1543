"""What lies beside the weights of a model, damaged at random: the names of its parts, its configuration."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_vipriors.errors import InputError
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.hub.teachers import load_ours, load_teacher
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification, VipriorsModel
from hf_vipriors.models.download import check_shards, matches_its_name

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NEST = "[" * 100_000
INDEX = "model.safetensors.index.json"


def one_line(error) -> bool:
    return "\n" not in error.value.on_command_line and len(error.value.on_command_line) < 900


@given(content=JSON.map(json.dumps) | st.text(), bytes=st.binary())
def test_an_index_names_files_beside_it_or_is_refused(tmp_path, content, bytes):
    for written in (content.encode("utf-8", "surrogatepass"), bytes):
        (tmp_path / INDEX).write_bytes(written)
        with pytest.raises(InputError) as error:
            check_shards(tmp_path)
        assert one_line(error) and INDEX in error.value.on_command_line


def test_nests_without_end(tmp_path):
    """Apart from the random ones: hypothesis is slow with long texts."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    for content in (NEST, '{"weight_map": ' + NEST):
        for name in (INDEX, "config.json"):
            (tmp_path / name).write_text(content)
        for read, folder in ((check_shards, tmp_path), (load_teacher, str(tmp_path)), (load_native, tmp_path)):
            with pytest.raises(InputError, match="damaged"):
                read(folder)


NAMES = st.sampled_from(["a.safetensors", "../a.safetensors", "/a.safetensors", "b/a.safetensors", "a.bin", ".", ""])


@given(st.dictionaries(st.text(max_size=5), NAMES | st.text(max_size=5) | st.integers(), min_size=1, max_size=4))
def test_no_name_in_an_index_leads_out_of_the_folder(tmp_path, names):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": names}))
    try:
        check_shards(tmp_path)
    except InputError:
        assert set(names.values()) != {"a.safetensors"}
    else:
        assert all(Path(tmp_path, name).resolve().parent == tmp_path.resolve() for name in names.values())


@given(content=st.binary(min_size=1, max_size=60), bit=st.integers(0, 479))
def test_a_turned_bit_in_the_cache_is_seen(tmp_path, content, bit):
    small = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    for name in (hashlib.sha256(content).hexdigest(), small):
        blob = tmp_path / name
        blob.write_bytes(content)
        assert matches_its_name(blob)
        damaged = bytearray(content)
        damaged[bit // 8 % len(damaged)] ^= 1 << bit % 8
        for wrong in (bytes(damaged), content[:-1]):
            blob.write_bytes(wrong)
            assert not matches_its_name(blob)


@given(content=JSON.map(json.dumps) | st.text(max_size=20), kind=JSON)
def test_a_configuration_that_is_none(tmp_path, content, kind):
    (tmp_path / "model.safetensors").write_bytes(b"")
    types = ("vipriors", "timm_wrapper", kind)
    for written in (content, *(json.dumps({"model_type": each, "architectures": kind}) for each in types)):
        (tmp_path / "config.json").write_text(written, encoding="utf-8", errors="surrogatepass")
        for load in (load_teacher, lambda folder: load_ours(folder, "teacher")):
            with pytest.raises(InputError) as error:
                load(str(tmp_path))
            assert one_line(error), error.value


SMALL = {"image_size": 32, "class_names": ["cat", "dog"]}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("native", [True, False])
def test_a_fifo_in_place_of_a_file_is_refused_and_not_waited_for(name, native, tmp_path, deadline):
    model = VipriorsForImageClassification(VipriorsConfig.for_backbone("test_resnet", **SMALL))
    folder = tmp_path / "model"
    export_native(model, folder) if native else model.save_pretrained(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    for load in (load_teacher, load_native if native else VipriorsModel.from_pretrained):
        with pytest.raises(InputError, match=f"{name} is a FIFO or a device|no model in") as error:
            load(str(folder))
        assert one_line(error)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("native", {"model_args": {"layers": [1_000_000, 1, 1, 1]}}),
        ("native", {"model_args": {"channels": [1_000_000] * 4}}),
        ("native", {"pretrained_cfg": {"input_size": [3, 10**6, 10**6]}}),
        ("ours", {"backbone_args": {"layers": [10**6, 1, 1, 1]}}),
        ("ours", {"image_size": 10**6}),
        ("ours", {"num_labels": 10**9, "id2label": None}),
        ("ours", {"projector_dim": 10**9}),
        ("other", {"model_type": "vit", "num_hidden_layers": 10**6}),
        ("other", {"model_type": "swin", "depths": [10**6, 2]}),
        ("other", {"architecture": "resnet18", "model_args": {"layers": [10**6, 1, 1, 1]}}),
    ],
)
def test_a_network_without_end_is_not_built(file, change, tmp_path, deadline):
    model = VipriorsForImageClassification(VipriorsConfig.for_backbone("test_resnet", **SMALL))
    folder = tmp_path / "model"
    export_native(model, folder) if file == "native" else model.save_pretrained(folder)
    config = {} if file == "other" else json.loads((folder / "config.json").read_text())
    if "pretrained_cfg" in change:
        change = {"pretrained_cfg": config["pretrained_cfg"] | change["pretrained_cfg"]}
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError) as error:
        load_teacher(str(folder))
    assert one_line(error), error.value
