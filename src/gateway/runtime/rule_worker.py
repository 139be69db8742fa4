"""A process that judges rules in Python: run by path, alone, with nothing of the gateway in it.

What misbehaves (spins, holds the interpreter's lock, crashes, grows) does it here, where it can be ended and takes
nobody else's time. Only the standard library is imported, so that a worker is as small as Python itself.

Frames in both directions: four bytes of length, big-endian, then that many bytes.

    in   first   {"folder": .., "functions": {"module:function": number of arguments}}
    out  first   {"module:function": [kind, words, names that there are], ..}: what could not be loaded
    in   then    module:function NEWLINE seconds NEWLINE arguments as JSON
    out  then    {"holds": true, false or a list of them} or {"failed": what, "where": file:line}
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

NICE: Final = 5
"""A rule never takes a processor from calls that do not wait for it."""

PR_SET_PDEATHSIG: Final = 1

Function = Callable[..., Any]
Fault = tuple[str, str, list[str]]


class Late(BaseException):
    """The time of a function is up; not an Exception, so that few functions swallow it."""


class Alarm:
    """Ends what takes too long, where it runs in Python."""

    armed = False

    def ring(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        if self.armed:
            self.armed = False
            raise Late

    def call(self, function: Function, arguments: list[Any], timeout_s: float) -> Any:
        """Raises: Late, or what the function raises."""
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, max(timeout_s, 0.001))
        try:
            return function(*arguments)
        finally:
            self.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def main() -> None:
    """Serve on the socket whose number is the first argument, until the other end closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which ends its workers itself
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    alarm = Alarm()
    signal.signal(signal.SIGALRM, alarm.ring)
    if sys.platform == "linux":
        # A worker that spins reads no end of file: it goes when its gateway does, however that ends.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(NICE)
    with socket.socket(fileno=int(sys.argv[1])) as stream:
        first = receive(stream)
        if first is None:
            return
        wanted = json.loads(first)
        sys.path.insert(0, wanted["folder"])
        functions: dict[str, Function] = {}
        faults: dict[str, Fault] = {}
        for name, arguments in wanted["functions"].items():
            loaded = load(name, arguments)
            if isinstance(loaded, tuple):
                faults[name] = loaded
            else:
                functions[name] = loaded
        send(stream, faults)
        while (frame := receive(stream)) is not None:
            name, timeout_s, values = frame.split(b"\n", 2)
            send(stream, judge(alarm, functions.get(name.decode()), float(timeout_s), values))


def load(name: str, arguments: int) -> Function | Fault:
    """The function, or why there is none."""
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            return "module", error.name, []
        return "import", f"{type(error).__name__}: {error}{place(error)}", []
    except BaseException as error:
        return "import", f"{type(error).__name__}: {error}{place(error)}", []
    function: Any = getattr(module, function_name, None)
    if function is None:
        return "function", function_name, sorted(key for key in vars(module) if not key.startswith("_"))
    if not callable(function):
        return "callable", type(function).__name__, []
    made: Function = function
    if inspect.iscoroutinefunction(made):
        return "async", function_name, []
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):
        return made  # some written in C do not tell
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return "signature", str(signature), []
    return made


def judge(alarm: Alarm, function: Function | None, timeout_s: float, values: bytes) -> dict[str, Any]:
    """What the function says."""
    if function is None:
        return {"failed": "not loaded", "where": ""}
    try:
        asked = json.loads(values)
        arguments = [asked[key] for key in ("request", "segment", "predictions") if key in asked]
        said = alarm.call(function, arguments, timeout_s)
    except Late:
        return {"failed": "late", "where": ""}
    except BaseException as error:
        return {"failed": type(error).__name__, "where": place(error).removeprefix(" at ")}
    if hasattr(said, "tolist"):
        said = said.tolist()  # numpy's
    rows = isinstance(said, (list, tuple)) and all(isinstance(row, bool) for row in said)
    if not isinstance(said, bool) and not rows:
        return {
            "failed": f"it returned {type(said).__name__}, wanted true or false, or a list of them",
            "where": "",
        }
    return {"holds": said}


def place(error: BaseException) -> str:
    """Where an error comes from: never what it says, as that may hold what the caller sent."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {Path(error.filename).name}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    frames = [frame for frame in frames if "importlib" not in frame.filename]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def receive(stream: socket.socket) -> bytes | None:
    """The next frame; None at the end."""
    head = exactly(stream, 4)
    return None if head is None else exactly(stream, struct.unpack(">I", head)[0])


def exactly(stream: socket.socket, count: int) -> bytes | None:
    parts = []
    while count:
        part = stream.recv(min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def send(stream: socket.socket, said: object) -> None:
    """One frame."""
    body = json.dumps(said).encode()
    stream.sendall(struct.pack(">I", len(body)) + body)


if __name__ == "__main__":
    main()
