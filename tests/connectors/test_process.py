"""The gateway as a process beside a real Label Studio: polling, webhooks, restarts and an outage; and by hand."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from gateway.connectors.label_studio import config_xml
from tests.connectors.door import Door
from tests.connectors.label_studio_server import ANNOTATOR, OWNER, LabelStudioProcess
from tests.connectors.syncing import ids, new_project
from tests.wire.clients import INFER, request, rows
from tests.wire.gateway_process import GatewayProcess, run_gateway, until
from tests.wire.servers import ScriptedServer, scores

pytestmark = pytest.mark.timeout(600)
SECRET = "a-secret-of-some-length"


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        server.reset(scores(0.97))
        yield server


def settings(model: ScriptedServer, **label_studio: Any) -> dict[str, Any]:
    return {
        "backends": {"spam-v3": {"grpc": model.address}},
        "routes": {
            "spam": {
                "chain": ["spam-v3"],
                "prediction": {"scores": "probabilities", "classes": ["ham", "spam"], "positive": "spam"},
                "review": {"queue": "moderation", "share": 1.0, "capture": ["inputs"]},
            }
        },
        **({"label_studio": label_studio} if label_studio else {}),
    }


def call(process: GatewayProcess, count: int) -> None:
    with grpc.insecure_channel(process.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        infer = channel.unary_unary(
            INFER, pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        for _ in range(count):
            infer(request("spam", rows()), timeout=20)


def labels(process: GatewayProcess) -> list[Any]:
    query = "SELECT label, author, revision, review_pi FROM labels WHERE source = 'review' ORDER BY id"
    with closing(sqlite3.connect(process.state_dir / "ledger.db")) as connection:
        return connection.execute(query).fetchall()


def lie_there(studio: LabelStudioProcess, project: int, count: int) -> list[int]:
    def look() -> list[int] | None:
        found = ids(studio, project)
        assert len(found) <= count, "something was sent twice"
        return found if len(found) == count else None

    return until(look, f"{count} tasks in Label Studio", timeout_s=60, every_s=0.5)


def labelled(process: GatewayProcess, count: int, within_s: float = 60) -> list[Any]:
    return until(
        lambda: found if len(found := labels(process)) >= count else None,
        f"{count} labels",
        timeout_s=within_s,
        every_s=0.2,
    )


def test_a_gateway_sends_polls_restarts_and_outlives_an_outage(
    studio: LabelStudioProcess, model: ScriptedServer, tmp_path: Path
) -> None:
    """Nothing is sent twice or counted twice, whatever is away for a while; and the numbers are there to see."""
    project = new_project(studio)
    door = Door(int(studio.url.rpartition(":")[2]))
    told = settings(
        model,
        url=f"http://127.0.0.1:{door.port}",
        token=studio.tokens[OWNER],
        queues={"moderation": {"project": project}},
        every_s=1,
    )
    door.open()
    process = GatewayProcess(tmp_path, told)
    with process:
        call(process, 3)
        first, second, third = lie_there(studio, project, 3)
        studio.annotate(first, "spam")
        assert labelled(process, 1) == [("spam", ANNOTATOR, 1, 1.0)]

        door.shut()
        call(process, 1)
        studio.annotate(second, "ham")
        until(
            lambda: "tried again in 1 s" in process.logged() or None, "a line about the outage", timeout_s=60
        )
        assert process.get("/readyz")[0] == 200, "an outage there is none here"
        process.kill()
    with process:  # it starts while Label Studio is away
        call(process, 1)
        assert len(labels(process)) == 1
        door.open()
        assert labelled(process, 2)[1] == ("ham", ANNOTATOR, 1, 1.0)
        lie_there(studio, project, 5)
        studio.annotate(third, "spam", user=OWNER)
        assert labelled(process, 3)[2] == ("spam", OWNER, 1, 1.0)
        assert process.stop() == 0
    with process:  # and once more, with nothing new
        until(
            lambda: (
                'gateway_label_tool_open{queue="moderation",tool="label-studio"} 2'
                in process.get("/metrics")[1]
                or None
            ),
            "two open tasks in the metrics",
            timeout_s=60,
        )
        text = process.get("/metrics")[1]
        assert 'gateway_label_tool_requests_total{result="ok",tool="label-studio"}' in text
        assert 'gateway_label_tool_age_seconds{queue="moderation",tool="label-studio"}' in text
        assert len(labels(process)) == 3
    lie_there(studio, project, 5)
    door.shut()


def test_a_webhook_brings_answers_at_once_and_proves_who_it_is(
    studio: LabelStudioProcess, model: ScriptedServer, tmp_path: Path
) -> None:
    """With an hour between two rounds only the webhook can have told; what it says is read at Label Studio."""
    project = new_project(studio)
    told = settings(
        model,
        url=studio.url,
        token=studio.tokens[OWNER],
        queues={"moderation": {"project": project}},
        every_s=3600,
        webhook_secret=SECRET,
    )
    with GatewayProcess(tmp_path, told) as process:
        until(lambda: ids(studio, project) == [] or None, "the project")
        call(process, 2)
        hook = f"http://{process.admin}/label-studio"

        def post(body: bytes, secret: str = SECRET) -> int:
            asked = urllib.request.Request(hook, body, {"gateway-webhook-secret": secret})
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        assert post(b"{}", "another-secret-of-some-length") == 403
        assert post(b"{}", "") == 403
        assert post(b"{nothing") == 400
        assert post(b"[1]") == 400
        # One that names nothing makes all be looked at: that sends what waits.
        until(
            lambda: (post(b'{"action": "X"}') == 202 and len(ids(studio, project)) == 2) or None,
            "tasks",
            every_s=1,
            timeout_s=60,
        )
        first, second = ids(studio, project)
        made = {
            "project": project,
            "url": hook,
            "send_payload": True,
            "send_for_all_actions": False,
            "actions": ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"],
            "headers": {"gateway-webhook-secret": SECRET},
        }
        studio.call("POST", "/api/webhooks/", made)
        # A forged body with the right secret names an annotation that says otherwise there, or is none.
        forged = {
            "action": "ANNOTATION_CREATED",
            "annotation": {"id": 10**6, "result": []},
            "task": {"id": second},
        }
        assert post(json.dumps(forged).encode()) == 202
        annotation = studio.annotate(first, "spam")
        assert labelled(process, 1) == [("spam", ANNOTATOR, 1, 1.0)]
        result = [
            {"from_name": "label", "to_name": "request", "type": "choices", "value": {"choices": ["ham"]}}
        ]
        studio.call("PATCH", f"/api/annotations/{annotation}/", {"result": result}, user=ANNOTATOR)
        assert labelled(process, 2)[1] == ("ham", ANNOTATOR, 2, 1.0)
        text = process.get("/metrics")[1]
        assert 'gateway_dropped_total{reason="secret",what="label_studio_webhook"} 2' in text
        assert (
            'gateway_label_tool_answers_total{queue="moderation",result="corrected",tool="label-studio"} 1'
            in text
        )


def test_by_hand_and_by_files(studio: LabelStudioProcess, model: ScriptedServer, tmp_path: Path) -> None:
    """A team that copies files: what is exported imports there, what is exported there imports here, once."""
    process = GatewayProcess(tmp_path, settings(model))
    with process:
        call(process, 3)
        until(lambda: process.get("/metrics")[1].count("gateway_review_open") or None, "tasks", timeout_s=30)
        process.stop()
    file = str(process.file)
    xml = run_gateway("label-studio", "config", file)
    assert (xml.returncode, xml.stdout) == (0, config_xml(["ham", "spam"]))
    exported = run_gateway("label-studio", "export", file, "--at-most", "2")
    assert exported.returncode == 0, exported.stderr
    tasks = json.loads(exported.stdout)
    assert len(tasks) == 2
    assert "0.97" not in exported.stdout
    assert json.loads(run_gateway("label-studio", "export", file, "--at-most", "2").stdout) == []
    project = studio.project(xml.stdout)
    studio.call("POST", f"/api/projects/{project}/import", tasks)
    first, second = ids(studio, project)
    studio.annotate(first, "spam")
    studio.annotate(second, None)
    answers = tmp_path / "export.json"
    answers.write_text(
        json.dumps(
            studio.call("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
        )
    )
    for wanted in ({"accepted": 1, "skipped": 1}, {"accepted": 0, "skipped": 0}):
        taken = run_gateway("label-studio", "import", file, "--answers", str(answers), "--json")
        assert taken.returncode == 0, taken.stderr
        assert json.loads(taken.stdout) == {
            "accepted": 0,
            "corrected": 0,
            "duplicate": 0,
            "skipped": 0,
            "refused": {},
            **wanted,
        }
    [(label, author, revision, _)] = labels(process)
    assert (label, revision) == ("spam", 1)
    assert author.startswith("label-studio user ")
    foreign = tmp_path / "foreign.json"
    foreign.write_text('[{"id": 1, "data": {"text": "x"}, "annotations": []}]')
    refused = run_gateway("label-studio", "import", file, "--answers", str(foreign))
    assert (refused.returncode, "refused: 1 not_ours" in refused.stdout) == (1, True)
    wrong = run_gateway("label-studio", "import", file, "--answers", str(process.file))
    assert (wrong.returncode, "is no JSON" in wrong.stderr) == (2, True)
    assert "no label_studio block" in run_gateway("label-studio", "sync", file).stderr

    # The rest goes by the API, by hand.
    process.write(
        settings(
            model, url=studio.url, token=studio.tokens[OWNER], queues={"moderation": {"project": project}}
        )
    )
    synced = run_gateway("label-studio", "sync", file)
    assert (synced.returncode, synced.stderr) == (0, "")
    # The one that was skipped is free again, so it is sent as well.
    assert "moderation: 2 sent, 2 lie there unanswered, 0 answers taken" in synced.stdout
    audit = run_gateway("audit", file, "--json")
    actions = {entry["action"] for entry in json.loads(audit.stdout)["entries"]}
    assert {"tool.export", "tool.import"} <= actions
