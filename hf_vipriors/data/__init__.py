"""Images from any source, chosen by protocol and held ready as uint8 tensors."""

from hf_vipriors.data.fashion import FASHION_VIPRIORS, fashion_files
from hf_vipriors.data.image_store import (
    ImageStore,
    ResizeCrop,
    StreamedStore,
    build_store,
    collate,
    decode,
    train_geometry,
)
from hf_vipriors.data.paired_store import PairedSampler, PairedStore
from hf_vipriors.data.protocol import apply_protocol
from hf_vipriors.data.sources import ImageSplits, labels_for, load_splits, splits_of
from hf_vipriors.data.train_protocol import TrainProtocol
from hf_vipriors.data.training_sample import TrainingSample

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
