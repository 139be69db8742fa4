"""`gateway schema`: the settings as JSON schema, for editors."""

from __future__ import annotations

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON schema of the settings file, for completion and checks in an editor.

    Save it beside the file and put `# yaml-language-server: $schema=gateway.schema.json` in its first line.
    """
    from gateway.cli.printing import print_json
    from gateway.config import json_schema

    print_json(json_schema())
