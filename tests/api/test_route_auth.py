"""/auth, and who is let in with what."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import argon2
import jwt
import pytest
from werkzeug.test import TestResponse

from service.actions.accounts import set_password
from service.auth.passwords import Passwords
from service.auth.tokens import JwtTokens
from service.secrets import derive
from tests.api.support import BODIES, JSON, PASSWORD, PROTECTED, STORIES, Front, assert_error
from tests.texts import HOSTILE

EMAIL = "me@example.com"


HOME = "198.51.100.7"


def log_in(
    front: Front, email: str = EMAIL, password: str = PASSWORD, *, at: str = "127.0.0.1", **more: str
) -> TestResponse:
    body = {"email": email, "password": password, **more}
    return front.client.post("/auth/login", json=body, environ_base={"REMOTE_ADDR": at})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- log in ----------------------------------------------------------------------------------------


def test_the_right_password_gives_a_token_that_works(front: Front) -> None:
    response = log_in(front)

    assert response.status_code == 200
    assert response.content_type == JSON
    assert set(response.json) == {"token", "user", "deviceToken"}
    assert response.json["user"] == {"id": front.me.account.account_id, "email": EMAIL}
    headers = bearer(response.json["token"])
    assert front.client.get("/api/credits", headers=headers).status_code == 200
    [key] = front.client.get("/keys", headers=headers).json["keys"]
    assert front.me.key.startswith(key["prefix"])


def test_a_token_lives_for_24_hours_by_default(front: Front) -> None:
    claims = jwt.decode(log_in(front).json["token"], options={"verify_signature": False})

    assert claims["exp"] - claims["iat"] == 86_400
    assert claims["sub"] == front.me.account.account_id


def test_the_address_ignores_case_and_spaces_around_it(front: Front) -> None:
    assert log_in(front, "  ME@Example.COM ").status_code == 200


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(front: Front) -> None:
    wrong = assert_error(log_in(front, password="not this one"), 401, "unauthorized")
    unknown = assert_error(log_in(front, email="who@example.com"), 401, "unauthorized")

    assert wrong | {"requestId": ""} == unknown | {"requestId": ""}
    assert "token" not in wrong


@pytest.mark.parametrize("email", [EMAIL, "who@example.com"])
def test_too_many_tries_shut_an_account_to_one_address_for_a_while(front: Front, email: str) -> None:
    for _ in range(10):
        assert_error(log_in(front, email, "not this one"), 401, "unauthorized")
    locked = log_in(front, email)

    assert_error(locked, 429, "rate_limited")
    assert 0 < int(locked.headers["Retry-After"]) <= 900
    assert_error(log_in(front, email.upper(), "not this one"), 429, "rate_limited")
    assert log_in(front, "other@example.com").status_code == 200
    assert log_in(front, at=HOME).status_code == 200


def test_the_lock_opens_when_its_window_is_over(front: Front) -> None:
    for _ in range(11):
        log_in(front, password="not this one")
    [name] = front.redis.keys("{login}:from:*")
    assert 0 < front.redis.ttl(name) <= 900
    front.redis.delete(name)

    assert log_in(front).status_code == 200


def test_who_used_an_address_up_locks_nobody_out(front: Front) -> None:
    """The address counts first: what it tries beyond its limit does not count against the account."""
    for number in range(50):
        log_in(front, f"user{number}@example.com", "not this one")
    for _ in range(30):
        assert_error(log_in(front, password="not this one"), 429, "rate_limited")

    assert log_in(front, at=HOME).status_code == 200


def test_strangers_from_everywhere_slow_an_account_and_do_not_shut_it(front: Front) -> None:
    def strangers() -> None:
        for number in range(40):
            log_in(front, password="not this one", at=f"203.0.113.{number}")

    strangers()
    slowed = log_in(front, at=HOME)
    assert_error(slowed, 429, "rate_limited")
    assert 0 < int(slowed.headers["Retry-After"]) <= 20
    strangers()
    [waiting] = [field for field in front.redis.hkeys(f"{{login}}:from:{HOME}") if field.startswith("from:")]
    front.redis.hset(f"{{login}}:from:{HOME}", waiting, 1)  # the time passes

    assert log_in(front, at=HOME).status_code == 200


def test_a_device_that_was_let_in_before_is_not_slowed(front: Front) -> None:
    device = log_in(front).json["deviceToken"]
    for number in range(40):
        log_in(front, password="not this one", at=f"203.0.113.{number}")

    assert_error(log_in(front, at=HOME, deviceToken="something"), 429, "rate_limited")
    assert log_in(front, at=HOME, deviceToken=device).status_code == 200
    assert_error(front.client.get("/api/credits", headers=bearer(device)), 401, "unauthorized")


def test_a_device_is_known_for_its_own_account_only(front: Front) -> None:
    device = log_in(front, "other@example.com").json["deviceToken"]
    for number in range(40):
        log_in(front, password="not this one", at=f"203.0.113.{number}")

    assert_error(log_in(front, at=HOME, deviceToken=device), 429, "rate_limited")


@pytest.mark.parametrize("email", ["x", "a b", "@", *(f"{text}@example.com" for text in HOSTILE)])
def test_what_is_no_address_of_mail_is_refused_uncounted(front: Front, email: str) -> None:
    for _ in range(60):
        assert_error(log_in(front, email), 422, "validation_error", {"email"})
    assert front.redis.keys("{login}:*") == []


def test_thousands_of_refused_calls_with_fresh_texts_leave_nothing(quick: Callable[..., Front]) -> None:
    front = quick()
    for number in range(50):
        log_in(front, f"user{number}@example.com", "not this one")
    before = front.redis.dbsize()
    for number in range(2_000):
        assert log_in(front, f"fresh{number}@example.com").status_code == 429
    assert front.redis.dbsize() == before


def test_a_neighbour_in_the_same_ipv6_network_is_the_same_caller(front: Front) -> None:
    for number in range(10):
        log_in(front, password="not this one", at=f"2001:db8:1:2::{number + 1}")

    assert_error(log_in(front, at="2001:db8:1:2:ffff::1"), 429, "rate_limited")
    assert log_in(front, at="2001:db8:1:3::1").status_code == 200


def test_a_success_forgets_the_failures_before(front: Front) -> None:
    for _ in range(2):
        for _ in range(9):
            assert_error(log_in(front, password="not this one"), 401, "unauthorized")
        assert log_in(front).status_code == 200


def test_too_many_tries_from_one_place_are_stopped_whatever_the_account(front: Front) -> None:
    statuses = [log_in(front, f"user{n}@example.com").status_code for n in range(51)]

    assert statuses == [401] * 50 + [429]


def test_a_key_still_works_while_its_account_is_locked(front: Front) -> None:
    for _ in range(11):
        log_in(front, password="not this one")

    assert front.get("/api/credits").status_code == 200


def test_a_disabled_account_cannot_log_in(front: Front) -> None:
    front.services.accounts.set_disabled(front.me.account.account_id, True)

    assert_error(log_in(front), 403, "forbidden")
    assert_error(log_in(front, password="not this one"), 401, "unauthorized")


@pytest.mark.parametrize("field", ["email", "password"])
def test_an_endless_field_is_refused(table: Front, field: str) -> None:
    body = {"email": EMAIL, "password": PASSWORD, field: "x" * 257}
    response = table.client.post("/auth/login", json=body)

    assert_error(response, 422, "validation_error", {field})


# --- sign up ---------------------------------------------------------------------------------------


def register(front: Front, **changes: str) -> TestResponse:
    return front.client.post("/auth/register", json={**BODIES["POST", "/auth/register"], **changes})


def test_sign_up_is_closed_by_default(front: Front) -> None:
    before = front.stored()

    assert_error(register(front), 403, "forbidden")
    assert front.stored() == before
    assert_error(log_in(front, "new@example.com"), 401, "unauthorized")


def test_sign_up_makes_an_account_where_it_is_open(make: Callable[..., Front]) -> None:
    front = make(signup_allowed=True)
    response = register(front, email=" New@Example.com ")

    assert response.status_code == 202
    assert set(response.json) == {"success", "message"}
    entered = log_in(front, "new@example.com")
    assert entered.json["user"]["email"] == "new@example.com"
    assert front.client.get("/api/credits", headers=bearer(entered.json["token"])).json["balance"] == 0


def test_nothing_tells_that_an_address_is_taken_and_its_account_stays(make: Callable[..., Front]) -> None:
    front = make(signup_allowed=True)
    free = register(front, email="free@example.com")
    before = front.stored()
    hashed: list[str] = []
    hash_ = front.services.passwords.hash

    def counted(password: str) -> str:
        hashed.append(password)
        return hash_(password)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front.services.passwords, "hash", counted)
        taken = register(front, email=EMAIL.upper(), password="another password")

    assert (taken.status_code, taken.data) == (free.status_code, free.data)
    assert sorted(name for name, _ in taken.headers) == sorted(name for name, _ in free.headers)
    assert hashed == ["another password"]  # it takes as long
    assert front.stored() == before
    assert log_in(front).status_code == 200
    assert_error(log_in(front, password="another password"), 401, "unauthorized")


def test_five_accounts_an_hour_are_made_from_one_address_before_anything_is_hashed(
    make: Callable[..., Front],
) -> None:
    front = make(signup_allowed=True)
    answers = [register(front, email=f"new{number}@example.com").status_code for number in range(5)]
    assert answers == [202] * 5
    before = front.redis.dbsize()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passwords, "hash", None)
        for number in range(20):
            refused = register(front, email=f"more{number}@example.com")
            assert_error(refused, 429, "rate_limited")
            assert 0 < int(refused.headers["Retry-After"]) <= 3_600
    assert front.redis.dbsize() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "nobody"),
        ("email", "a b@example.com"),
        ("email", "@example.com"),
        ("email", "me@"),
        ("email", "a@b@example.com"),
        ("email", "x" * 65 + "@example.com"),
        *(("email", f"{text}@example.com") for text in HOSTILE),
        ("password", "short"),
        ("password", "x" * 9),
        ("password", "x" * 257),
    ],
)
def test_sign_up_names_the_field_that_is_wrong(quick: Callable[..., Front], field: str, value: str) -> None:
    front = quick(signup_allowed=True)
    before = front.stored()

    assert_error(register(front, **{field: value}), 422, "validation_error", {field})
    assert front.stored() == before


# --- who is let in ---------------------------------------------------------------------------------


def claims_of(front: Front, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": "storyhook",
        "sub": front.me.account.account_id,
        "ver": 1,
        "iat": now,
        "exp": now + 60,
        "jti": uuid.uuid4().hex,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def signed(front: Front, **changes: Any) -> str:
    return jwt.encode(claims_of(front, **changes), derive(front.settings.secret_key, "tokens"), "HS256")


def test_a_token_signed_as_ours_works(table: Front) -> None:
    # What the cases below differ from.
    assert table.client.get("/api/credits", headers=bearer(signed(table))).status_code == 200


BAD: dict[str, Callable[[Front], dict[str, str]]] = {
    "nothing": lambda front: {},
    "an empty header": lambda front: {"Authorization": ""},
    "no token": lambda front: {"Authorization": "Bearer"},
    "an empty token": lambda front: {"Authorization": "Bearer  "},
    "another scheme": lambda front: {"Authorization": f"Basic {front.me.key}"},
    "no scheme": lambda front: {"Authorization": front.me.key},
    "junk": lambda front: bearer("junk"),
    "junk of three parts": lambda front: bearer("a.b.c"),
    "letters past ASCII": lambda front: bearer("sk_live_ü\u00ff"),
    "a token past ASCII": lambda front: bearer("\u00e4.\u00f6.\u00fc"),
    "a very long token": lambda front: bearer("x" * 20_000),
    "an empty x-access-key": lambda front: {"x-access-key": ""},
    "a key of nobody": lambda front: bearer("sk_live_" + "a" * 44),
    "a key of the wrong length": lambda front: bearer(front.me.key + "a"),
    "a key cut short": lambda front: bearer(front.me.key[:-1]),
    "another secret to a known key": lambda front: bearer(front.me.key[:-32] + "a" * 32),
    "the secret of another key": lambda front: bearer(front.me.key[:-32] + front.other.key[-32:]),
    "a key in another case": lambda front: bearer("sk_live_" + front.me.key[8:].swapcase()),
    "a token that has expired": lambda front: bearer(signed(front, iat=1, exp=int(time.time()) - 1)),
    "a token that our own code let expire": lambda front: bearer(
        JwtTokens(derive(front.settings.secret_key, "tokens"), -1).issue(front.me.account)
    ),
    "a token signed by another": lambda front: bearer(JwtTokens(b"k" * 32, 60).issue(front.me.account)),
    "a token signed with the secret itself": lambda front: bearer(
        jwt.encode(claims_of(front), front.settings.secret_key.encode(), "HS256")
    ),
    "a token signed with the other derived key": lambda front: bearer(
        jwt.encode(claims_of(front), derive(front.settings.secret_key, "api-keys"), "HS256")
    ),
    "a token of no algorithm": lambda front: bearer(jwt.encode(claims_of(front), None, "none")),
    "a token without its signature": lambda front: bearer(signed(front).rpartition(".")[0] + "."),
    "a token of another algorithm": lambda front: bearer(
        jwt.encode(claims_of(front), derive(front.settings.secret_key, "tokens") * 2, "HS512")
    ),
    "a token of another issuer": lambda front: bearer(signed(front, iss="another")),
    "a token without an end": lambda front: bearer(signed(front, exp=None)),
    "a token without an id": lambda front: bearer(signed(front, jti=None)),
    "a token without a version": lambda front: bearer(signed(front, ver=None)),
    "a token of another version": lambda front: bearer(signed(front, ver=2)),
    "a token of a wrong version": lambda front: bearer(signed(front, ver="1")),
    "a token of nobody": lambda front: bearer(signed(front, sub="acc_0001m7xt6136bt5vc71920hsxsgv")),
    "a token with a changed claim": lambda front: bearer(swap_claims(front)),
}


def swap_claims(front: Front) -> str:
    head, _, signature = signed(front).split(".")
    _, theirs, _ = signed(front, sub=front.other.account.account_id).split(".")
    return ".".join((head, theirs, signature))


@pytest.mark.parametrize("case", BAD)
def test_a_credential_that_does_not_hold_is_401_and_leaves_no_trace(table: Front, case: str) -> None:
    before, published = table.stored(), list(table.queue.published)
    headers = BAD[case](table)

    for method, path in PROTECTED[:3]:
        response = table.client.open(path, method=method, json=BODIES.get((method, path)), headers=headers)
        assert_error(response, 401, "unauthorized")
    assert table.stored() == before
    assert table.queue.published == published


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_every_route_wants_a_credential_before_it_looks_at_anything_else(
    table: Front, method: str, path: str
) -> None:
    assert_error(table.client.open(path, method=method), 401, "unauthorized")
    assert_error(table.client.open(f"{path}?colour=red", method=method, data=b"{"), 401, "unauthorized")


def test_the_answer_to_a_bad_credential_does_not_repeat_it(table: Front) -> None:
    key = "sk_live_" + "a" * 44
    assert key not in table.client.get("/api/credits", headers=bearer(key)).text


def test_a_disabled_account_is_403_with_key_and_token(front: Front) -> None:
    token = log_in(front).json["token"]
    front.services.accounts.set_disabled(front.me.account.account_id, True)
    before = front.stored()

    for headers in (front.me.headers, bearer(token)):
        response = front.client.post(STORIES, json={"username": "nasa"}, headers=headers)
        assert_error(response, 403, "forbidden")
    assert front.stored() == before
    assert front.queue.published == []


def test_enabling_an_account_brings_its_keys_back_but_no_token(front: Front) -> None:
    token = log_in(front).json["token"]
    front.services.accounts.set_disabled(front.me.account.account_id, True)
    front.services.accounts.set_disabled(front.me.account.account_id, False)

    assert front.get("/api/credits").status_code == 200
    assert_error(front.client.get("/api/credits", headers=bearer(token)), 401, "unauthorized")


def test_a_new_password_revokes_every_token_and_no_key(front: Front) -> None:
    token = log_in(front).json["token"]
    set_password(front.services, email=EMAIL, password="another password")

    assert_error(front.client.get("/api/credits", headers=bearer(token)), 401, "unauthorized")
    assert front.get("/api/credits").status_code == 200
    assert_error(log_in(front), 401, "unauthorized")
    fresh = log_in(front, password="another password").json["token"]
    assert front.client.get("/api/credits", headers=bearer(fresh)).status_code == 200


def test_a_token_may_do_what_a_key_may(front: Front) -> None:
    headers = bearer(log_in(front).json["token"])
    with front.working():
        response = front.client.post(STORIES, json={"username": "nasa"}, headers=headers)

    assert response.status_code == 200
    assert response.headers["X-Credits-Remaining"] == "99"


# --- one's own password and tokens -----------------------------------------------------------------


def change(front: Front, token: str, *, current: str = PASSWORD, new: str = "another password", **more: Any):
    body = {"current": current, "new": new, **more}
    return front.client.post("/auth/password", json=body, headers=bearer(token))


def test_a_customer_changes_the_password_and_all_tokens_end(front: Front) -> None:
    mine, thiefs = (log_in(front).json["token"] for _ in range(2))
    response = change(front, mine)

    assert response.status_code == 200
    for token in (mine, thiefs):
        assert_error(front.client.get("/api/credits", headers=bearer(token)), 401, "unauthorized")
    assert front.client.get("/api/credits", headers=bearer(response.json["token"])).status_code == 200
    assert_error(log_in(front), 401, "unauthorized")
    assert log_in(front, password="another password").status_code == 200
    assert front.get("/api/credits").status_code == 200  # keys go on


def test_a_new_password_may_end_the_keys_too(front: Front) -> None:
    token = log_in(front).json["token"]
    front.call("POST", "/keys", json={"name": "of a thief"})
    fresh = change(front, token, revokeKeys=True).json["token"]

    assert_error(front.get("/api/credits"), 401, "unauthorized")
    assert front.client.get("/keys", headers=bearer(fresh)).json == {"keys": []}
    assert front.get("/api/credits", by=front.other).status_code == 200


def test_who_does_not_know_the_password_cannot_change_it_nor_guess_it(front: Front) -> None:
    token = log_in(front).json["token"]
    before = front.stored()
    for _ in range(10):
        assert_error(change(front, token, current="not this one"), 422, "validation_error", {"current"})
    assert_error(change(front, token), 429, "rate_limited")
    assert front.stored() == before
    assert front.client.get("/api/credits", headers=bearer(token)).status_code == 200


def test_a_new_password_that_is_too_short_names_the_field(front: Front) -> None:
    assert_error(change(front, log_in(front).json["token"], new="short"), 422, "validation_error", {"new"})


def test_a_customer_signs_out_everywhere(front: Front) -> None:
    tokens = [log_in(front).json["token"] for _ in range(2)]
    response = front.client.post("/auth/logout-all", headers=bearer(tokens[0]))

    assert response.status_code == 204
    for token in tokens:
        assert_error(front.client.get("/api/credits", headers=bearer(token)), 401, "unauthorized")
    assert front.get("/api/credits").status_code == 200
    assert log_in(front).status_code == 200


# --- hashes of before ------------------------------------------------------------------------------


def test_a_login_renews_a_hash_of_other_parameters_and_ends_no_token(front: Front) -> None:
    account_id = front.me.account.account_id
    before = log_in(front).json["token"]
    old = argon2.PasswordHasher(time_cost=2, memory_cost=64, parallelism=1).hash(PASSWORD)
    front.services.accounts.renew_password(account_id, front.me.account.password_hash, old)

    assert log_in(front, password="wrong wrong wrong").status_code == 401
    assert front.services.accounts.get(account_id).password_hash == old
    assert log_in(front).status_code == 200
    renewed = front.services.accounts.get(account_id).password_hash
    assert not front.services.passwords.is_outdated(renewed)
    assert log_in(front).status_code == 200
    assert front.services.accounts.get(account_id).password_hash == renewed
    assert front.client.get("/api/credits", headers=bearer(before)).status_code == 200


def test_a_proxy_that_is_not_trusted_is_told_of_once(
    front: Front, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        front.client.get("/healthz", headers={"X-Forwarded-For": "6.6.6.6"})
    said = caplog.text + "".join(capsys.readouterr())
    assert said.count("http.proxy_not_trusted") == 1
    assert "TRUSTED_PROXIES" in said


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/auth/login", {"email": EMAIL, "password": PASSWORD}),
        ("POST", "/auth/password", {"current": PASSWORD, "new": "another horse battery"}),
        ("POST", "/keys", {"name": "n8n"}),
        ("GET", "/keys", None),
        ("GET", "/api/webhooks/secret", None),
        ("POST", "/api/webhooks/secret/rotate", None),
        ("GET", "/api/requests", None),
        ("GET", "/api/credits", None),
    ],
)
def test_no_answer_that_holds_what_is_somebodys_is_kept_on_the_way(
    front: Front, method: str, path: str, body: dict[str, str] | None
) -> None:
    response = front.call(method, path, json=body)
    assert response.status_code in (200, 201)
    assert response.headers["Cache-Control"] == "no-store"
