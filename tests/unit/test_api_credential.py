"""Where a call has its key or token."""

from __future__ import annotations

import pytest

from service.api.context import credential_in


@pytest.mark.parametrize(
    ("path", "query", "headers", "credential"),
    [
        ("/api/credits", "", {"HTTP_AUTHORIZATION": "Bearer key"}, "key"),
        ("/api/credits", "", {"HTTP_AUTHORIZATION": "bearer  key "}, "key"),
        ("/api/credits", "", {"HTTP_AUTHORIZATION": "Basic key"}, ""),
        ("/api/credits", "", {"HTTP_X_ACCESS_KEY": "key"}, "key"),
        ("/api/credits", "access_key=key", {}, ""),
        ("/v1/user/stories", "access_key=key", {}, "key"),
        ("/v1/user/stories", "user_id=5&access_key=a%2Bb", {"HTTP_X_ACCESS_KEY": "other"}, "a+b"),
        ("/v1/user/stories", "access_key=", {"HTTP_X_ACCESS_KEY": "key"}, "key"),
        ("/v1/user/stories", "", {}, ""),
    ],
)
def test_a_key_stands_in_the_headers_and_for_hikerapi_in_the_query(
    path: str, query: str, headers: dict[str, str], credential: str
) -> None:
    assert credential_in({"PATH_INFO": path, "QUERY_STRING": query, **headers}) == credential
