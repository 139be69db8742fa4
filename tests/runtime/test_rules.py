"""Rules in Python: what a function may do wrong, and that it is nobody else's affair."""

from __future__ import annotations

import json
import logging
import os
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.config import read_text
from gateway.runtime import RuleWorkers
from gateway.runtime.check import check
from gateway.runtime.rule_process import Ended, Hung, NotLoaded, RuleProcess, Verdict
from gateway.runtime.rules import asking, functions_of, rule_faults
from gateway.runtime.seldom import Seldom

MODULE = '''
import os, time

def long(request, segment):
    """Where a module may be, and what it sees."""
    return request["rows"] > 2

def rows(request, segment, predictions):
    return [one["score"] > 0.5 for one in predictions]

def sleeps(request, segment):
    time.sleep(60)

def spins(request, segment):
    while True:
        pass

def stubborn(request, segment):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

def raises(request, segment):
    raise ValueError("the caller's secret")

def exits(request, segment):
    raise SystemExit(3)

def crashes(request, segment):
    os.kill(os.getpid(), 11)

def says(request, segment):
    return "yes"

def prints(request, segment):
    print("to the log")
    return True

class Callable:
    def __call__(self, request, segment):
        return True

made = Callable()
number = 5
async def later(request, segment):
    return True
def one(request):
    return True
'''

VALUES = json.dumps({"request": {"rows": 3}, "segment": {}}).encode()
NAMES = ("long", "sleeps", "spins", "stubborn", "raises", "exits", "crashes", "says", "prints", "made")
FUNCTIONS = {f"odd_rules:{name}": 2 for name in NAMES} | {"odd_rules:rows": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "odd_rules.py").write_text(MODULE)
    return tmp_path


class Answers:
    """Takes replies as the desk does."""

    def __init__(self) -> None:
        self.said: queue.Queue[tuple[int, Verdict]] = queue.Queue()

    def __call__(self, question: int, verdict: Verdict) -> bool:
        self.said.put((question, verdict))
        return True

    def next(self) -> tuple[int, Verdict]:
        return self.said.get(timeout=20)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def workers(folder: Path, answers: Answers) -> Iterator[RuleWorkers]:
    made = RuleWorkers(folder, FUNCTIONS, 1, answers)
    yield made
    made.close()
    made.join(10)


def question(number: int, name: str, timeout_s: float = 5.0, values: bytes = VALUES) -> dict[str, object]:
    return {"question": number, "function": f"odd_rules:{name}", "values": values, "timeout_s": timeout_s}


def test_a_function_says_whether_its_rule_holds(workers: RuleWorkers, answers: Answers) -> None:
    """For the call, or row by row; anything that can be called will do."""
    for number, name in enumerate(("long", "made", "prints")):
        workers.ask(question(number, name))
        assert answers.next() == (number, True)
    values = json.dumps({"request": {}, "segment": {}, "predictions": [{"score": 0.9}, {"score": 0.1}]})
    workers.ask(question(9, "rows", values=values.encode()))
    assert answers.next() == (9, [True, False])


@pytest.mark.parametrize("name", ["raises", "exits", "crashes", "says", "nowhere"])
def test_a_function_without_an_answer_is_told_at_once_and_the_next_is_served(
    workers: RuleWorkers, answers: Answers, name: str
) -> None:
    """Also where the process is gone with it."""
    workers.ask(question(1, name))
    workers.ask(question(2, "long"))
    assert sorted([answers.next(), answers.next()], key=lambda one: one[0]) == [(1, None), (2, True)]


@pytest.mark.parametrize("name", ["sleeps", "spins", "stubborn"])
def test_a_function_that_does_not_come_back_does_not_keep_the_next_from_its_turn(
    workers: RuleWorkers, answers: Answers, name: str
) -> None:
    """Sleeping and spinning end by an alarm within the process; what swallows that ends with the process."""
    workers.ask(question(1, name, timeout_s=0.05))
    workers.ask(question(2, "long", timeout_s=10))
    assert answers.next() == (2, True), "of the late one nothing is said: its call has gone on"
    assert workers.ended == (1 if name == "stubborn" else 0)


def test_what_is_withdrawn_or_too_old_is_not_asked(workers: RuleWorkers, answers: Answers) -> None:
    """A queue of the dead would make the living late."""
    workers.ask(question(1, "sleeps", timeout_s=0.2))
    workers.ask(question(2, "raises", timeout_s=5))
    workers.ask(question(3, "raises", timeout_s=0.05))
    workers.withdraw([2])
    workers.ask(question(4, "long"))
    assert answers.next() == (4, True)


def test_the_log_tells_what_went_wrong_seldom_and_nothing_of_the_call(
    workers: RuleWorkers, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    """A rule that fails for every call must not write a line for every call, nor what a caller sent."""
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            workers.ask(question(number, "raises"))
            answers.next()
        workers.ask(question(99, "long"))
        answers.next()
    lines = [record.getMessage() for record in caplog.records if "odd_rules" in record.getMessage()]
    assert lines == ["rule in Python odd_rules:raises ValueError at odd_rules.py:27"]
    assert "secret" not in caplog.text


def test_seldom_counts_what_it_keeps_to_itself() -> None:
    """The next line says how often."""
    now = 0.0
    seldom = Seldom(lambda: now)
    assert [seldom.due("f", "late"), seldom.due("f", "late"), seldom.due("g", "late")] == [1, None, 1]
    now = 10.0
    assert seldom.due("f", "late") == 2


def test_a_worker_is_gone_when_its_gateway_is(folder: Path) -> None:
    """A function that spins reads no end of file."""
    process = RuleProcess(folder, FUNCTIONS)
    with pytest.raises(Hung):
        process.ask("odd_rules:stubborn", VALUES, 0.01)
    process.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
    with pytest.raises(Ended):
        process.ask("odd_rules:long", VALUES, 0.01)


SETTINGS = """\
backends:
  ham: {{answer: {{label: ham, score: 0.0}}}}
routes:
  spam:
    chain: [ham]
    prediction: {{scores: probabilities, classes: [ham, spam], positive: spam}}
    rules:
      - {{name: odd, on: {on}, python: "{python}", otherwise: false, then: next}}
"""


def faults(folder: Path, python: str, on: str = "request") -> list[str]:
    file = folder / "gateway.yaml"
    file.write_text(SETTINGS.format(python=python, on=on))
    loaded = check(file, machine=False)
    return [str(fault).removeprefix(f"{file}:") for fault in loaded.faults]


@pytest.mark.parametrize(
    ("python", "on", "words"),
    [
        ("odd_ruls:long", "request", "there is no module odd_ruls; wanted a module in {folder}, or one"),
        ("odd_rules:lonk", "request", "odd_rules has no lonk; wanted "),
        ("odd_rules:lonk", "request", "did you mean long?"),
        (
            "odd_rules:number",
            "request",
            "is no function but of type int; wanted def number(request, segment)",
        ),
        ("odd_rules:later", "request", "is async"),
        ("odd_rules:one", "request", "odd_rules:one takes (request); wanted (request, segment)"),
        ("odd_rules:long", "prediction", "takes (request, segment); wanted (request, segment, predictions)"),
        (
            "faulty:long",
            "request",
            "faulty cannot be imported: ZeroDivisionError: division by zero at faulty.py:2",
        ),
        ("broken:long", "request", "broken cannot be imported: SyntaxError"),
        ("ends:long", "request", "ends cannot be imported: SystemExit"),
        ("dies:long", "request", "the modules cannot be imported: the process that imports them ends"),
        ("rules", "request", "names no function; wanted package.module:function"),
    ],
)
def test_what_cannot_be_loaded_is_a_fault_with_its_line(
    folder: Path, python: str, on: str, words: str
) -> None:
    """Before a call meets it."""
    (folder / "faulty.py").write_text("\n1 / 0\n")
    (folder / "broken.py").write_text("def (\n")
    (folder / "ends.py").write_text("raise SystemExit\n")
    (folder / "dies.py").write_text("import os\nos._exit(1)\n")
    [fault] = faults(folder, python, on)
    assert fault.startswith("8:"), fault
    assert words.format(folder=folder) in fault


def test_a_good_function_is_no_fault_and_the_check_can_leave_code_alone(folder: Path) -> None:
    """`gateway check --offline` looks at the file: it runs nothing that the file names."""
    assert faults(folder, "odd_rules:long") == []
    (folder / "touches.py").write_text(
        f"open({str(folder / 'touched')!r}, 'w').close()\ndef f(r, s): return True\n"
    )
    file = folder / "gateway.yaml"
    file.write_text(SETTINGS.format(python="touches:f", on="request"))
    assert check(file, machine=False, code=False).faults == []
    assert not (folder / "touched").exists()
    assert check(file, machine=False).faults == []
    assert (folder / "touched").exists()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ('{python: "a:b", then: next}', "python without otherwise"),
        ("{when: 'true', otherwise: true, then: next}", "otherwise without python"),
        ("{when: 'true', timeout_ms: 5, then: next}", "timeout_ms without python"),
        ("{then: next}", "neither when nor python"),
        ('{python: "a:b", otherwise: {answer: hamm}, then: next}', 'there is no backend "hamm"'),
    ],
)
def test_a_rule_in_python_states_what_counts_without_it(rule: str, words: str) -> None:
    """A safety net is said, not guessed."""
    text = SETTINGS.format(python="a:b", on="request").rsplit("      - ", 1)[0] + f"      - {rule}\n"
    assert words in "\n".join(map(str, read_text(text, env={}).faults))


def test_explain_asks_the_function(folder: Path) -> None:
    """What is explained is what would happen."""
    (folder / "gateway.yaml").write_text(SETTINGS.format(python="odd_rules:long", on="request"))
    settings = check(folder / "gateway.yaml", machine=False).settings
    assert settings is not None
    assert functions_of(settings) == {"odd_rules:long": 2}
    assert rule_faults(settings, folder) == []
    with asking(settings, folder) as ask:
        assert ask is not None
        assert ask("odd_rules:long", VALUES, 5.0) is True


def test_nothing_runs_where_no_rule_is_in_python(folder: Path, answers: Answers) -> None:
    """The feature costs those who use it."""
    nothing = RuleWorkers(folder, {}, 2, answers)
    nothing.close()
    nothing.join(1)
    with pytest.raises(NotLoaded):
        RuleWorkers(folder, {"odd_rules:gone": 2}, 2, answers)


def test_a_worker_costs_little(folder: Path) -> None:
    """An answer takes well under a millisecond; the bound is for a busy machine."""
    process = RuleProcess(folder, FUNCTIONS)
    try:
        took: list[float] = []
        clock: Callable[[], float] = time.perf_counter
        for _ in range(200):
            begun = clock()
            process.ask("odd_rules:long", VALUES, 5.0)
            took.append(clock() - begun)
    finally:
        process.close()
    assert sorted(took)[len(took) // 2] < 0.02
