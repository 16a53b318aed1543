"""Under which licence somebody else's network may be used: what timm or its card says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from .teachers import TIMM_PREFIXES, place_of

NOT_STATED, NOT_READ = "not stated", "not known, its card could not be read"
_LONGEST = 60


def licence_of(name: str) -> str:
    """The licence of the weights, as timm or the metadata of the card name it.

    Args:
        name: as of :func:`~hf_vipriors.hub.teachers.load_teacher`, which has loaded it.

    Returns:
        An id of the Hub such as "apache-2.0"; "not stated" where nobody says; of a card that is out of reach, that.

    Example:
        >>> licence_of("timm:resnet18.a1_in1k"), licence_of("fashion-vipriors-teacher")
        ('apache-2.0', 'apache-2.0')
    """
    prefix = next((prefix for prefix in TIMM_PREFIXES if name.startswith(prefix)), None)
    place = Path(place_of(name))
    if prefix is not None and not place.exists():
        known = timm.get_pretrained_cfg(name.removeprefix(prefix))
        return _worded(known and known.license)
    if place.is_file():
        return NOT_STATED
    try:
        # Errors in the rest of the metadata are none of the licence's.
        card = ModelCard.load(place / "README.md" if place.is_dir() else name, ignore_metadata_errors=True)
    except LocalEntryNotFoundError:  # offline, and not in the cache
        return NOT_READ
    except (FileNotFoundError, EntryNotFoundError):
        return NOT_STATED
    except (RecursionError, TypeError, ValueError, yaml.YAMLError):  # metadata that are none
        return NOT_STATED
    except OSError:
        return NOT_READ
    data = card.data.to_dict()
    return _worded(data.get("license_name") or data.get("license"))


def _worded(licence: Any) -> str:
    """As text of one line: a card may hold a list, or anything else."""
    each = licence if isinstance(licence, list) else [licence]
    text = ", ".join(" ".join(str(one).split()) for one in each if one and one != "unknown")
    return text[:_LONGEST] or NOT_STATED
