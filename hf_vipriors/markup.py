"""Names that people gave (of classes, data sets, runs), shown exactly as they are wherever text has a syntax."""

from __future__ import annotations

import re

SIGNS = {code: 0x2400 + code for code in range(32)}
"""Control characters and the signs that Unicode has for them."""
_CONTROLS = SIGNS | {0x7F: 0x2421, 0x85: 0x2424, 0x2028: 0x2424, 0x2029: 0x2424}
# Only what Markdown would read as something else: names stay readable in the file too.
_MARKDOWN = re.compile(r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<=\s)#(?=#*$)")


def visible(text: object) -> str:
    """One line: line ends and other control characters as signs that are seen. Enough for YAML and for comments.

    Example:
        >>> visible("two\\nlines")
        'two␊lines'
    """
    return str(text).translate(_CONTROLS)


def markdown(text: object) -> str:
    """Markdown, in a table or outside, that is shown as ``text``, see :func:`visible`.

    Example:
        >>> markdown("__init__, a_b|<c>")
        '\\\\_\\\\_init\\\\_\\\\_, a_b\\\\|\\\\<c>'
    """
    escaped = _MARKDOWN.sub(r"\\\g<0>", visible(text))
    return re.sub(r"(?<= ) |^ | $", "&nbsp;", escaped)  # spaces that would be dropped
