"""CEL expressions of rules, checked by Google's own checker with the types that rules see.

It stands in an extra (50 MB), so it is used where installed and left to the data plane's own compiler elsewhere. What
it says about types is translated into the words of the settings, and all of it is shown.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.config.faults import did_you_mean, listed, nearest

__all__ = [
    "VARIABLES",
    "CelFault",
    "check_expression",
    "checker_installed",
    "names_variable",
    "without_texts",
]

VARIABLES = {
    "request": ("model", "id", "rows", "params", "inputs"),
    "caller": ("id", "names"),
    "prediction": ("label", "score", "confidence", "margin", "entropy", "value"),
    "session": (
        "calls",
        "answered",
        "fallbacks",
        "flagged",
        "repeats",
        "last_label",
        "last_score",
        "last_confidence",
        "last_value",
        "remembered",
    ),
    "stats": (
        "calls",
        "fallback_share",
        "predictions",
        "flagged_share",
        "score_mean",
        "score_sd",
        "value_mean",
        "value_sd",
    ),
}
"""What is seen of the variables that have fields."""

_COUNTS = {"calls", "answered", "fallbacks", "flagged", "repeats", "predictions"}
"""Whole numbers; the others of `session` and `stats` are not."""

_ERROR = re.compile(r"^(?:[A-Z_]+: )?ERROR: <input>:(\d+):(\d+): (.*)$", re.MULTILINE)
_STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
_OPERATORS = {"_&&_": "&&", "_||_": "||", "!_": "!", "-_": "-", "@in": "in", "_[_]": "[]", "_?_:_": "? :"}


@dataclass(frozen=True, slots=True)
class CelFault:
    """A fault inside an expression, line and column from 1, counted in characters."""

    line: int
    column: int
    found: str
    wanted: str = ""
    mend: str = ""


def checker_installed() -> bool:
    """Whether types can be checked here."""
    return importlib.util.find_spec("cel_expr_python") is not None


def check_expression(
    text: str,
    *,
    on: str,
    lists: Sequence[str] = (),
    segments: Sequence[str] = (),
    remembered: Sequence[str] = (),
) -> list[CelFault]:
    """Every fault of one rule's expression; none where the checker is not installed and the names are right."""
    faults = [
        *_unknown_keys(text, "lists", lists),
        *_unknown_keys(text, "segment", segments),
        *_unknown_keys(text, "session.remembered", remembered),
    ]
    if not checker_installed():
        return faults
    try:
        kind = _environment(on).compile(text).return_type().name()
    except Exception as error:
        # the binding raises RuntimeError for a faulty expression and has no type of its own for it
        return _translated(str(error), text, on) + faults
    if kind not in ("BOOL", "DYN"):
        faults.append(CelFault(1, 1, f"the expression yields {_type(kind)}", "true or false", _compare(kind)))
    return faults


def without_texts(text: str) -> str:
    """The expression with blanks for what stands in quotes; every character keeps its place."""
    return _STRING.sub(lambda match: '"' + " " * (len(match.group()) - 2) + '"', text)


def names_variable(text: str, variable: str) -> bool:
    """Whether an expression names one of the variables."""
    return re.search(rf"(?<![\w.]){variable}\b", without_texts(text)) is not None


def _compare(kind: str) -> str:
    return (
        "compare it with something, as in request.rows > 64"
        if kind in ("INT", "DOUBLE", "STRING", "UINT")
        else ""
    )


def _unknown_keys(text: str, variable: str, known: Sequence[str]) -> Iterator[CelFault]:
    """`lists.trustd`: a map has no fields that the checker could know, so its keys are looked at here."""
    blank = without_texts(text)
    for match in re.finditer(rf"(?<![\w.]){re.escape(variable)}\s*(?:\.\s*(\w+)|\[\s*(\")\s*\"\s*\])", blank):
        name = match[1] or text[match.start(2) + 1 : match.end() - 1].split('"')[0]
        if name in known:
            continue
        line = text.count("\n", 0, match.start()) + 1
        column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
        found, what, where = {
            "lists": (f"there is no list {name}", "list", "lists:"),
            "segment": (f"there is no segment {name}", "segment", "identity.segments:"),
            "session.remembered": (f"{name} is not remembered", "number", "session.remember: in the route"),
        }[variable]
        wanted = listed(known) if known else f"a {what} that stands under {where}"
        yield CelFault(line, column, found, wanted, did_you_mean(name, known))


@functools.cache
def _environment(on: str) -> Any:
    from cel_expr_python import cel
    from google.protobuf import descriptor_pb2, descriptor_pool

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="gateway_cel.proto", package="gateway.cel", syntax="proto3"
    )

    def message(name: str, fields: dict[str, int], repeated: str = "") -> None:
        made = file.message_type.add(name=name)
        for number, (key, kind) in enumerate(fields.items(), 1):
            label = field.LABEL_REPEATED if key == repeated else field.LABEL_OPTIONAL
            made.field.add(name=key, number=number, type=kind, label=label)

    message("Input", {"datatype": field.TYPE_STRING, "shape": field.TYPE_INT64}, repeated="shape")
    numbers = dict.fromkeys(VARIABLES["prediction"][1:], field.TYPE_DOUBLE)
    message("Caller", {"id": field.TYPE_STRING, "names": field.TYPE_STRING}, repeated="names")
    message("Prediction", {"label": field.TYPE_STRING, **numbers})
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = cel.Type
    texts = kind.Map(kind.STRING, kind.STRING)
    variables = {
        "request.model": kind.STRING,
        "request.id": kind.STRING,
        "request.rows": kind.INT,
        "request.params": kind.Map(kind.STRING, kind.DYN),
        "request.inputs": kind.Map(kind.STRING, kind("gateway.cel.Input")),
        "metadata": texts,
        "caller": kind("gateway.cel.Caller"),
        "segment": texts,
        "lists": kind.Map(kind.STRING, kind.List(kind.STRING)),
        "route": kind.STRING,
        **{
            f"{root}.{field}": _past(field, kind)
            for root in ("session", "stats")
            for field in VARIABLES[root]
        },
    }
    if on == "prediction":
        variables |= {"prediction": kind("gateway.cel.Prediction"), "backend": kind.STRING}
    return cel.NewEnv(pool, variables=variables)


def _past(field: str, kind: Any) -> Any:
    """The type of a field of `session` or `stats`."""
    if field == "remembered":
        return kind.Map(kind.STRING, kind.DOUBLE)
    if field == "last_label":
        return kind.STRING
    return kind.INT if field in _COUNTS else kind.DOUBLE


def _type(name: str) -> str:
    words = {
        "INT": "a whole number",
        "UINT": "a whole number",
        "DOUBLE": "a number",
        "STRING": "a text",
        "MAP": "a map",
    }
    return words.get(name, {"LIST": "a list", "NULL": "null", "BYTES": "bytes"}.get(name, name.lower()))


def _translated(error: str, text: str, on: str) -> list[CelFault]:
    faults: list[CelFault] = []
    for match in _ERROR.finditer(error):
        line, column = int(match[1]), int(match[2])
        words = match[3].removesuffix(" [INVALID_ARGUMENT]")
        fault = _translate(line, column, words, text, on)
        # one slip in the grammar is often reported again at every token after it
        if not (
            fault.found.startswith("this is not CEL")
            and any(f.found.startswith("this is not") for f in faults)
        ):
            faults.append(fault)
    if not faults:
        faults.append(CelFault(1, 1, f"this is not CEL: {' '.join(error.split())[:200]}"))
    return faults


def _translate(line: int, column: int, words: str, text: str, on: str) -> CelFault:
    if words.startswith("Syntax error: "):
        said = words.removeprefix("Syntax error: ").split(" expecting ")[0]
        said = "it breaks off" if "'<EOF>'" in said else said
        return CelFault(line, column, f"this is not CEL: {said}")
    reference = re.match(r"undeclared reference to '([^']*)'", words)
    if reference:
        return _undeclared(line, _start(text, line, column, reference[1]), reference[1], on)
    member = re.match(r"undefined field '([^']*)' not found in struct 'gateway\.cel\.(\w+)'", words)
    if member:
        what = {"Prediction": "prediction", "Caller": "caller"}.get(member[2], "an input")
        names = VARIABLES.get(what, ("datatype", "shape"))
        found = f"{what} has no {member[1]}"
        return CelFault(line, column, found, listed(names), did_you_mean(member[1], names))
    overload = re.match(r"found no matching overload for '([^']*)' applied to '(.*)'", words)
    if overload:
        name = _OPERATORS.get(overload[1], overload[1].strip("_"))
        mixed = {"int", "double"} <= set(re.findall(r"\w+", overload[2]))
        mend = "write numbers beside a score with a point: 1.0" if mixed else ""
        return CelFault(line, column, f"{name} does not take {overload[2]}", "values of the same type", mend)
    return CelFault(line, column, words)


def _start(text: str, line: int, column: int, name: str) -> int:
    """The checker points at the last dot of a name: the start is what a reader looks for."""
    lines = text.split("\n")
    row = lines[line - 1] if line <= len(lines) else ""
    at = row.rfind(name, 0, column - 1 + len(name))
    return at + 1 if at >= 0 and at < column else column


def _undeclared(line: int, column: int, name: str, on: str) -> CelFault:
    head = name.split(".")[0]
    known = ["request", "metadata", "caller", "segment", "lists", "route", "session", "stats"] + (
        ["prediction", "backend"] if on == "prediction" else []
    )
    found = f"there is no {name}"
    if head in ("prediction", "backend") and on == "request":
        return CelFault(
            line, column, f"{name} is not known before the backend is called", mend="write on: prediction"
        )
    if head in ("request", "session", "stats"):
        fields = VARIABLES[head]
        member = name.split(".")[1] if "." in name else ""
        wanted = listed((f"{head}.{field}" for field in fields), 20)
        guess = nearest(member, fields)
        return CelFault(line, column, found, wanted, f"did you mean {head}.{guess}?" if guess else "")
    if head in ("now", "rand", "random", "uuid"):
        return CelFault(
            line, column, found, "no clock and no randomness: a rule says the same for the same call"
        )
    return CelFault(line, column, found, listed(known), did_you_mean(head, known))
