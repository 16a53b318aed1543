"""Labels that are missing, negative, fractions, untidy text or out of range, and parquet files that are damaged."""

import datetime
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as Pillow

from hf_vipriors.data import labels_for, load_splits
from hf_vipriors.data.columns import find_label_column, read_labels, some
from hf_vipriors.errors import InputError


def png():
    buffer = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def loaded(tmp_path):
    """``loaded(labels)``: what a parquet file with these labels becomes."""

    def load(labels, **options):
        rows = {"image": [{"bytes": png(), "path": None}] * len(labels), "label": labels}
        Dataset.from_dict(rows).cast_column("image", Image()).to_parquet(str(tmp_path / "train.parquet"))
        return load_splits("parquet", data_dir=str(tmp_path), **options)

    return load


def shape(found):
    codes = list(found.splits["train"]["label"]) if "train" in found.splits else []
    return codes, found.class_names, len(found.splits.get("unlabelled", ()))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 0, None, 1], ([1, 0, 1], ["0", "1"], 1)),
        ([1, 0, -1, 1], ([1, 0, 1], ["0", "1"], 1)),
        ([-5, 3, -5, 2**62], ([0, 1, 0, 2], ["-5", "3", str(2**62)], 0)),
        # What pandas makes of integers of which one is missing.
        ([1.0, 0.0, float("nan"), 1.0], ([1, 0, 1], ["0", "1"], 1)),
        ([1.0, None, -1.0, 0.0], ([1, 0], ["0", "1"], 2)),
        (["b", "a", "", "b "], ([1, 0, 1], ["a", "b"], 1)),
        (["caf\u00e9", "cafe\u0301", "a", "a"], ([1, 1, 0, 0], ["a", "caf\u00e9"], 0)),
        (["-1", "a", " NaN ", "none"], ([0, 1], ["a", "none"], 2)),
        ([["b"], ["a"], [], ["b"]], ([1, 0, 1], ["a", "b"], 1)),
        ([[2], [7], None, [2]], ([0, 1, 0], ["2", "7"], 1)),
        ([True, False, True, True], ([1, 0, 1, 1], ["False", "True"], 0)),
        ([None, None, None, None], ([], [], 4)),
    ],
)
def test_what_labels_become(labels, expected, loaded):
    assert shape(loaded(labels)) == expected


@pytest.mark.parametrize("labels", [[0.5, 1.0], [float("inf"), 1.0]])
@pytest.mark.parametrize("options", [{}, {"label_column": "label"}])
def test_fractions_are_no_classes(labels, options, loaded):
    with pytest.raises(InputError, match=r"column 'label' holds numbers that are no integers.*label_column"):
        loaded(labels, **options)


def test_a_label_without_a_name_is_refused(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    rows = {"image": [{"bytes": png(), "path": None}] * 4, "label": [0, 1, 0, 1]}
    file = tmp_path / "train.parquet"
    Dataset.from_dict(rows, features=features).to_parquet(str(file))
    for wrong in (2, -2):
        table = pq.read_table(file)
        pq.write_table(table.set_column(1, table.schema.field(1), pa.array([0, 1, wrong, 1])), file)
        with pytest.raises(InputError, match=rf"column 'label' holds label {wrong} in 1 rows, but names 2 classes"):
            load_splits("parquet", data_dir=str(tmp_path))


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"PAR1, not"])
def test_damaged_parquet_is_one_line(damage, loaded, tmp_path):
    loaded([0, 1])
    file = tmp_path / "train.parquet"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match="cannot load train of .*must be readable") as raised:
        load_splits("parquet", data_dir=str(tmp_path))
    assert "\n" not in raised.value.on_command_line


def of_type(values, kind=None):
    rows = Dataset(pa.table({"label": pa.array(values, kind), "x": pa.array(range(len(values)))}))
    return read_labels(rows, find_label_column(rows.features))


@pytest.mark.parametrize(
    "kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_text_of_every_arrow_type(kind):
    found = of_type(["b", "a", None, " b"], kind)
    assert (found.names, found.codes.tolist()) == (["a", "b"], [1, 0, -1, 1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([{"a": 1}, {"a": 2}], "'label' is no class label, text or number: .*label_column"),
        ([datetime.date(2020, 1, 1), None], r"'label' is no .*label \(date32\)"),
        ([[0, 1], [1, 0]], r"'label' \(list<item: int64>\) has up to 2 labels an image.*one-hot"),
        ([["a"], ["a", "b"]], "has up to 2 labels an image"),
    ],
)
def test_other_types_are_named(values, said):
    with pytest.raises(InputError, match=said):
        of_type(values)


def test_declared_names_are_written_as_text_is():
    """Else the same class is "only in test", and a model trained on one set does not know the other's classes."""
    declared = Dataset.from_dict(
        {"label": [1, 0]}, features=Features({"label": ClassLabel(names=["b ", "cafe\u0301"])})
    )
    assert read_labels(declared, "label").names == ["b", "caf\u00e9"]
    twice = Dataset.from_dict({"label": [1, 0]}, features=Features({"label": ClassLabel(names=["b ", "b"])}))
    with pytest.raises(InputError, match="'b ' and 'b', which differ in spaces"):
        read_labels(twice, "label")
    images = Dataset.from_dict({"image": [None], "label": ["caf\u00e9"]}).cast_column("image", Image())
    assert labels_for(images, ["x", "cafe\u0301"], "new")["label"][:] == [1]


def test_long_names_are_cut_and_control_characters_shown():
    assert some(["x" * 500, "\x1b[31m"]) == repr("x" * 60 + "...") + ", '\\x1b[31m'"


def test_a_column_of_several_labels_leaves_images_unlabelled_and_says_so(loaded):
    """For phase 1 such a set is as good as any; who names the column is told what is wrong with it."""
    found = loaded([[0, 1], [1]])
    assert shape(found) == ([], [], 2)
    (note,) = [note for note in found.notes if "'label'" in note]
    assert "up to 2 labels an image" in note and "taken as unlabelled" in note
    with pytest.raises(InputError, match="up to 2 labels an image"):
        loaded([[0, 1], [1]], label_column="label")
