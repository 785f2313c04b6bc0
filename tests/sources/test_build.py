"""The upstreams that the settings name, put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service import config
from service.config import Settings
from service.domain.operations import STORY, USER, Ask
from service.domain.targets import STORY_ID, USERNAME, Target
from tests.sources.subjects import ask, introduce
from workers.sources.build import build_source
from workers.sources.fallback import Fallback


class Nobody:
    """A pool of sessions and ids without any."""

    sessions = instagram_ids = None


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY", "a secret for tests only, long enough to be accepted")
    return config.load()


@pytest.mark.parametrize("name", ["instagrapi", "hikerapi", "web"])
def test_a_single_source_stands_alone(settings: Settings, name: str) -> None:
    named = replace(settings, upstreams=replace(settings.upstreams, sources=(name,), hikerapi_token="k"))
    assert build_source(named, Nobody()).name == name  # type: ignore[arg-type]


def test_all_sources_ask_the_simulated_instagram_without_any_key(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, simulator: str
) -> None:
    monkeypatch.setenv("SOURCES", "web,hikerapi")
    monkeypatch.setenv("SIMULATED_INSTAGRAM_URL", simulator)
    source = build_source(config.load(), Nobody())  # type: ignore[arg-type]
    assert isinstance(source, Fallback)
    introduce(simulator, "otto")
    assert source.fetch(Ask(USER, Target(USERNAME, "otto"))).source == "web"
    assert source.fetch(ask(STORY, STORY_ID, "otto")).source == "hikerapi"
