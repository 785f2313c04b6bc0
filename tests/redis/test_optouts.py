"""The list of those who are not served, and erasing what is kept of them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from redis import Redis

from service.actions.audit import audit
from service.actions.optouts import opt_in, opt_out, purge
from service.config import Settings
from service.domain import ids
from service.domain.errors import NotFound, ValidationFailed
from service.domain.operations import STORIES, STORY
from service.domain.ports import Services
from service.domain.requests import Claim, RequestRecord
from service.domain.sharing import Landing
from service.domain.targets import STORY_ID, USER_ID, Target, named
from service.stores import keys
from tests.conftest import RecordingQueue, await_true, finish_one, make_services
from tests.redis.kit import ending, submission

HOOK = "https://example.com/hook"
ANNA, ID = named("anna"), Target(USER_ID, "42")


@pytest.fixture
def accounts(services: Services) -> list[str]:
    """Two accounts of the service."""
    made = [services.accounts.create(f"{name}@example.com", "hash").account_id for name in ("ann", "ben")]
    for account_id in made:
        services.credits.add(account_id, 100, entry_type="topup", note="")
    return made


def claimed(services: Services, account_id: str, target: Target = ANNA, **changes: object) -> Claim:
    operation = STORY if target.kind == STORY_ID else STORIES
    asked = submission(account_id, target=target, operation=operation, **changes)
    claim = services.requests.claim(services.requests.submit(asked).request_id)
    assert claim is not None
    return claim


def ended(
    services: Services,
    account_id: str,
    target: Target = ANNA,
    owner: str = "",
    owner_name: str = "",
    **changes: object,
) -> RequestRecord:
    claim = claimed(services, account_id, target, **changes)
    finish_one(services.requests, claim, ending(source="fake", owner=owner, owner_name=owner_name))
    return claim.request


def share(services: Services, ask: str, owner: str = "", owner_name: str = "") -> None:
    flight = services.reels.board(ask, "req_1")
    assert flight is not None
    services.reels.land(flight, Landing(b"{}", owner=owner, owner_name=owner_name))


def listed(services: Services) -> dict[Target, str]:
    return {each.account: each.linked for each in services.optouts.list()}


# --- the list ------------------------------------------------------------------------------------


def test_nobody_is_on_an_empty_list(services: Services) -> None:
    assert not services.optouts.covers(["anna"], ["42"])
    assert not services.optouts.covers([], [])
    assert services.optouts.list() == []
    assert services.optouts.remove(ANNA) == []


def test_a_name_and_an_id_are_each_found_under_their_own(services: Services) -> None:
    services.optouts.add("Anna", None)
    services.optouts.add(None, "42")
    assert services.optouts.covers(["ANNA"], [])
    assert services.optouts.covers([], ["42"])
    assert not services.optouts.covers(["42"], ["anna"])
    assert not services.optouts.covers(["", "bert"], ["", "43"])
    assert services.optouts.covered(["bert", "Anna", ""], ["1", "42"]) == ({"anna"}, {"42"})


def test_what_is_added_again_keeps_its_place_and_its_note(services: Services) -> None:
    services.optouts.add("anna", None, "by letter")
    [first] = services.optouts.list()
    services.optouts.add("anna", None)
    assert services.optouts.list() == [first]
    services.optouts.add("anna", None, "by phone, ü")
    assert [each.note for each in services.optouts.list()] == ["by phone, ü"]
    assert abs(first.added_at - services.clock()) < 600_000


def test_what_belongs_to_one_on_the_list_is_put_there_too(services: Services) -> None:
    services.optouts.add("anna", None)
    assert not services.optouts.learn("bert", "43")
    assert not services.optouts.learn("anna", "")
    assert services.optouts.learn("Anna", "42")
    assert services.optouts.learn("renamed", "42")
    assert services.optouts.learn("renamed", "42")
    assert listed(services) == {ANNA: "", ID: "anna", named("renamed"): "42"}


@pytest.mark.parametrize("one", [ANNA, ID, named("renamed")])
def test_who_comes_off_comes_off_by_all_names_and_ids(services: Services, one: Target) -> None:
    services.optouts.add("anna", None)
    services.optouts.add("bert", None)
    services.optouts.learn("anna", "42")
    services.optouts.learn("renamed", "42")
    assert set(services.optouts.remove(one)) == {ANNA, ID, named("renamed")}
    assert listed(services) == {named("bert"): ""}


def test_who_is_not_on_the_list_cannot_come_off(services: Services) -> None:
    with pytest.raises(NotFound, match="anna"):
        opt_in(services, "anna")
    with pytest.raises(ValidationFailed):
        opt_in(services, "an na")


# --- erasing -------------------------------------------------------------------------------------


def test_what_is_kept_in_all_accounts_goes_and_the_books_add_up(
    services: Services, accounts: list[str], redis: Redis
) -> None:
    story = Target(STORY_ID, "7")
    gone = [
        ended(services, account_id, target, owner, name, webhook_url=HOOK)
        for account_id in accounts
        for target, owner, name in (
            (ANNA, "42", "anna"),
            (ID, "", ""),
            (story, "42", "anna"),
        )
    ]
    kept = [ended(services, account_id, named("bert"), "43", "bert") for account_id in accounts]
    waiting = services.requests.submit(submission(accounts[0]))
    balances = [services.credits.balance(account_id) for account_id in accounts]

    report = opt_out(services, ["anna"], "by letter")

    assert (report.requests, report.under_way) == (6, 0)
    assert services.requests.get_many([each.request_id for each in gone]) == [None] * 6
    assert [services.deliveries.get(ids.delivery_of(each.request_id)) for each in gone] == [None] * 6
    assert all(services.requests.get_many([each.request_id for each in [*kept, waiting]]))
    assert [services.credits.balance(account_id) for account_id in accounts] == balances
    assert audit(services).differences == []
    assert listed(services) == {ANNA: "", ID: "anna"}, "its id was learned on the way"
    left = [name for name in redis.scan_iter("{s*") for each in gone if each.request_id in name]
    assert left == []


def test_shared_results_and_remembered_ids_go(services: Services, redis: Redis) -> None:
    services.instagram_ids.put("anna", "42", {"is_private": False})
    services.instagram_ids.put("bert", "43", {"is_private": False})
    services.instagram_ids.put_seen("42", {"username": "anna", "is_private": False})
    services.instagram_ids.put_seen("43", {"username": "bert", "is_private": False})
    for ask, owner, name in (
        ("anna", "42", "anna"),
        ("anna2", "", ""),
        ("stories!:anna", "", ""),
        ("user:user_id:42", "", ""),
        ("story:story_id:7", "42", "anna"),
        ("highlight:highlight_id:8", "42", ""),
        ("bert", "43", "bert"),
        ("story:story_id:9", "43", "bert"),
    ):
        share(services, ask, owner, name)
    report = opt_out(services, ["@Anna"])
    assert (report.shared, report.remembered) == (5, 2)
    assert set(redis.scan_iter("{f:*")) == {keys.reel(each) for each in ("anna2", "bert", "story:story_id:9")}
    assert services.instagram_ids.get("anna") is services.instagram_ids.get_seen("42") is None
    assert services.instagram_ids.get("bert") is not None
    assert services.instagram_ids.get_seen("43") is not None


def test_the_name_of_an_id_is_found_in_memory(services: Services, accounts: list[str]) -> None:
    services.instagram_ids.put("anna", "42")
    services.instagram_ids.put("bert", "4")
    record = ended(services, accounts[0])
    report = opt_out(services, ["42"])
    assert listed(services) == {ID: "", ANNA: "42"}
    assert (report.requests, report.remembered) == (1, 1)
    assert services.requests.get(record.request_id) is None


def test_what_is_learned_late_is_looked_for_from_the_start(services: Services, accounts: list[str]) -> None:
    chain = [(named(f"name{number}"), str(number), f"name{number + 1}") for number in range(6)]
    for target, owner, name in [
        *chain,
        *((target, str(int(owner) - 1), name) for target, owner, name in chain),
    ]:
        ended(services, accounts[0], target, owner, name)
    report = opt_out(services, ["name6"])
    assert report.requests == 12
    assert audit(services).differences == []


def test_it_may_be_run_again(services: Services, accounts: list[str]) -> None:
    ended(services, accounts[0], owner="42", owner_name="anna")
    assert opt_out(services, ["anna", "anna"]).requests == 1
    again = opt_out(services, ["anna"])
    assert (again.requests, again.subjects.user_ids) == (0, {"42"})


def test_one_bad_name_is_refused_before_anything_is_done(services: Services, accounts: list[str]) -> None:
    ended(services, accounts[0])
    with pytest.raises(ValidationFailed):
        opt_out(services, ["anna", "an na"])
    assert services.optouts.list() == []


@pytest.mark.parametrize("target", [ANNA, Target(STORY_ID, "7")])
def test_what_was_begun_before_is_waited_for_and_goes_too(
    services: Services, accounts: list[str], monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    claim = claimed(services, accounts[0], target)
    other = claimed(services, accounts[0], named("bert"))
    looks = []

    def ends(_: float) -> None:
        looks.append(1)
        finish_one(services.requests, claim, ending(source="fake", owner="42", owner_name="anna"))

    monkeypatch.setattr("service.actions.optouts.time.sleep", ends)
    report = opt_out(services, ["anna"])
    assert (report.requests, report.under_way, len(looks)) == (1, 0, 1)
    assert services.requests.get(claim.request.request_id) is None
    assert services.requests.get(other.request.request_id)


def test_what_does_not_end_is_told(services: Services, accounts: list[str]) -> None:
    claimed(services, accounts[0])
    services.optouts.add("anna", None)
    report = purge(services, [ANNA], patience=0)
    assert (report.requests, report.under_way) == (0, 1)


def test_more_than_a_page_goes(
    settings: Settings, valkey: Redis, queue: RecordingQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.stores.erasures.SCAN_COUNT", 3)
    monkeypatch.setattr("service.stores.instagram_ids.SCAN_COUNT", 3)
    services = make_services(settings, valkey, queue)
    account_id = services.accounts.create("ann@example.com", "hash").account_id
    services.credits.add(account_id, 100, entry_type="topup", note="")
    for number in range(20):
        ended(services, account_id, owner="42", owner_name="anna")
        ended(services, account_id, named(f"name{number}"), str(number), f"name{number}")
        share(services, f"story:story_id:{number}", "42", "anna")
        services.instagram_ids.put(f"old{number}", "42")
    report = opt_out(services, ["42"])
    assert (report.requests, report.shared) == (20, 20)
    assert len(report.subjects.names) == 21
    assert len(list(valkey.scan_iter("{s*:req:*"))) == 20


def test_many_learn_of_one_at_once(services: Services, redis: Redis) -> None:
    services.optouts.add("anna", None)
    started: list[Callable[[], None]] = []
    threads = [
        threading.Thread(target=services.optouts.learn, args=("anna" if number % 2 else "new", "42"))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
        started.append(thread.join)
    for join in started:
        join()
    services.optouts.learn("new", "42")
    await_true(lambda: redis.hlen(keys.OPTOUT_NAMES) == 2)
    assert set(listed(services)) == {ANNA, ID, named("new")}
