"""The names that settings refer to each other by, faulty parts included, so that one fault is not told as two."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.config.faults import Path, did_you_mean, listed, quoted
from gateway.config.settings import Settings
from gateway.config.source import Source

__all__ = ["Names", "Report", "check_segments"]

Report = Callable[..., None]


class Names:
    """The backends and segments that there are, faulty ones too."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self.settings, self._source = settings, source
        self.every = sorted({*settings.backends, *source.block("backends")})
        self.segments = sorted({*settings.identity.segments, *source.block("identity", "segments")})

    def written(self, path: Path) -> bool:
        """Whether the file has something there, be it faulty: then its absence is no further fault."""
        return path in self._source.places

    def models(self) -> str:
        """The models, for a reader."""
        return listed(name for name, backend in self.settings.backends.items() if backend.model_server)

    def others(self) -> str:
        """The static answers and people, for a reader."""
        return listed(name for name, backend in self.settings.backends.items() if not backend.model_server)

    def check(self, path: Path, name: str | None, report: Report, kind: str = "") -> bool:
        """Report a name that no backend has, or that is of the wrong kind; True if it is good."""
        if name is None:
            return False
        if name not in self.every:
            if not self.every:
                report(
                    path,
                    f"there is no backend {quoted(name)}",
                    "one that stands under backends:",
                    "none stands there",
                )
            else:
                report(
                    path,
                    f"there is no backend {quoted(name)}",
                    listed(self.every),
                    did_you_mean(name, self.every),
                )
            return False
        backend = self.settings.backends.get(name)
        if backend is None:
            return False
        if kind == "model" and not backend.model_server:
            what = "is a static answer" if backend.static else "are people"
            report(path, f"{name} {what}", self.models() or "a backend with grpc")
            return False
        return True


def check_segments(path: Path, keys: Iterable[str], names: Names, report: Report) -> None:
    """Report each key that is not `<segment>=<value>` of a segment that there is."""
    known = names.segments
    for text in keys:
        name, equals, _ = text.partition("=")
        if not equals or name not in known:
            found = f"there is no segment {quoted(name)}" if equals else f"{quoted(text)} names no value"
            wanted = (
                listed(f"{segment}=<value>" for segment in known)
                or "a segment that stands under identity.segments:"
            )
            report((*path, text), found, wanted, did_you_mean(name, known), key=True)
