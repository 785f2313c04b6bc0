"""Every source over the simulated Instagram, ready to be asked: what the contract's tests are run on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, OPERATIONS, STORIES, STORY, USER, Ask
from service.domain.targets import HIGHLIGHT_ID, STORY_ID, USER_ID, USERNAME, Target
from service.upstreams import GraphAccount
from workers.simulator.ids import scene_of_id, user_id_of
from workers.simulator.world import Person, highlights, stories
from workers.sources.accounts import client_factory
from workers.sources.contract import Source
from workers.sources.fallback import Fallback
from workers.sources.graph import GraphSource
from workers.sources.hikerapi import HikerApiSource
from workers.sources.web import WebSource

TOKEN = "EAAsecret-of-the-operator"
ASKED = tuple(
    (operation, kind)
    for operation in (STORIES, STORY, HIGHLIGHTS, HIGHLIGHT, USER)
    for kind in OPERATIONS[operation].targets
)
# Instagram's own profile look-ups stay healthy whatever the scene.
HEALTHY = {("instagrapi", USER), ("web", USER)}


@dataclass
class Subject:
    """A source under test; ``members`` are those who may have served, itself when it is but one."""

    source: Source
    members: Sequence[Source]

    @property
    def names(self) -> set[str]:
        return {member.name for member in self.members}

    def is_spared(self, asked: Ask) -> bool:
        """Tell whether somebody answers in spite of the scene."""
        return any(
            (member.name, asked.operation) in HEALTHY and member.serves(asked) for member in self.members
        )


MEMBERS = {
    "instagrapi": ("instagrapi",),
    "hikerapi": ("hikerapi",),
    "graph": ("graph",),
    "web": ("web",),
    "fallback": ("hikerapi", "instagrapi"),
}


def make(kind: str, url: str, world: Callable[..., Any], names: tuple[str, ...], timeout: float) -> Subject:
    """Return a source of that kind; ``names`` are those whom the Graph API's tokens are for."""
    limits = {"connect_timeout": timeout, "read_timeout": timeout}
    makers: dict[str, Callable[[], Source]] = {
        "instagrapi": lambda: world(url, accounts=3, read_timeout=timeout).source,
        "hikerapi": lambda: HikerApiSource(TOKEN, url, **limits),
        "graph": lambda: GraphSource(
            {name: GraphAccount(str(user_id_of(name)), TOKEN) for name in names}, url, **limits
        ),
        "web": lambda: WebSource(client_factory(redirect_to=url, **limits)),
    }
    sources = [makers[member]() for member in MEMBERS[kind]]
    return Subject(sources[0] if len(sources) == 1 else Fallback(sources), sources)


def person(name: str) -> Person:
    user_id = user_id_of(name)
    scene = scene_of_id(user_id)
    assert scene is not None
    return Person(user_id, name, scene)


def ask(operation: str, kind: str, name: str, *, force: bool = False) -> Ask:
    """Return what is asked about the simulated person of that name: their latest story, first highlight."""
    value = {
        USERNAME: lambda: name,
        USER_ID: lambda: str(user_id_of(name)),
        STORY_ID: lambda: str(stories(person(name), time.time())[-1].pk),
        HIGHLIGHT_ID: lambda: str(highlights(person(name))[0].number),
    }[kind]()
    return Ask(operation, Target(kind, value), force)


def introduce(url: str, *names: str) -> None:
    """Let the simulated Instagram see who there is: it knows stories by id only of people it has seen."""
    for name in names:
        answer = requests.get(
            f"{url}/v2/user/by/username",
            params={"username": name},
            headers={"x-access-key": "any"},
            timeout=60,
        )
        assert answer.status_code in {200, 404, 408, 500}
