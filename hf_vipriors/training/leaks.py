"""Before a training: does it see images that it will be measured on?"""

from __future__ import annotations

from ..data import ImageSplits
from ..data.exact_copies import Copies, copies_between
from .arguments import RunArguments
from .guards import Guards
from .trained_images import MOST_IMAGES, splits_trained_on


def look_for_leaks(guards: Guards, splits: ImageSplits, args: RunArguments) -> None:
    """Let the guards say which images of validation and test are trained on, or chosen by.

    Above 50,000 images nothing is looked for: ``scripts/evaluate.py --advise`` looks for it at any size.

    Args:
        guards: of the trainer.
        splits: of the run.
        args: complete; they tell which splits are trained on.
    """
    found = splits.distinct
    measured = [name for name in ("validation", "test") if name in found]
    trained = splits_trained_on(splits, args)
    if not guards.args.should_log or sum(len(found[name]) for name in (*trained, *measured)) > MOST_IMAGES:
        return
    copies = copies_between({name: found[name] for name in trained}, {name: found[name] for name in measured})
    if len(measured) == 2:
        copies += copies_between({"validation": found["validation"]}, {"test": found["test"]})
    for each in copies:
        guards.say(f"copies_{each.first}_{each.second}", 0, _words(each, len(found[each.second])))


def _words(copies: Copies, images: int) -> str:
    pairs = ", ".join(f"{second} is {first}" for first, second in copies.pairs)
    more = ", ..." if copies.count > len(copies.pairs) else ""
    return (
        f"{copies.count} of {images} {copies.second} images are in {copies.first} too ({pairs}{more}): "
        f"figures on {copies.second} flatter; take them out of {copies.first}"
    )
