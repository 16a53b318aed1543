"""Train a student without labels: taught by a frozen teacher (SEED), or together with a peer (DoGo).

    accelerate launch scripts/pretrain_student.py --method seed --teacher outputs/teacher --backbone efficientnet_b0
    accelerate launch scripts/pretrain_student.py --method dogo --backbone resnet18 --peer_backbone resnet50

The result is a folder like a teacher's: `scripts/train_student.py --teacher DIR` fine-tunes or distils from it. Its
backbone also lies in DIR/native, where transformers and timm read it without this package. Of two peers the smaller
one is DIR and the larger one DIR/peer.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..run import train
from ..training import DataArguments, PretrainArguments
from . import process
from .parser import Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``hf-vipriors pretrain``."""

    def job() -> None:
        data, args = Parser([DataArguments, PretrainArguments], __doc__).parse(argv)
        train(data, args)

    process.run(job, resume=["--resume_from_checkpoint", "true"])
