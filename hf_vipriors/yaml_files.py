"""A YAML file of settings, whoever wrote it: it is what it says, or one line tells what is wrong with it.

PyYAML takes the last of two equal keys without a word, builds a nest of aliases that no memory holds once it is
written out, and raises exceptions of many kinds. A recipe needs none of that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import InputError, one_line
from .files import waits_for_ever

LONGEST = 100_000  # characters; the longest recipe of ours has 5,000
MOST_VALUES = 10_000  # with each alias written out


def yaml_mapping(path: str | Path, flag: str, holds: str) -> dict[str, Any]:
    """What a YAML file of options holds.

    Args:
        path: the file, in UTF-8.
        flag: what named it, for messages.
        holds: what it must hold, for messages.

    Raises:
        InputError: it cannot be read, is too long or too deep, names a key twice, or is no mapping.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "recipe.yaml")
        ...     _ = file.write_text("epochs: 3\\nmargin: 0.4\\nepochs: 30\\n")
        ...     yaml_mapping(str(file), "--config", "'option: value' lines")
        Traceback (most recent call last):
        ...
        hf_vipriors.errors.InputError: config /.../recipe.yaml names 'epochs' twice, the second time in line 3: ...
    """
    if waits_for_ever(path):
        raise InputError(f"{flag} {path} is a FIFO or a device: give a file")
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise InputError(f"has more than {LONGEST:,} characters: is it a file of options?")
        found = yaml.load(text, _Reader)  # a SafeLoader: plain values alone
    except InputError as error:
        raise InputError(f"{flag} {path} {error}") from None
    except OSError as error:
        raise InputError(f"{flag} {path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise InputError(f"{flag} {path} is nested too deep: options need two or three levels") from None
    # A value such as 2020-99-99 or !!float x raises whatever its conversion does.
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, ArithmeticError) as error:
        reason = one_line(error, None)
        raise InputError(f"{flag} {path} is not YAML: {reason[:300]}") from None
    if not isinstance(found, dict) or not found:
        raise InputError(f"{flag} {path} must hold {holds}")
    return found


class _Reader(yaml.SafeLoader):
    """Refuses equal keys and aliases that grow, before any value is made."""

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _written_out(node, {}, set())
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise InputError(f"names {key.value!r} twice, the second time in line {line}: leave one out")
            seen.add((key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)))
        return node


def _written_out(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    """How many values a node holds, aliases counted wherever they stand."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in above:
        raise InputError("holds a value that is part of itself: write it out")
    if id(node) not in sizes:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        sizes[id(node)] = 1 + sum(_written_out(part, sizes, above | {id(node)}) for part in parts)
    if sizes[id(node)] > MOST_VALUES:
        raise InputError(f"stands for more than {MOST_VALUES:,} values, aliases written out: is it a file of options?")
    return sizes[id(node)]
