"""What we changed of Faust and aiokafka, without a broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import IllegalGenerationError, RequestTimedOutError, TopicAuthorizationFailedError
from faust.assignor.client_assignment import ClientMetadata

from schemas.ports import TP
from schemas.settings import Settings
from streams import consumer
from streams.consumer import Thread
from streams.transport import Assignor, GroupFaust, build_app
from tests.members import Recorder

TOPICS = ["commands", "events"]


def new_app() -> GroupFaust:
    return build_app(Settings(), group="g", topics=TOPICS, handler=Recorder()).make()


def settings_of(app: GroupFaust) -> dict[str, Any]:
    names = (
        "broker_consumer version debug stream_wait_empty topic_partitions processing_guarantee agent_supervisor".split()
    )
    names += (
        "broker_session_timeout table_standby_replicas topic_allow_declare web_enabled stream_buffer_maxsize".split()
    )
    return {name: getattr(app.conf, name) for name in names}


async def test_no_environment_variable_changes_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust would take any of these over the arguments that it was given."""
    before = settings_of(new_app())
    hostile = {
        "BROKER_URL": "kafka://elsewhere:1",
        "BROKER_CONSUMER_URL": "kafka://elsewhere:1",
        "APP_VERSION": "3",
        "APP_DEBUG": "1",
        "STREAM_WAIT_EMPTY": "1",
        "STREAM_BUFFER_MAXSIZE": "1",
        "TOPIC_PARTITIONS": "77",
        "TOPIC_ALLOW_DECLARE": "1",
        "PROCESSING_GUARANTEE": "exactly_once",
        "AGENT_SUPERVISOR": "mode.OneForOneSupervisor",
        "BROKER_SESSION_TIMEOUT": "3600",
        "TABLE_STANDBY_REPLICAS": "0",
        "APP_WEB_ENABLED": "1",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    assert settings_of(new_app()) == before


class Cluster:
    """Two topics of eight partitions."""

    def partitions_for_topic(self, _: str) -> set[int]:
        return set(range(8))


def assign(assignor: Assignor, members: dict[str, ClientMetadata]) -> dict[str, ClientMetadata]:
    """What each member holds after a join of these, in the form in which it brings it to the next one."""
    said = {
        member: ConsumerProtocolMemberMetadata(assignor.version, TOPICS, brought.dumps())
        for member, brought in members.items()
    }
    given = assignor.assign(Cluster(), said)
    return {member: ClientMetadata.loads(assignor._decompress(each.user_data)) for member, each in given.items()}


async def test_every_member_gets_a_share_also_after_a_restart() -> None:
    """Five members, eight partitions: nobody idles, and both topics go together. A replica per partition, as Faust's own
    setting would have it, leaves the restarted one empty."""
    assignor = Assignor(new_app(), 1)
    held = assign(assignor, {f"m{number}": assignor._metadata for number in range(5)})
    for round_ in range(5):
        del held[min(held)]
        held = assign(assignor, held)
        held = assign(assignor, {**held, f"n{round_}": assignor._metadata})
        shares = [each.assignment.actives for each in held.values()]
        assert sorted(len(share["events"]) for share in shares) == [1, 1, 2, 2, 2]
        assert all(sorted(share["events"]) == sorted(share["commands"]) for share in shares)


class Coordinator:
    """Answers commits as it is told, and notes under which generation each was sent."""

    def __init__(self, *answers: Exception | None, generation: int = 4) -> None:
        self.generation = generation
        self.sent: list[int] = []
        self._answers = list(answers)
        self._commit_lock = asyncio.Lock()

    async def ensure_coordinator_known(self) -> None:
        await asyncio.sleep(0)

    async def _do_commit_offsets(self, *_: Any) -> None:
        self.sent.append(self.generation)
        answer = self._answers.pop(0)
        if isinstance(answer, RequestTimedOutError):
            self.generation += len(answer.args)  # the group went on while we waited
        if answer is not None:
            raise answer


async def commit(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(consumer, "_RETRY_S", 0)
    thread = Thread.__new__(Thread)
    subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=object()))
    thread._consumer = SimpleNamespace(_coordinator=coordinator, _subscription=subscription, _closed=False)
    return await thread._commit_until_answered({TP("events", 0): 7}, 4)


async def test_a_commit_is_tried_until_the_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes by itself is waited for."""
    coordinator = Coordinator(RequestTimedOutError(), RequestTimedOutError(), None)
    assert await commit(coordinator, monkeypatch)
    assert coordinator.sent == [4, 4, 4]


async def test_a_commit_is_never_sent_under_another_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The group went on while the broker was away: the partition may have another owner, whose offset must stay."""
    went_on = Coordinator(RequestTimedOutError("one later"), None)
    assert not await commit(went_on, monkeypatch)
    assert went_on.sent == [4]
    assert not await commit(Coordinator(None, generation=5), monkeypatch)


async def test_a_refused_commit_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation that is gone is an answer; a right that is missing is an error."""
    assert not await commit(Coordinator(IllegalGenerationError()), monkeypatch)
    with pytest.raises(TopicAuthorizationFailedError):
        await commit(Coordinator(TopicAuthorizationFailedError()), monkeypatch)
