"""`${NAME}` and `${NAME:-default}` in scalars, from the environment; `$${` stands for `${` itself.

As shells have it, the default also takes the place of a variable that is set but empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["expand", "has_variable"]

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)


def has_variable(text: str) -> bool:
    """Whether expansion would look at this text at all."""
    return "${" in text


def expand(text: str, env: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]]:
    """Put the environment's values in.

    Returns: the text, and per fault what was found and the mend.
    """
    faults: list[tuple[str, str]] = []

    def value(match: re.Match[str]) -> str:
        if match.group() == "$${":
            return "${"
        inner = match.group(1)
        parsed = _NAME.match(inner) if inner is not None else None
        if parsed is None:
            faults.append(
                (
                    f"{match.group()} names no variable",
                    "write ${NAME} or ${NAME:-default}; $${ for a plain ${",
                )
            )
            return ""
        name, default = parsed.group(1), parsed.group(2)
        found = env.get(name)
        if found or (found is not None and default is None):
            return found
        if default is None:
            faults.append(
                (f"the environment has no {name}", f"set {name}, or give a default: ${{{name}:-default}}")
            )
            return ""
        return default

    return _VARIABLE.sub(value, text), faults
