"""The files that lie beside a teacher on the Hub, for whoever loads it without hf_vipriors and allows its code to run.

They import torch, timm and transformers alone. Whoever has hf_vipriors gets :mod:`hf_vipriors.models` instead, which
gives the same numbers and says more when something is wrong.
"""

from pathlib import Path

AUTO_MAP = {
    "AutoConfig": "configuration_vipriors.VipriorsConfig",
    "AutoModel": "modeling_vipriors.VipriorsModel",
}
"""``auto_map`` of a pushed teacher's ``config.json``."""


def remote_files() -> dict[str, Path]:
    """Name in the repository -> file.

    Example:
        >>> sorted(remote_files())
        ['configuration_vipriors.py', 'modeling_vipriors.py']
    """
    folder = Path(__file__).parent
    return {name: folder / name for name in ("configuration_vipriors.py", "modeling_vipriors.py")}
