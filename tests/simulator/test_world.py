"""Names, ids, times: the same for ever, and the way back from each."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import parse_qs, urlsplit

import pytest
from instagrapi.utils.ids import InstagramIdCodec

from workers.simulator import cdn, ids, world
from workers.simulator.media import ByteCache
from workers.simulator.names import NameBook
from workers.simulator.scenes import SCENE_CODES, scene_of_name
from workers.simulator.state import State

NOON = 1_800_000_000
NAMES = ["nasa", "instagram", "a", "x.y_z", "huge_fan", "slow_10_x", "stickers_a"]


def person(username: str) -> world.Person:
    return State().person_named(username)


@pytest.mark.parametrize("username", NAMES)
def test_stories_are_a_function_of_name_and_clock(username):
    items = world.stories(person(username), NOON)
    assert items == world.stories(person(username), NOON + 0.5)
    assert items == sorted(items, key=lambda item: item.taken_at)
    for item in items:
        assert NOON - world.DAY < item.taken_at <= NOON
        assert 2**53 < item.pk < 2**63
        assert ids.split_media_pk(item.pk) == (ids.owner_tag(item.owner_id), item.index, item.taken_at)
        assert ids.shortcode(item.pk) == InstagramIdCodec.encode(item.pk)


def test_an_item_expires_after_a_day_and_another_takes_its_place():
    before = world.stories(person("nasa"), NOON)
    oldest = before[0]
    after = world.stories(person("nasa"), oldest.taken_at + world.DAY)
    assert world.stories(person("nasa"), oldest.taken_at + world.DAY - 1)[0] == oldest
    assert after[:-1] == before[1:]
    assert after[-1].taken_at == oldest.taken_at + world.DAY
    assert after[-1].pk != oldest.pk


def test_ordinary_people_have_one_to_six_items_of_both_kinds():
    reels = [world.stories(person(f"person{number}"), NOON) for number in range(200)]
    assert {len(reel) for reel in reels} == {1, 2, 3, 4, 5, 6}
    assert all({item.is_video for item in reel} == {True, False} for reel in reels if len(reel) > 1)


@pytest.mark.parametrize("username", [*NAMES, *(f"{scene}_anna" for scene in SCENE_CODES)])
def test_an_id_alone_tells_scene_and_a_name_that_maps_back(username):
    user_id = ids.user_id_of(username)
    assert 10**14 <= user_id < 10**15
    assert ids.scene_of_id(user_id) == scene_of_name(username)
    made_up = ids.username_of(user_id)
    assert ids.is_username(made_up)
    assert ids.user_id_of(made_up) == user_id
    assert scene_of_name(made_up) == scene_of_name(username)


def test_stories_do_not_depend_on_the_name_being_known():
    stranger = State().person(ids.user_id_of("nasa"))
    assert stranger.username != "nasa"
    assert world.stories(stranger, NOON) == world.stories(person("nasa"), NOON)


def test_ids_made_elsewhere_stand_for_somebody():
    somebody = State().person(1001)
    assert (somebody.username, somebody.scene.name) == ("id.1001", "normal")
    assert ids.user_id_of("id.1001") == 1001
    assert world.highlights(somebody) == []


def test_ids_differ():
    assert len({ids.user_id_of(f"load_test_{number}") for number in range(20_000)}) == 20_000


def test_names_outlive_the_process_in_a_data_folder(tmp_path):
    user_id = NameBook(tmp_path).remember("nasa")
    reopened = NameBook(tmp_path)
    assert reopened.username(user_id) == "nasa"
    reopened.remember("nasa")
    assert (tmp_path / "usernames.txt").read_text() == "nasa\n"
    assert NameBook().username(user_id) != "nasa"


def test_a_name_seen_later_replaces_the_made_up_one():
    book = NameBook()
    made_up = book.username(ids.user_id_of("nasa"))
    assert book.remember("nasa") == ids.user_id_of("nasa") == book.remember(made_up)
    assert book.username(ids.user_id_of("nasa")) == "nasa"
    assert book.with_tag(ids.owner_tag(ids.user_id_of("nasa"))) == [ids.user_id_of("nasa")]


def test_addresses_expire():
    item = world.stories(person("nasa"), NOON)[0]
    url = cdn.photo_url(item, 1080, 1920, NOON)
    path, query = url.removeprefix(f"https://{cdn.HOST}").split("?")
    signed = dict(pair.split("=") for pair in query.split("&"))
    end = cdn.item_expiry(item, NOON)
    assert cdn.complaint(path, signed["oh"], signed["oe"], end - 1) is None
    assert cdn.complaint(path, signed["oh"], signed["oe"], end) == "URL signature expired"
    assert cdn.photo_url(item, 1080, 1920, NOON + 1) == url
    assert cdn.asset_of(path) == cdn.Asset(item.owner_id, item.pk, 1080, 1920)


def test_addresses_end_sooner_on_demand():
    item = world.stories(person("nasa"), NOON)[0]
    token = cdn.lifetime.set(30)
    try:
        urls = [
            cdn.photo_url(item, 1080, 1920, NOON),
            cdn.video_url(item, NOON),
            cdn.avatar_url(1, 150, NOON),
        ]
    finally:
        cdn.lifetime.reset(token)
    assert {url.rpartition("oe=")[2] for url in urls} == {f"{NOON + 30:X}"}


def test_a_picture_says_whose_it_is_as_instagrams_do():
    item = world.stories(person("nasa"), NOON)[0]
    query = parse_qs(urlsplit(cdn.photo_url(item, 1080, 1920, NOON)).query)
    assert query["ig_cache_key"] == [b64encode(str(item.pk).encode()).decode() + ".3-ccb7-5"]
    assert "%3D" in cdn.photo_url(item, 1080, 1920, NOON)
    assert "ig_cache_key" not in cdn.video_url(item, NOON) + cdn.avatar_url(1, 150, NOON)


def test_a_pk_tells_its_owner():
    nasa, other = person("nasa"), person("natgeo")
    items = world.stories(nasa, NOON) + [item for each in world.highlights(nasa) for item in each.items]
    assert all(world.posted(nasa, item.pk) for item in items)
    assert not any(world.posted(other, item.pk) for item in items)
    assert not world.posted(nasa, items[0].pk + 1)


def test_the_media_cache_is_bounded():
    cache = ByteCache(100)
    for key in range(10):
        cache.put(key, bytes(30))
    cache.put(9, bytes(40))
    assert cache.size <= 100
    assert cache.get(0) is None
    assert len(cache.get(9)) == 40
