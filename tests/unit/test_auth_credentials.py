"""Passwords, tokens and API keys."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import Any

import argon2
import jwt
import pytest
import time_machine
from cryptography.fernet import InvalidToken

from service.auth.api_keys import ApiKeys
from service.auth.passwords import Passwords
from service.auth.tokens import JwtTokens
from service.domain.accounts import Account
from service.domain.errors import Unauthorized
from service.secrets import at_rest, derive

KEY = b"k" * 32
ACCOUNT = Account("acc_07x", "anna@example.com", "", 0, token_version=3)


# --- passwords -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords()


def test_a_password_is_known_again_and_another_is_not(passwords: Passwords) -> None:
    stored = passwords.hash("correct horse battery")
    assert passwords.verify(stored, "correct horse battery")
    assert not passwords.verify(stored, "correct horse batterie")


def test_the_same_password_is_stored_differently_each_time_and_never_in_clear(passwords: Passwords) -> None:
    first, second = passwords.hash("correct horse battery"), passwords.hash("correct horse battery")
    assert first != second
    assert first.startswith("$argon2id$")
    assert "correct" not in first


def test_nobody_has_no_password_not_even_the_one_that_is_checked_in_their_place(passwords: Passwords) -> None:
    assert not passwords.verify(None, "nobody's password")
    assert not passwords.verify("", "nobody's password")


def test_a_damaged_hash_matches_nothing(passwords: Passwords) -> None:
    assert not passwords.verify("$argon2id$broken", "correct horse battery")


# --- tokens --------------------------------------------------------------------------------------


@pytest.fixture
def tokens() -> JwtTokens:
    return JwtTokens(KEY, lifetime=3600)


def signed(key: bytes | str = KEY, algorithm: str = "HS256", **changes: Any) -> str:
    """A token as the service makes it, with claims changed, or left out where None."""
    now = int(time.time())
    claims = {
        "iss": "storyhook",
        "sub": "acc_07x",
        "ver": 3,
        "iat": now,
        "exp": now + 60,
        "jti": "j",
    } | changes
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None}, key, algorithm=algorithm
    )


def test_a_token_names_its_account_and_version(tokens: JwtTokens) -> None:
    assert tokens.read(tokens.issue(ACCOUNT)) == ("acc_07x", 3)
    assert tokens.read(signed()) == ("acc_07x", 3)


def test_two_tokens_of_one_second_differ(tokens: JwtTokens) -> None:
    assert tokens.issue(ACCOUNT) != tokens.issue(ACCOUNT)


def test_a_token_holds_for_its_lifetime_and_no_longer(tokens: JwtTokens) -> None:
    with time_machine.travel(1_800_000_000, tick=False) as clock:
        token = tokens.issue(ACCOUNT)
        clock.shift(3599)
        assert tokens.read(token) == ("acc_07x", 3)
        clock.shift(1)
        with pytest.raises(Unauthorized, match="expired"):
            tokens.read(token)


def test_a_token_signed_with_another_key_is_refused(tokens: JwtTokens) -> None:
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(signed(key=b"x" * 32))


def test_a_token_without_a_signature_is_refused(tokens: JwtTokens) -> None:
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(signed(key="", algorithm="none"))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_token_of_another_algorithm_is_refused_although_the_key_is_right(
    tokens: JwtTokens, algorithm: str
) -> None:
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(signed(key=KEY * 2, algorithm=algorithm))
    with pytest.raises(Unauthorized, match="not valid"):
        JwtTokens(KEY * 2, 60).read(signed(key=KEY * 2, algorithm=algorithm))


def test_a_token_whose_claims_were_changed_is_refused(tokens: JwtTokens) -> None:
    head, body, signature = signed().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "==")) | {"sub": "acc_07y"}
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(f"{head}.{forged}.{signature}")


@pytest.mark.parametrize("claim", ["iss", "sub", "ver", "iat", "exp", "jti"])
def test_a_token_that_lacks_a_claim_is_refused(tokens: JwtTokens, claim: str) -> None:
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(signed(**{claim: None}))


@pytest.mark.parametrize(
    "changes",
    [{"iss": "somebody"}, {"sub": 7}, {"ver": "3"}, {"exp": "never"}, {"iat": 4_000_000_000,
     "exp": 4_000_000_060}, {"nbf": 4_000_000_000}],
)  # fmt: skip
def test_a_token_with_a_claim_that_does_not_hold_is_refused(
    tokens: JwtTokens, changes: dict[str, Any]
) -> None:
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(signed(**changes))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "é.é.é", "e30.e30.e30", "null", "{}", " ", "a" * 10_000]
)
def test_what_is_no_token_is_refused(tokens: JwtTokens, text: str) -> None:
    with pytest.raises(Unauthorized, match="not valid"):
        tokens.read(text)


# --- API keys ------------------------------------------------------------------------------------


@pytest.fixture
def mint() -> ApiKeys:
    return ApiKeys(KEY)


def test_a_key_is_found_by_its_first_part_and_proven_by_the_whole(mint: ApiKeys) -> None:
    secret, key = mint.mint("acc_07x", "laptop")
    assert mint.key_id(secret) == key.key_id
    assert mint.matches(key, secret)
    assert (key.account_id, key.name) == ("acc_07x", "laptop")


def test_a_key_with_one_character_changed_does_not_match(mint: ApiKeys) -> None:
    secret, key = mint.mint("acc_07x", "laptop")
    for place in range(len("sk_live_"), len(secret)):
        other = secret[:place] + ("a" if secret[place] != "a" else "b") + secret[place + 1 :]
        assert not mint.matches(key, other)


def test_what_is_stored_of_a_key_does_not_let_anyone_call(mint: ApiKeys) -> None:
    secret, key = mint.mint("acc_07x", "laptop")
    proof = secret.removeprefix("sk_live_" + key.key_id)
    assert len(proof) == 32
    assert proof not in repr(key)
    assert secret.startswith(key.prefix)
    assert len(key.prefix) <= len("sk_live_") + 4


def test_another_installations_keys_do_not_match(mint: ApiKeys) -> None:
    secret, key = mint.mint("acc_07x", "laptop")
    assert not ApiKeys(b"x" * 32).matches(key, secret)


def test_a_key_without_a_digest_matches_nothing(mint: ApiKeys) -> None:
    secret, key = mint.mint("acc_07x", "laptop")
    assert not mint.matches(replace(key, digest=""), secret)


def test_keys_are_never_made_twice(mint: ApiKeys) -> None:
    assert len({mint.mint("acc_07x", "n")[0] for _ in range(200)}) == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk_live_",
        "sk_test_" + "a" * 44,
        "sk_live_" + "a" * 43,
        "sk_live_" + "a" * 45,
        "sk_live_" + "é" * 44,
    ],
)
def test_what_is_no_key_names_none(mint: ApiKeys, text: str) -> None:
    assert mint.key_id(text) is None


# --- what they are signed with -------------------------------------------------------------------


def test_each_purpose_has_its_own_key_and_the_same_one_every_time() -> None:
    made = {derive("s" * 32, purpose) for purpose in ("tokens", "api-keys", "at-rest")}
    assert len(made) == 3
    assert derive("s" * 32, "tokens") in made
    assert derive("t" * 32, "tokens") not in made


def test_what_is_encrypted_at_rest_is_read_with_the_same_secret_key_only() -> None:
    token = at_rest("s" * 32).encrypt(b"whsec_abc")
    assert b"whsec" not in token
    assert at_rest("s" * 32).decrypt(token) == b"whsec_abc"
    with pytest.raises(InvalidToken):
        at_rest("t" * 32).decrypt(token)


def test_a_check_takes_little_memory_and_a_hash_of_before_is_still_known_and_outdated(
    passwords: Passwords,
) -> None:
    before = argon2.PasswordHasher(time_cost=3, memory_cost=65_536, parallelism=4).hash("correct horse")
    assert passwords.verify(before, "correct horse")
    assert passwords.is_outdated(before)
    after = passwords.hash("correct horse")
    assert not passwords.is_outdated(after)
    assert argon2.extract_parameters(after).memory_cost <= 20_000  # KiB
