"""Which source is asked, in which order, and how it ends when none can answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from service.domain.errors import (
    AccountPrivate,
    FetchError,
    NoSessionFree,
    Retry,
    StoreUnavailable,
    StoryNotFound,
    UpstreamBlocked,
    UpstreamFailed,
    UpstreamTimeout,
    UserNotFound,
)
from service.domain.operations import STORIES, USER, Ask
from service.domain.targets import named
from tests.upstreams import stories_of
from workers.sources.circuit import OPEN_SECONDS, TRIES_LEAST, Circuit
from workers.sources.contract import Found, GoOn, always
from workers.sources.fallback import Fallback

FOUND = Found({"id": "5", "user": {"pk": 5}, "items": []})
ANNA = stories_of("anna")


class Scripted:
    """A source that ends each fetch as it is told, and remembers what it was asked."""

    def __init__(
        self,
        name: str,
        *ends: Found | Exception,
        serves: Sequence[str] = (STORIES,),
        names: Sequence[str] = (),
        free: NoSessionFree | None = None,
        groups: dict[str, Found | FetchError] | NoSessionFree | None = None,
    ) -> None:
        self.name = name
        self.ends = list(ends)
        self.asked: list[object] = []
        self._serves, self._names, self._free = serves, names, free
        self._groups = {} if groups is None else groups

    def serves(self, ask: Ask) -> bool:
        return ask.operation in self._serves and (not self._names or ask.target.value in self._names)

    def fetch(self, ask: Ask) -> Found:
        self.asked.append(ask)
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        if isinstance(end, Exception):
            raise end
        return end

    def reels(self, usernames: Sequence[str], go_on: GoOn = always) -> dict[str, Found | FetchError]:
        self.asked.append(list(usernames))
        if isinstance(self._groups, NoSessionFree):
            raise self._groups
        return {name: self._groups[name] for name in usernames if name in self._groups}

    def unserved(self) -> NoSessionFree | None:
        return self._free


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def failing(source: Fallback, ask: Ask = ANNA) -> FetchError:
    with pytest.raises(FetchError) as caught:
        source.fetch(ask)
    return caught.value


def wear_out(source: Fallback) -> None:
    """Ask as often as it takes to open the circuit of the first source."""
    for _ in range(TRIES_LEAST):
        source.fetch(ANNA)


def test_the_first_is_asked_and_named() -> None:
    first, second = Scripted("first", FOUND), Scripted("second", FOUND)
    assert Fallback([first, second]).fetch(ANNA).source == "first"
    assert (first.asked, second.asked) == ([ANNA], [])


@pytest.mark.parametrize(
    "trouble", [UpstreamBlocked(), UpstreamTimeout(), UpstreamFailed(retry=Retry.NEVER), NoSessionFree(3)]
)
def test_trouble_leads_to_the_next(trouble: FetchError) -> None:
    second = Scripted("second", FOUND)
    assert Fallback([Scripted("first", trouble), second]).fetch(ANNA).source == "second"


@pytest.mark.parametrize("answer", [AccountPrivate(), UserNotFound(), StoryNotFound()])
def test_an_answer_is_final(answer: FetchError) -> None:
    second = Scripted("second", FOUND)
    assert failing(Fallback([Scripted("first", answer), second])) is answer
    assert second.asked == []


def test_an_outage_of_the_store_is_nobodys_failure(clock: Clock) -> None:
    source = Fallback(
        [Scripted("first", StoreUnavailable()), Scripted("second", FOUND)], lambda: Circuit(clock)
    )
    for _ in range(TRIES_LEAST + 1):
        with pytest.raises(StoreUnavailable):
            source.fetch(ANNA)


def test_who_does_not_serve_it_is_left_out() -> None:
    first, second = Scripted("first", FOUND, serves=[USER]), Scripted("second", FOUND)
    source = Fallback([first, second])
    assert source.fetch(ANNA).source == "second"
    assert source.serves(Ask(USER, named("anna")))
    assert not source.serves(Ask("highlight", named("anna")))


def test_what_nobody_serves() -> None:
    error = failing(Fallback([Scripted("first", FOUND), Scripted("second", FOUND)]), Ask(USER, named("anna")))
    assert isinstance(error, UpstreamFailed)
    assert error.retry is Retry.NEVER
    assert "No source" in error.message


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (UpstreamBlocked(), UpstreamTimeout(), UpstreamTimeout),
        (UpstreamFailed(retry=Retry.NEVER), UpstreamBlocked(), UpstreamBlocked),
        (UpstreamBlocked(retry=Retry.NEVER), UpstreamFailed(), UpstreamFailed),
        (NoSessionFree(2), UpstreamFailed(retry=Retry.NEVER), UpstreamFailed),
        (UpstreamBlocked(), NoSessionFree(2), UpstreamBlocked),
    ],
)
def test_it_ends_with_what_leaves_most_hope(
    one: FetchError, other: FetchError, expected: type[FetchError]
) -> None:
    error = failing(Fallback([Scripted("first", one), Scripted("second", other)]))
    assert type(error) is expected


def test_nobody_free_at_all() -> None:
    waits = [NoSessionFree(None), NoSessionFree(9, paced=True), NoSessionFree(30)]
    error = failing(Fallback([Scripted(str(number), wait) for number, wait in enumerate(waits)]))
    assert isinstance(error, NoSessionFree)
    assert (error.retry_in, error.paced) == (9, True)


def test_a_source_that_keeps_failing_is_left_alone_and_probed(clock: Clock) -> None:
    first, second = Scripted("first", UpstreamFailed()), Scripted("second", FOUND)
    source = Fallback([first, second], lambda: Circuit(clock))
    wear_out(source)
    source.fetch(ANNA)
    assert len(first.asked) == TRIES_LEAST
    first.ends = [FOUND]
    clock.now += OPEN_SECONDS
    assert source.fetch(ANNA).source == "first"
    assert source.fetch(ANNA).source == "first"


def test_answers_and_lack_of_sessions_open_no_circuit(clock: Clock) -> None:
    first = Scripted("first", NoSessionFree(1))
    source = Fallback([first, Scripted("second", FOUND)], lambda: Circuit(clock))
    wear_out(source)
    first.ends = [UserNotFound()]
    for _ in range(TRIES_LEAST * 2):
        assert isinstance(failing(source), UserNotFound)
    assert len(first.asked) == TRIES_LEAST * 3


def test_all_circuits_open_is_a_wait(clock: Clock) -> None:
    source = Fallback(
        [Scripted("a", UpstreamFailed()), Scripted("b", UpstreamTimeout())], lambda: Circuit(clock)
    )
    for _ in range(TRIES_LEAST):
        assert not isinstance(failing(source), NoSessionFree)
    clock.now += 10
    error = failing(source)
    assert isinstance(error, NoSessionFree)
    assert error.retry_in == OPEN_SECONDS - 10
    waiting = source.unserved()
    assert waiting is not None
    assert waiting.retry_in == OPEN_SECONDS - 10


def test_the_only_one_that_serves_it_is_asked_in_any_case(clock: Clock) -> None:
    first = Scripted("first", UpstreamFailed())
    source = Fallback([first, Scripted("second", FOUND, serves=[USER])], lambda: Circuit(clock))
    for _ in range(TRIES_LEAST * 2):
        assert isinstance(failing(source), UpstreamFailed)
    assert len(first.asked) == TRIES_LEAST * 2


def test_groups_go_to_the_first_who_serves_the_name() -> None:
    only_ben = Scripted("graph", FOUND, names=["ben"])
    general = Scripted("instagrapi", FOUND, groups={"anna": FOUND, "ben": FOUND, "carl": UserNotFound()})
    later = Scripted("hikerapi", FOUND, groups={"dora": FOUND})
    found = Fallback([only_ben, general, later]).reels(["anna", "ben", "carl", "dora"])
    assert set(found) == {"anna", "carl"}
    assert (only_ben.asked, later.asked) == ([["ben"]], [])
    assert general.asked == [["anna", "carl", "dora"]]


def test_a_group_without_sessions_is_left_to_the_others() -> None:
    general = Scripted("instagrapi", FOUND, groups=NoSessionFree(5), free=NoSessionFree(5))
    assert Fallback([general, Scripted("hikerapi", FOUND)]).reels(["anna", "ben"]) == {}


def test_a_group_waits_when_there_are_no_others() -> None:
    general = Scripted("instagrapi", FOUND, groups=NoSessionFree(5), free=NoSessionFree(5))
    with pytest.raises(NoSessionFree):
        Fallback([general, Scripted("web", FOUND, serves=[USER])]).reels(["anna", "ben"])


def test_a_group_goes_past_an_open_circuit(clock: Clock) -> None:
    first = Scripted("first", UpstreamFailed(), groups={"anna": FOUND})
    second = Scripted("second", FOUND, groups={})
    source = Fallback([first, second], lambda: Circuit(clock))
    wear_out(source)
    assert source.reels(["anna", "ben"]) == {}
    assert second.asked[-1] == ["anna", "ben"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(None, NoSessionFree(5), None), (NoSessionFree(9), None, None), (NoSessionFree(9), NoSessionFree(5), 5)],
)
def test_unserved_only_when_nobody_can_be_asked(
    first: NoSessionFree | None, second: NoSessionFree | None, expected: float | None
) -> None:
    why = Fallback([Scripted("a", FOUND, free=first), Scripted("b", FOUND, free=second)]).unserved()
    assert (why.retry_in if why else None) == expected


def test_sources_for_some_names_only_keep_nobody_waiting() -> None:
    some = Scripted("graph", FOUND, names=["ben"])
    assert Fallback([some, Scripted("web", FOUND, serves=[USER])]).unserved() is None
