"""What can be set of the data, as a dataclass: which images, how many of them, and where they wait."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..data import FASHION_VIPRIORS, TrainProtocol
from ..errors import InputError, check_choice
from ..options import SEED, check_options, option

# What decides which images are carved from train, and which are trained on.
CHOICE = ("subset_seed", "validation_seed", "validation_share", "images_per_class")
# Which of the images that the data set has are used, and as what.
_CHOOSING = (*CHOICE, "choose_with", "imbalance", "train_fraction", "label_noise", "noise_kind", "unlabelled")


@dataclass
class DataArguments:
    """Which images, how many of them, and where they wait."""

    dataset_name: str = option(
        FASHION_VIPRIORS,
        "A Hub data set, 'imagefolder' (with --data_dir), a .parquet file or folder, a data set saved with "
        "save_to_disk, or 'fashion-vipriors', which ships with the package. --data_dir alone means 'imagefolder'.",
    )
    dataset_config: str | None = option(None, "Configuration of a Hub data set.")
    dataset_revision: str | None = option(None, "Revision (branch, tag, commit) of a Hub data set.")
    data_dir: str | None = option(
        None, "Folder with train/CLASS/*.jpg and, if there are, validation/, test/ and unlabelled/."
    )
    labels: str | None = option(
        None,
        "Table of the labels (.csv, .tsv, .jsonl, .parquet) of the images in --data_dir: columns file_name, label and "
        "perhaps split. Its rows count before class folders; images with neither are unlabelled. Not given: folders, "
        "or a metadata.csv in them.",
    )
    image_column: str | None = option(None, "Name of the image column; found by its type when not given.")
    label_column: str | None = option(None, "Name of the label column; found by its type or name when not given.")
    images_per_class: int | None = option(
        None,
        "Keep N labelled training images of each class (the VIPriors protocol has 50); all when not given.",
        low=1,
    )
    subset_seed: int = option(
        0, "Which N: the seed of that choice. Change it to repeat a run on other images.", bounds=SEED
    )
    choose_with: str | None = option(
        None,
        "Keep as many labels, but of the images that are most typical to this network (a teacher's folder or name), "
        "whatever their classes, as label-next asks for them; not given: N of each class at random. For images that "
        "all have a label, to learn what the choice is worth.",
    )
    validation_share: float = option(
        0.2,
        "Share of the labelled images that becomes validation where the data set has no such split. 0: none, all are "
        "learnt from; without a test split nothing is measured then.",
        low=0,
        high=0.9,
    )
    validation_seed: int | None = option(
        None,
        "Seed by which that share is chosen; not given: --subset_seed. With a fixed one, runs on other choices of the "
        "labelled images are scored on the same images.",
        bounds=SEED,
    )
    imbalance: float = option(
        1.0, "Long tail: largest / smallest class of the train split, falling exponentially in class order; 1: none."
    )
    train_fraction: float = option(1.0, "Keep this share of the train images of each class.")
    label_noise: float = option(0.0, "Make this share of the train labels of each class wrong, by --subset_seed.")
    noise_kind: str = option(
        "symmetric", "Wrong labels: 'symmetric' (any other class) or 'asymmetric' (always the next class)."
    )
    unlabelled: str = option(
        "split",
        "Images without labels, for phase 1, --unlabelled_ratio and --propagate_labels: 'split' (the data set's own "
        "unlabelled split), 'rest' (that and the training images not chosen), 'none' (strict protocol: labelled "
        "images only).",
    )
    on_bad_image: str = option("error", "An unreadable image is an 'error', or 'skip': counted and left out.")
    full_scale: float | None = option(
        None,
        "Gray images of 16 or 32 bits or floats: the value that is white in all of them (4095, 65535, ...), scaled to "
        "255. Kept with the model, whose own counts when not given. Without one, values beyond 255 are refused.",
        low=0,
        open_low=True,
    )
    memory_share: float = option(
        0.5,
        "Decoded images may take this share of the free memory; beyond it they are read from disk as needed.",
        low=0,
        high=1,
    )
    store: str | None = option(
        None,
        "Folder that keeps decoded images for the next command on the same files, or 'none'. Not given: in the cache "
        "of datasets; at most 20 GiB, what was not used for longest goes first.",
    )

    def __post_init__(self) -> None:
        check_choice(self.unlabelled, ("split", "rest", "none"), "unlabelled")
        check_choice(self.on_bad_image, ("error", "skip"), "on_bad_image")
        check_options(self)
        limits = self.train_protocol()  # refuses what is out of range
        if self.choose_with is not None and self.images_per_class is None:
            raise InputError(
                f"--choose_with {self.choose_with} chooses as many images as --images_per_class times the classes: "
                "give that too"
            )
        if self.choose_with is not None and limits.active:
            raise InputError(
                f"--choose_with {self.choose_with} does not ask for classes, and --imbalance, --train_fraction and "
                "--label_noise go by them: leave those out"
            )
        if self.data_dir is not None and self.dataset_name == FASHION_VIPRIORS:
            self.dataset_name = "imagefolder"  # a folder alone is a folder of images
        if self.labels is not None and self.data_dir is None:
            raise InputError(f"--labels {self.labels} needs --data_dir: the folder of the images that it names")

    def choosing(self) -> list[str]:
        """Names of the options that choose among the images and have another value than their default.

        Example:
            >>> DataArguments(images_per_class=5, dataset_name="cifar10").choosing()
            ['images_per_class']
        """
        return [each.name for each in fields(self) if each.name in _CHOOSING and vars(self)[each.name] != each.default]

    def train_protocol(self) -> TrainProtocol:
        """What the protocol does to the train split after its images were chosen."""
        return TrainProtocol(self.imbalance, self.train_fraction, self.label_noise, self.noise_kind)
