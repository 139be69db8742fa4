"""From a place inside a scalar's value to the place in the file: for faults in CEL.

A value's text is not the file's: block scalars are indented, folded ones lose line breaks, quoted ones have escapes.
The value is therefore matched with the raw characters one by one; white space may differ, all else stands in both.
"""

from __future__ import annotations

from bisect import bisect_right

from gateway.config.source import Place, Source

__all__ = ["place_inside"]

_LINE_BREAKS = "\n\r\x85\u2028\u2029"
_ESCAPED_SPACE = set("0abtnvfre \t_NLP" + _LINE_BREAKS)
_ESCAPED_HEX = {"x": 2, "u": 4, "U": 8}


def place_inside(
    source: Source, place: Place, value: str, line: int, column: int
) -> tuple[int | None, int | None]:
    """Line and column in the file of line and column (from 1) in the value.

    Where the value came from the environment or from `--set`, the scalar's own place.
    """
    if place.line is None or place.expanded or place.end <= place.start:
        return place.line, place.column
    lines = value.split("\n")
    index = sum(len(text) + 1 for text in lines[: line - 1]) + column - 1
    offsets = _offsets(value, source.text[place.start : place.end], place.style)
    if not offsets:
        return place.line, place.column
    if index < len(offsets):
        offset = offsets[max(index, 0)]
    else:
        written = len(value.rstrip())
        offset = offsets[written - 1] + 1 if written else offsets[0]
    return _line_and_column(source.text, place.start + offset)


def _line_and_column(text: str, offset: int) -> tuple[int, int]:
    starts = [0]
    for at, character in enumerate(text[:offset]):
        if character in _LINE_BREAKS and not (character == "\r" and text[at + 1 : at + 2] == "\n"):
            starts.append(at + 1)
    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


def _offsets(value: str, raw: str, style: str | None) -> list[int]:
    """For each character of the value, where it stands in the raw text."""
    at = 0
    if style in ("|", ">"):
        at = next((index + 1 for index, character in enumerate(raw) if character in _LINE_BREAKS), len(raw))
    elif style in ("'", '"'):
        at = 1
    offsets: list[int] = []
    for character in value:
        if character.isspace():
            offsets.append(min(at, len(raw)))
            if style == '"' and raw[at : at + 1] == "\\" and raw[at + 1 : at + 2] in _ESCAPED_SPACE:
                at += 2
            elif raw[at : at + 1] == character:
                at += 1
            continue
        while at < len(raw) and raw[at].isspace():
            at += 1
        while style == '"' and raw[at : at + 1] == "\\" and raw[at + 1 : at + 2] in _LINE_BREAKS:
            at += 2
            while at < len(raw) and raw[at].isspace():
                at += 1
        offsets.append(min(at, len(raw)))
        if style == '"' and raw[at : at + 1] == "\\":
            at += 2 + _ESCAPED_HEX.get(raw[at + 1 : at + 2], 0)
        elif style == "'" and raw[at : at + 2] == "''":
            at += 2
        else:
            at += 1
    return offsets
