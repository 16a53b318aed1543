"""Images from any source, chosen by protocol and held ready as uint8 tensors."""

from .fashion import FASHION_VIPRIORS, fashion_files
from .image_store import ImageStore, ResizeCrop, StreamedStore, build_store, collate, decode, train_geometry
from .paired_store import PairedSampler, PairedStore
from .protocol import apply_protocol
from .sources import ImageSplits, labels_for, load_splits, splits_of
from .train_protocol import TrainProtocol
from .training_sample import TrainingSample

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
    "labels_for",
    "load_splits",
    "splits_of",
    "train_geometry",
]
