"""Features as parquet: those of an evaluation, with path, split and label of each image."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_vipriors.data import load_splits
from hf_vipriors.evaluation.features import features
from hf_vipriors.hub.teachers import load_ours
from hf_vipriors.inference.embed import main
from hf_vipriors.training import DataArguments
from hf_vipriors.training.stores import evaluation_store


def test_rows_are_the_features_that_evaluation_sees(photos, teacher_folder, tmp_path):
    output = tmp_path / "features.parquet"
    images = ["--dataset_name", "imagefolder", "--data_dir", str(photos)]
    main(["--model", str(teacher_folder), *images, "--output", str(output), "--batch_size", "7"])
    rows = pq.read_table(output).to_pylist()
    model, splits = load_ours(str(teacher_folder), "model"), load_splits("imagefolder", data_dir=str(photos))
    assert [row["split"] for row in rows].count("unlabelled") == 10
    for split in ("train", "unlabelled"):
        mine = [row for row in rows if row["split"] == split]
        store = evaluation_store(splits.splits[split], model.config, DataArguments(), split)
        wanted = features(model, store)
        assert [row["path"] for row in mine] == [image["path"] for image in splits.splits[split]["image"]]
        vectors = np.array([row["vector"] for row in mine], dtype=np.float32)
        assert np.allclose(vectors, wanted.values, atol=1e-5)
        names = [None if label < 0 else splits.class_names[label] for label in wanted.labels.tolist()]
        assert [row["label"] for row in mine] == names


def test_images_inside_a_table_have_the_names_that_it_gives_them(teacher_folder, tmp_path):
    main(["--model", str(teacher_folder), "--images_per_class", "1", "--output", str(tmp_path / "f.parquet")])
    rows = pq.read_table(tmp_path / "f.parquet").to_pylist()
    assert rows[0]["path"].endswith(".png") and len({row["path"] for row in rows}) == len(rows) == 7510


def test_wide_gray_images_need_the_full_scale_and_are_read_by_it(teacher_folder, tmp_path, capsys):
    (tmp_path / "scans" / "unlabelled").mkdir(parents=True)
    Image.fromarray(np.full((20, 20), 3000, dtype=np.uint16)).save(tmp_path / "scans" / "unlabelled" / "1.png")
    options = ["--model", teacher_folder, "--dataset_name", "imagefolder", "--data_dir", tmp_path / "scans"]
    options = [*map(str, options), "--output", str(tmp_path / "f.parquet")]
    with pytest.raises(SystemExit):
        main(options)
    assert "such as --full_scale 4095" in capsys.readouterr().err and not (tmp_path / "f.parquet").exists()
    main([*options, "--full_scale", "4095"])
    assert len(pq.read_table(tmp_path / "f.parquet")) == 1
