"""Data sets whose images do not exist, so that reading one would fail."""

from datasets import Dataset, Features, Image, Value


def dataset(labels, prefix):
    """Images named by their row, which do not exist; labels a list, or a number of unlabelled images."""
    features = Features({"image": Image(decode=False)})
    count = labels if isinstance(labels, int) else len(labels)
    columns = {"image": [{"bytes": None, "path": f"{prefix}{row}"} for row in range(count)]}
    if not isinstance(labels, int):
        features["label"] = Value("int64")
        columns["label"] = labels
    return Dataset.from_dict(columns, features=features)
