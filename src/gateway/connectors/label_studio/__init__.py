"""Label Studio: review tasks go out, annotations come back as labels. docs/label-studio.md is the user's side of it.

In: tasks of the queues that the settings name, leased. Out: labels with their annotator's name. Never: counts an answer
twice, sends a task twice, or holds one that nobody can see there.
"""

from gateway.connectors.label_studio.answers import HOLDER
from gateway.connectors.label_studio.api import Api
from gateway.connectors.label_studio.files import export_tasks, import_answers
from gateway.connectors.label_studio.payload import config_xml
from gateway.connectors.label_studio.runner import Runner
from gateway.connectors.label_studio.sync import Round, Sync

__all__ = ["HOLDER", "Api", "Round", "Runner", "Sync", "config_xml", "export_tasks", "import_answers"]
