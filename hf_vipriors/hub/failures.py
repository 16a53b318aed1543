"""What the libraries and the Hub raise while a model is loaded, converted or pushed, as one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors as hub_errors
from torch.onnx.errors import OnnxExporterError

from ..disk_errors import CACHE, explain_disk_error
from ..errors import InputError, one_line

CONFLICT = 412
_NOT_HERE = (
    "there is no such folder here, the Hub cannot be reached and the cache does not hold it: give a folder that "
    "exists, or go online once"
)
# The first that fits; a kind stands before the kinds it inherits from.
_REASONS = (
    (
        hub_errors.LocalTokenNotFoundError,
        "you are not logged in: run `hf auth login` with a token that may write, or set HF_TOKEN",
    ),
    (
        hub_errors.GatedRepoError,
        "its authors ask for your agreement: accept the terms on its page, then `hf auth login`",
    ),
    (hub_errors.RevisionNotFoundError, "it has no such revision"),
    (hub_errors.LocalEntryNotFoundError, _NOT_HERE),
    (hub_errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set: unset it to reach the Hub"),
    (ConnectionError, _NOT_HERE),
    (
        hub_errors.RepositoryNotFoundError,
        "no such folder here, and the Hub has no such model (or it is private: `hf auth login`)",
    ),
    (hub_errors.EntryNotFoundError, "a file that belongs to a model is not there"),
)
_STATUS = {
    401: "the Hub does not know your token: run `hf auth login` with a token that may write",
    403: "your token may not write there: use one with write access, and a --repo_id of your own",
    CONFLICT: "others push to it all the time",
}


@contextmanager
def as_input_error(failure: str) -> Iterator[None]:
    """Whatever is raised, as one line that starts with ``failure`` and says how to mend it, without secrets."""
    try:
        yield
    except Exception as error:  # transformers, timm, huggingface_hub, safetensors, torch: each has its own kinds
        raise InputError(f"{failure}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Why it failed and how to mend it."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(earlier)
    for kinds, words in _REASONS:
        if any(isinstance(each, kinds) for each in chain):
            return words
    if isinstance(error, hub_errors.HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        return _STATUS.get(status, f"the Hub answers {status} {error.response.reason_phrase}")
    if isinstance(error, OnnxExporterError):  # around the reason stands advice to those who develop torch
        return one_line(RuntimeError(str(chain[-1]).strip().partition("\n")[0]))
    if (refused := explain_disk_error(error, unnamed=CACHE)) is not None:
        return refused
    # What follows in an address may be a signature.
    return re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", one_line(error, kind=True))
