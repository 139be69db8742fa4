"""Whatever the file holds, what comes out is settings or faults."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gateway.config import load, read, read_text
from gateway.config.load import Loaded
from gateway.errors import SettingsError
from tests.config.examples import EVERYTHING, TEN_LINES

RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = sorted(set(EVERYTHING.replace(":", " ").replace(",", " ").split()))

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**40),
    st.floats(),
    st.sampled_from([*WORDS, "${X}", "${X:-1}", "file:x", "10%", "*", "&a", "<<"]),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


def outcome(text: str) -> Loaded:
    loaded = read_text(text, name="g.yaml", folder=Path("/nowhere"), env={})
    assert (loaded.settings is None) == bool(loaded.faults)
    for fault in loaded.faults:
        assert str(fault).startswith("g.yaml")
        assert "\n" not in str(fault)
        assert fault.line is None or 1 <= fault.line <= text.count("\n") + len(text.splitlines()) + 2
    return loaded


def paths(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at] * bool(at) + [path for key, value in inside for path in paths(value, (*at, key))]


@RELAXED
@given(st.text(max_size=200))
def test_any_text_is_settings_or_faults(text: str) -> None:
    """No text makes anything but faults in words."""
    outcome(text)


@RELAXED
@given(st.binary(max_size=200))
def test_any_bytes_are_settings_or_faults(tmp_path_factory: Any, held: bytes) -> None:
    """Nor do bytes that are no text."""
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(held)
    faults: list[object] = []
    try:
        load(file, env={})
    except SettingsError as error:
        faults = error.faults
    assert bool(faults) == (read(file, env={}).settings is None)


@RELAXED
@given(st.integers(0, 2**32), values)
def test_any_value_anywhere_is_settings_or_faults(seed: int, value: Any) -> None:
    """A good file with anything in the place of anything, which gets further into the checks than random text."""
    tree = YAML(typ="safe", pure=True).load(EVERYTHING)
    path = random.Random(seed).choice(paths(tree))
    around = tree
    for part in path[:-1]:
        around = around[part]
    around[path[-1]] = value
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(tree, stream)
    outcome(stream.getvalue())


@RELAXED
@given(st.integers(0, len(EVERYTHING)), st.integers(0, 6), st.text(max_size=4))
def test_any_slip_of_the_hand_is_settings_or_faults(start: int, gone: int, put: str) -> None:
    """Some characters taken out of a good file and some put in."""
    outcome(EVERYTHING[:start] + put + EVERYTHING[start + gone :])


@RELAXED
@given(st.text(max_size=30))
def test_any_override_is_settings_or_faults(override: str) -> None:
    """`--set` with anything behind it."""
    loaded = read_text(TEN_LINES, overrides=[override], env={})
    assert (loaded.settings is None) == bool(loaded.faults)
