"""A settings file becomes checked settings.

In: one YAML file, `--set` values, the environment. Out: a frozen tree of blocks named as in the file, or every fault of
it at once, each with its line, what was wanted and the mend. Never: half of a faulty file, a setting that is read and
not obeyed, or a look beyond the file, what it refers to and the environment.

    settings, routes, sampling,  what may stand in the file, and every default
    predictions, backends,
    fields
    source, expand, overrides    text -> plain data with the place of each value
    files                        what `file:` refers to
    validate, schema, faults     plain data -> settings or faults in a user's words
    references, names, answers,  what refers to something else, and what contradicts
    sampling_checks, tls
    objective, costs, gates,     what quality is wanted, and what is done without it
    gate_checks
    expressions, excerpt         CEL, and where in the file a fault of it stands
    warnings                     what is allowed and probably not meant
"""

from __future__ import annotations

from gateway.config.backends import Backend
from gateway.config.faults import Fault
from gateway.config.load import Loaded, load, read, read_text
from gateway.config.routes import Route
from gateway.config.schema import json_schema
from gateway.config.settings import Settings
from gateway.errors import SettingsError

__all__ = [
    "Backend",
    "Fault",
    "Loaded",
    "Route",
    "Settings",
    "SettingsError",
    "json_schema",
    "load",
    "read",
    "read_text",
]
