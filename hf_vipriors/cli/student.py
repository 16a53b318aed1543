"""Train the classifier on labels: distilled from a teacher, fine-tuned from it, or from scratch.

    accelerate launch scripts/train_student.py --teacher outputs/teacher --output_dir outputs/student
    accelerate launch scripts/train_student.py --method supervised --output_dir outputs/baseline
    accelerate launch scripts/train_student.py --method sskd --teacher outputs/baseline --backbone resnet10t
    accelerate launch scripts/train_student.py --method supervised --output_dir outputs/tuned --trials 20 \\
        --search_space scripts/recipes/search/supervised.yaml

The result is a native checkpoint: `pipeline("image-classification", model=DIR)` and
`timm.create_model("local-dir:DIR", pretrained=True)` load it without this package (one of a network that only this
package knows, such as cifar_resnet8, needs `import hf_vipriors` first).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..search.checks import check_not_given
from ..search.searching import train_student
from ..training import DataArguments, StudentArguments
from . import process
from .parser import Parser


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``hf-vipriors student``."""

    def job() -> None:
        parser = Parser([DataArguments, StudentArguments], __doc__)
        data, args = parser.parse(argv)
        check_not_given(parser.given(argv), args)
        train_student(data, args)

    process.run(job, resume=["--resume_from_checkpoint", "true"])
