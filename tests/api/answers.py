"""What an upstream answers to each operation: nasa as the simulated Instagram has it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from service.domain.operations import HIGHLIGHT, HIGHLIGHTS, STORIES, STORY, USER, Ask
from tests.upstreams import StoriesByName
from workers.simulator import payload_reels, payload_users, world
from workers.simulator.ids import user_id_of
from workers.simulator.scenes import scene_of_name
from workers.sources.contract import Found, reel_found

# Half a day on, so that none of these stories expires between the start of a run and its last test.
NOW = time.time() + 43_200
NASA = world.Person(user_id_of("nasa"), "nasa", scene_of_name("nasa"))
USER_OBJECT = payload_users.user_full(NASA, NOW)
REEL = payload_reels.story_feed(NASA, world.stories(NASA, NOW), NOW)["reel"]
TRAY = [payload_reels.highlight_tray_entry(NASA, each, NOW) for each in world.highlights(NASA)]
HIGHLIGHT_REEL = payload_reels.highlight_reel(NASA, world.highlights(NASA)[0], NOW)

ANSWERS = {
    STORIES: reel_found(str(NASA.id), USER_OBJECT, REEL),
    STORY: Found({"id": NASA.id, "user": REEL["user"], "items": REEL["items"][:1]}),
    HIGHLIGHTS: Found({"id": NASA.id, "user": USER_OBJECT, "tray": TRAY}),
    HIGHLIGHT: Found(HIGHLIGHT_REEL),
    USER: Found({"id": NASA.id, "user": USER_OBJECT}),
}


class EverySource(StoriesByName):
    """An upstream that has one answer for each operation, and remembers what it was asked."""

    name = "fake"

    def __init__(self, **changed: Found | Exception) -> None:
        self.answers: Mapping[str, Found | Exception] = {**ANSWERS, **changed}
        self.asked: list[Ask] = []

    def serves(self, ask: Ask) -> bool:
        return ask.operation in self.answers

    def fetch(self, ask: Ask) -> Found:
        self.asked.append(ask)
        answer = self.answers[ask.operation]
        if isinstance(answer, Exception):
            raise answer
        return answer.given_by(self.name)
