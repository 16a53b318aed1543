"""Images from any source, chosen by protocol and held ready as uint8 tensors."""

from .decoded_cache import keep_decoded
from .fashion import FASHION_VIPRIORS, fashion_files
from .image_store import ImageStore, ResizeCrop, StreamedStore, build_store, collate, decode, train_geometry
from .paired_store import PairedSampler, PairedStore
from .protocol import apply_protocol
from .sources import ImageSplits, labels_for, load_splits, numbered_as, splits_of
from .train_protocol import TrainProtocol
from .training_sample import TrainingSample, sample

__all__ = [
    "FASHION_VIPRIORS",
    "ImageSplits",
    "ImageStore",
    "ResizeCrop",
    "PairedSampler",
    "PairedStore",
    "StreamedStore",
    "TrainProtocol",
    "TrainingSample",
    "apply_protocol",
    "build_store",
    "collate",
    "decode",
    "fashion_files",
    "keep_decoded",
    "labels_for",
    "load_splits",
    "numbered_as",
    "sample",
    "splits_of",
    "train_geometry",
]
