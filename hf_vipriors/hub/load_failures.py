"""What goes wrong when a model is loaded from the Hub or a folder, as one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors as hub_errors

from ..disk_errors import CACHE, explain_disk_error
from ..errors import InputError, one_line

# The first that fits; a kind stands before the kinds it inherits from.
_REASONS = (
    (
        hub_errors.GatedRepoError,
        "its authors ask for your agreement: accept the terms on its page, then `hf auth login`",
    ),
    (hub_errors.RevisionNotFoundError, "it has no such revision"),
    (
        (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled, ConnectionError),
        "the Hub cannot be reached and the cache does not hold it: go online once, or give a folder that exists",
    ),
    (
        hub_errors.RepositoryNotFoundError,
        "no such folder here, and the Hub has no such model (or it is private: `hf auth login`)",
    ),
    (hub_errors.EntryNotFoundError, "a file that belongs to a model is not there"),
)


@contextmanager
def as_input_error(failure: str) -> Iterator[None]:
    """Whatever loading raises, as one line that starts with ``failure`` and says how to mend it."""
    try:
        yield
    except Exception as error:  # transformers, timm, huggingface_hub, safetensors, torch: each has its own kinds
        raise InputError(f"{failure}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(earlier)
    for kinds, reason in _REASONS:
        if any(isinstance(each, kinds) for each in chain):
            return reason
    full = explain_disk_error(error, unnamed=CACHE)
    return full or one_line(error, kind=True)
