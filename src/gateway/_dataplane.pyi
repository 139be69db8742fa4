"""The data plane, as Rust built it (`src/dataplane`): decides and forwards every call, without Python on the way."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from numpy import generic
from numpy.typing import NDArray

__version__: str

OUTCOMES: tuple[str, ...]
"""Names of `gateway.types.Outcome`, by number."""

REASONS: tuple[str, ...]
"""Names of `gateway.types.Reason`, by number."""

STRATA: tuple[str, ...]
"""Names of `gateway.types.Stratum`, by number."""

class PolicyError(Exception):
    """A policy document at fault. `args[0]` is a list of dicts, one per fault:

    path (list of keys and indexes), message, line and column (within a CEL text, or None).
    """

class ReceiptError(Exception):
    """A receipt that does not hold. `args` is (kind, message); kind is `malformed`, `foreign` or `forged`."""

class _Capture(TypedDict):
    id: bytes
    rows: list[int]
    route: str
    queue: str
    request: bytes
    answer: bytes
    policy: int
    time_us: int

class _Batch(TypedDict):
    records: dict[str, NDArray[generic]]
    attempts: dict[str, NDArray[generic]]
    mirrors: dict[str, NDArray[generic]]
    raises: dict[str, NDArray[generic]]
    strings: list[str]
    captures: list[_Capture]

class _Question(TypedDict, total=False):
    question: int
    kind: Literal["rule", "people"]
    function: str
    timeout_s: float
    values: bytes
    backend: str
    queue: str
    route: str
    id: bytes
    rows: list[int]
    segment: str
    unit: int
    policy: int
    time_us: int
    until_us: int
    request: bytes

_Ask = Callable[[str, bytes, float], bool | list[bool] | None]

class Policy:
    """A compiled policy document: immutable, and cheap to share.

    Raises: PolicyError, with every fault of the document.
    """

    def __init__(self, document: str) -> None: ...
    @property
    def version(self) -> int: ...
    def explain(self, call: str, ask: _Ask | None = None) -> str:
        """What would happen to a call that is only thought of.

        Args:
            call: JSON: model, method, metadata, params, rows, id; answers by backend and `answer` of all others, each
                one of score, scores, label, value (with confidence), error (a gRPC status), timeout.
            ask: judges rules in Python: function, arguments as JSON and seconds -> whether it holds, per row or for
                all, or None. Without it they get no answer. What it raises is raised.
        Returns: JSON: `steps` (each with `step` and `text`) and `decision`.
        Raises: ValueError, if the call is not what it should be.
        """

    def decide(
        self,
        request: bytes,
        metadata: list[tuple[str, str]],
        answers: dict[str, bytes],
        decision_id: bytes = ...,
    ) -> str:
        """The decision on a real `ModelInferRequest` and real answers by backend, as JSON.

        A backend without an answer is unavailable. The review sample goes by `decision_id` (16 bytes).

        Raises: ValueError, if the request cannot be read or has no route.
        """

    def bench(
        self, part: str, request: bytes, metadata: list[tuple[str, str]], answer: bytes, times: int
    ) -> None:
        """Run one part of a decision `times` over: `match`, `read`, `rules` or `decide`.

        Raises: ValueError, if the part is unknown or the messages cannot be read.
        """

class Dataplane:
    """Forwards calls on threads of its own, from `start` to `shutdown`.

    Args:
        options: JSON: inference (address), workers, control_socket (path or null), ring_rows, capture_bytes;
            tls (null or paths cert, key, client_ca); listening (limits of the listener, those absent as by default).
        policy: what the first calls see.
    Raises: ValueError, if the options or the listener's certificates are at fault; PolicyError, if a backend's are.
    """

    def __init__(self, options: str, policy: Policy) -> None: ...
    def start(self) -> dict[str, str]:
        """Bind and serve. Returns the addresses really bound: `{"inference": "127.0.0.1:43211"}`.

        Raises: OSError, with the address in its text; RuntimeError when started before, or after a fork.
        """

    def publish(self, policy: Policy) -> None:
        """Calls that begin from now on see this policy; those under way keep theirs.

        Raises: PolicyError, if a backend's certificates cannot be used; then the old policy stays.
        """

    def reload_certificates(self) -> dict[str, list[Any]]:
        """Read the files of certificates, keys and trust again; connections that stand go on.

        Returns: `taken` (places such as `["backends", "spam-v3", "tls"]` whose files changed and are used for new
            connections) and `faults` (dicts of place, setting, file, found, mend): there the old stays in use.
        """

    def certificates(self) -> list[dict[str, Any]]:
        """The certificates in use: place, setting, file, not_before, not_after (unix seconds), names."""

    def drain(self, timeout_ms: int) -> _Batch | None:
        """Wait for rows, up to `timeout_ms`, without the GIL. None when none came."""

    def questions(self, timeout_ms: int) -> tuple[list[_Question], list[int]]:
        """Wait for questions of calls, up to `timeout_ms`, without the GIL.

        Returns: those that were asked (`kind` `rule`: function, timeout_s, values; `people`: the rest), and the
            numbers of those taken before that nobody waits for any more.
        """

    def reply(self, question: int, reply: bool | list[bool] | list[str] | None) -> bool:
        """Answer a question: whether a rule holds, for all or per row; labels per row; None where there is no answer.

        False where nobody waits for it any more.
        """

    def counters(self) -> dict[str, int]:
        """What was counted since the start (`dropped.<what>.<reason>`), and what is under way (`in_flight`)."""

    def health(self) -> dict[str, bool]:
        """By the names of routes, and of the models that they match: whether a call could be answered now.

        A static answer always could; a model server where its circuit would let a call through and some worker
        reaches it, or none has tried.
        """

    def set_serving(self, serving: bool) -> None:
        """Whether `ServerReady` says yes where no backend answers it."""

    def shutdown(self, grace_ms: int) -> None:
        """Take no new calls, let those under way finish for `grace_ms`, then stop. May be called again."""

def verify_receipt(receipt: str, keys: Sequence[bytes]) -> dict[str, Any]:
    """The fields of a receipt that one of the keys signed. Raises: ReceiptError."""

def sign_receipt(fields: Mapping[str, Any], key: bytes) -> str:
    """The receipt of these fields, in the form that `verify_receipt` gives them."""

def check_certificates(side: str, files: str) -> dict[str, list[dict[str, Any]]]:
    """What is wrong with certificates before they are used.

    Args:
        side: `listen` (cert, key, client_ca) or `backend` (ca, cert, key, server_name; no ca: the system's).
        files: paths, as JSON; all keys, null where none is named.
    Returns: `faults` and `warnings` (setting, file, found, mend), and `certificates` (as `Dataplane.certificates`).
    Raises: ValueError, if side or files are not what they should be.
    """
