"""A control plane of its own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.control_plane import Plane, running


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with running(tmp_path) as started:
        yield started
