"""Review tasks in a real Label Studio: each goes there once, each answer counts once, whatever fails in between."""

from __future__ import annotations

import pytest

from gateway.connectors.label_studio import HOLDER, config_xml
from gateway.errors import LabelToolError
from gateway.ledger import Lease, Ledger, NothingForYou, RouteClasses, truth_of
from gateway.ledger.review import QueueRule, ReviewRules
from tests.connectors.label_studio_server import ANNOTATOR, OWNER, LabelStudioProcess, chosen
from tests.connectors.syncing import QUEUE, fill, ids, labels, new_project, syncing, texts
from tests.ledger.making import CLASSES, Clock

pytestmark = pytest.mark.timeout(
    400
)  # the first one makes the environment and waits for Label Studio to start


def test_tasks_go_out_once_and_answers_come_back_once(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """The whole way: what annotators see, whose label it is, and that a second look changes nothing."""
    project = new_project(studio)
    fill(ledger, 3)
    with syncing(studio, ledger, clock, project) as sync:
        assert [sync.round(QUEUE).sent for _ in range(3)] == [3, 0, 0]
        assert sorted(texts(studio, project)) == ["mail 1", "mail 2", "mail 3"]
        first, second, third = ids(studio, project)
        studio.annotate(first, "spam")
        studio.annotate(second, "ham", user=OWNER)
        assert [sync.round(QUEUE).answers for _ in range(3)] == [2, 0, 0]
    assert sorted(labels(ledger)) == [
        ("ham", "review", OWNER, 1, 0.25),
        ("spam", "review", ANNOTATOR, 1, 0.25),
    ]
    [stats] = ledger.review_stats(QUEUE)
    assert (stats.open_tasks, stats.done) == (1, 2)
    assert third in ids(studio, project)


def test_annotators_are_not_told_what_the_model_said(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """Blind unless asked for; and how likely a prediction was to be chosen never leaves."""
    blind, shown = new_project(studio), new_project(studio)
    fill(ledger, 1)
    with syncing(studio, ledger, clock, blind) as sync:
        sync.round(QUEUE)
    [task] = studio.tasks(blind)
    assert sorted(task["data"]) == ["gateway", "request", "route", "row", "time"]
    assert task["predictions"] == []
    fill(ledger, 1)
    with syncing(studio, ledger, clock, shown, show_prediction=True) as sync:
        sync.round(QUEUE)
    [task] = studio.tasks(shown)
    assert task["predictions"][0]["result"] == [chosen("spam")]
    assert "0.25" not in str(task["data"])
    assert task["predictions"][0]["score"] is None


def test_a_task_there_is_nobody_elses_until_its_lease_runs_out(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """Console reviewers do not do the same work; when Label Studio is away for long, they do it."""
    project = new_project(studio)
    fill(ledger, 1)
    with syncing(studio, ledger, clock, project, hold_h=2) as sync:
        sync.round(QUEUE)
        assert ledger.lease(QUEUE, "bob", 60).result() == NothingForYou(1, clock() + 7_200_000_000)
        clock.pass_s(7_201)
        # Still nobody's: the same task is taken again, and not sent again.
        assert sync.round(QUEUE).sent == 0
        assert isinstance(ledger.lease(QUEUE, "bob", 60).result(), NothingForYou)
        clock.pass_s(7_201)
        taken = ledger.lease(QUEUE, "bob", 60).result()
        assert isinstance(taken, Lease)
        [task] = ids(studio, project)
        studio.annotate(task, "ham")
        assert sync.round(QUEUE).answers == 0
        ledger.submit_review(
            taken.task, taken.token, "bob", lambda route: truth_of(route, CLASSES, label="spam")
        ).result()
        sync.round(QUEUE)
        assert sync.counts[QUEUE, "dropped", "lease_lost"] == 1
    assert labels(ledger) == [("spam", "review", "bob", 1, 0.25)]


def test_what_others_answered_is_taken_away_there(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """Nobody should label what is labelled."""
    project = new_project(studio)
    fill(ledger, 1)
    with syncing(studio, ledger, clock, project, hold_h=1) as sync:
        sync.round(QUEUE)
        clock.pass_s(3_601)
        taken = ledger.lease(QUEUE, "bob", 60).result()
        assert isinstance(taken, Lease)
        assert sync.round(QUEUE).withdrawn == 0, "bob may give it back"
        ledger.submit_review(
            taken.task, taken.token, "bob", lambda route: truth_of(route, CLASSES, label="spam")
        ).result()
        assert sync.round(QUEUE).withdrawn == 1
    assert ids(studio, project) == []


def test_a_changed_annotation_corrects_and_a_skip_gives_back(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """The label of the same annotator, one revision further; a skipped task is for others."""
    project = new_project(studio)
    fill(ledger, 2)
    with syncing(studio, ledger, clock, project) as sync:
        sync.round(QUEUE)
        first, second = ids(studio, project)
        annotation = studio.annotate(first, "spam")
        studio.annotate(second, None)
        done = sync.round(QUEUE)
        assert (done.answers, done.given_back) == (1, 1)
        studio.call("PATCH", f"/api/annotations/{annotation}/", {"result": [chosen("ham")]}, user=OWNER)
        assert [sync.round(QUEUE).answers for _ in range(2)] == [1, 0]
        [stats] = ledger.review_stats(QUEUE)
        assert stats.skips == 1
        # Somebody else there does what the first one did not want to.
        studio.annotate(second, "spam", user=OWNER)
        assert sync.round(QUEUE).answers == 1
    assert labels(ledger) == [
        ("spam", "review", ANNOTATOR, 1, 0.25),
        ("ham", "review", ANNOTATOR, 2, 0.25),
        ("spam", "review", OWNER, 1, 0.25),
    ]


def test_a_deleted_annotation_is_taken_back(studio: LabelStudioProcess, ledger: Ledger, clock: Clock) -> None:
    """The task is open again, there as here; what its annotator says then counts, be it in a new annotation."""
    project = new_project(studio)
    fill(ledger, 2)
    with syncing(studio, ledger, clock, project) as sync:
        sync.round(QUEUE)
        first, second = ids(studio, project)
        made = [studio.annotate(task, "spam") for task in (first, second)]
        assert sync.round(QUEUE).answers == 2
        for annotation in made:
            studio.call("DELETE", f"/api/annotations/{annotation}/", user=OWNER)
        studio.annotate(second, "ham")
        assert [sync.round(QUEUE).answers for _ in range(2)] == [1, 0]
        assert sync.counts[QUEUE, "answer", "taken_back"] == 2
        assert ledger.reader.labelled().positive.tolist() == [False]
        [stats] = ledger.review_stats(QUEUE)
        assert (stats.open_tasks, stats.done) == (1, 1)
        assert isinstance(ledger.lease(QUEUE, "bob", 60).result(), NothingForYou)
        studio.annotate(first, "ham")
        assert sync.round(QUEUE).answers == 1
    assert ids(studio, project) == [first, second]


def test_two_answers_where_two_are_wanted(studio: LabelStudioProcess, ledger: Ledger, clock: Clock) -> None:
    """Both may have come since the last round; the label comes with the second, and a correction counts."""
    ledger.set_review_rules(ReviewRules({QUEUE: QueueRule(reviews_required=2)}))
    project = studio.project(config_xml(["ham", "spam"]), maximum_annotations=2)
    fill(ledger, 2)
    with syncing(studio, ledger, clock, project) as sync:
        sync.round(QUEUE)
        first, second = ids(studio, project)
        studio.annotate(first, "spam")
        studio.annotate(first, "spam", user=OWNER)
        lone = studio.annotate(second, "ham")
        assert sync.round(QUEUE).answers == 3
        assert ledger.reader.labelled().positive.tolist() == [True]
        studio.call("PATCH", f"/api/annotations/{lone}/", {"result": [chosen("spam")]}, user=ANNOTATOR)
        studio.annotate(second, "spam", user=OWNER)
        assert sync.round(QUEUE).answers == 2
        assert ledger.reader.labelled().positive.tolist() == [True, True]
        assert [sync.round(QUEUE).answers for _ in range(2)] == [0, 0]
        assert not any(kind == "dropped" for _, kind, _ in sync.counts)


def test_a_later_look_does_not_undo_a_correction_made_here(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """An annotation is read again and again; only what is new about it counts."""
    project = new_project(studio)
    fill(ledger, 1)
    with syncing(studio, ledger, clock, project) as sync:
        sync.round(QUEUE)
        [task] = ids(studio, project)
        studio.annotate(task, "spam")
        sync.round(QUEUE)
        ledger.submit_review(1, 1, ANNOTATOR, lambda route: truth_of(route, CLASSES, label="ham")).result()
        assert sync.round(QUEUE).answers == 0
    assert [label for label, *_ in labels(ledger)] == ["spam", "ham"]


def test_a_task_deleted_there_goes_to_others(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """It was deleted for a reason, so it is not sent again."""
    project = new_project(studio)
    fill(ledger, 2)
    with syncing(studio, ledger, clock, project) as sync:
        sync.round(QUEUE)
        first, _ = ids(studio, project)
        studio.call("DELETE", f"/api/tasks/{first}/")
        assert sync.round(QUEUE).given_back == 1
        assert sync.round(QUEUE).sent == 0
    assert len(ids(studio, project)) == 1
    assert isinstance(ledger.lease(QUEUE, "bob", 60).result(), Lease)


def test_a_deleted_project_loses_no_task(studio: LabelStudioProcess, ledger: Ledger, clock: Clock) -> None:
    """The fault names the project; the tasks are for others when the lease has run out, or go to another project."""
    project = new_project(studio)
    fill(ledger, 2)
    with syncing(studio, ledger, clock, project) as sync:
        sync.round(QUEUE)
        studio.call("DELETE", f"/api/projects/{project}/")
        with pytest.raises(LabelToolError, match=f"no project {project} that") as error:
            sync.round(QUEUE)
        assert error.value.kind == "not_found"
    other = new_project(studio)
    clock.pass_s(25 * 3600)
    with syncing(studio, ledger, clock, other) as sync:
        assert sync.round(QUEUE).sent == 2
    assert sorted(texts(studio, other)) == ["mail 1", "mail 2"]


def test_what_is_deleted_here_is_deleted_there(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """A person's right to be forgotten does not end at Label Studio, annotated or not."""
    project = new_project(studio)
    kept, _ = fill(ledger, 2)
    with syncing(studio, ledger, clock, project) as sync:
        sync.round(QUEUE)
        for task in ids(studio, project):
            studio.annotate(task, "spam")
        sync.round(QUEUE)

        def work(connection: object) -> None:
            from gateway.ledger import schema

            table = schema.review_tasks
            connection.execute(table.delete().where(table.c.decision != kept))  # type: ignore[attr-defined]

        ledger.transact(work).result()
        assert sync.round(QUEUE).withdrawn == 1
    assert len(ids(studio, project)) == 1


def test_no_more_than_wanted_lie_there(studio: LabelStudioProcess, ledger: Ledger, clock: Clock) -> None:
    """The rest of the queue stays for others; answers make room."""
    project = new_project(studio)
    fill(ledger, 5)
    with syncing(studio, ledger, clock, project, at_most=3) as sync:
        assert [sync.round(QUEUE).sent for _ in range(2)] == [3, 0]
        assert isinstance(ledger.lease(QUEUE, "bob", 60).result(), Lease)
        studio.annotate(ids(studio, project)[0], "ham")
        assert sync.round(QUEUE).sent == 1


def test_answers_that_cannot_be_labels_are_refused_with_the_reason(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """Told once each, and taken when what was wrong has been mended, there or in the settings."""
    project = new_project(studio)
    fill(ledger, 2)
    with syncing(studio, ledger, clock, project, routes={"spam": RouteClasses(("ham", "junk"))}) as sync:
        sync.round(QUEUE)
        first, second = ids(studio, project)
        studio.annotate(first, "spam")
        empty = studio.call("POST", f"/api/tasks/{second}/annotations/", {"result": []}, user=ANNOTATOR)["id"]
        assert [sync.round(QUEUE).answers for _ in range(2)] == [0, 0]
        assert sync.counts[QUEUE, "dropped", "unknown_label"] == 1
        assert sync.counts[QUEUE, "dropped", "no_choice"] == 1
    studio.call("PATCH", f"/api/annotations/{empty}/", {"result": [chosen("ham")]}, user=ANNOTATOR)
    with syncing(studio, ledger, clock, project) as sync:
        assert sync.round(QUEUE).answers == 2
    assert sorted(label for label, *_ in labels(ledger)) == ["ham", "spam"]


def test_a_project_with_other_choices_is_refused_before_anything_is_sent(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """Labels that the route does not have would all be refused after the work was done."""
    project = studio.project(config_xml(["ham", "junk"]))
    fill(ledger, 1)
    with (
        syncing(studio, ledger, clock, project) as sync,
        pytest.raises(
            LabelToolError, match="lets people choose from ham, junk, wanted a <Choices> with ham, spam"
        ),
    ):
        sync.round(QUEUE)
    assert isinstance(ledger.lease(QUEUE, "bob", 60).result(), Lease)


def test_an_interface_that_wants_other_data_is_told_and_holds_nothing(
    studio: LabelStudioProcess, ledger: Ledger, clock: Clock
) -> None:
    """A team's own interface may read what is not sent; Label Studio says so, and the tasks are free at once."""
    project = studio.project(config_xml(["ham", "spam"]).replace("$request", "$subject"))
    fill(ledger, 1)
    with (
        syncing(studio, ledger, clock, project) as sync,
        pytest.raises(LabelToolError, match="subject"),
    ):
        sync.round(QUEUE)
    assert isinstance(ledger.lease(QUEUE, "bob", 60).result(), Lease)


def test_the_holder_is_no_author(studio: LabelStudioProcess, ledger: Ledger, clock: Clock) -> None:
    """Labels name people; `label-studio` only ever leases."""
    project = new_project(studio)
    fill(ledger, 1)
    with syncing(studio, ledger, clock, project) as sync:
        sync.round(QUEUE)
        studio.annotate(ids(studio, project)[0], "ham")
        sync.round(QUEUE)
    assert HOLDER not in {author for _, _, author, *_ in labels(ledger)}
