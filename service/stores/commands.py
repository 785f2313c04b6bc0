"""Commands to the store, several in one round trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError, ResponseError

from service.stores.connection import Client, nodes


@dataclass(frozen=True)
class Command:
    """A command that is yet to be sent; ``raw``: its answer stays bytes."""

    args: Sequence[Any]
    raw: bool = False
    text: str = ""  # of a script, whose hash is sent

    def send(self, client: Client) -> Any:
        """Send it to a client, or put it into a pipeline."""
        options = {NEVER_DECODE: True} if self.raw else {}
        return client.execute_command(*self.args, **options)

    def with_text(self) -> Command:
        """Return the same with the script's text in place of its hash."""
        return Command(("EVAL", self.text, *self.args[2:]), self.raw)


def together(redis: Client, commands: Sequence[Command]) -> list[Any]:
    """Send commands in one round trip; return their answers.

    They are independent of each other: in a cluster they go to several nodes, and a script the store did
    not know runs after the others. Raises what the first that failed answers, when all have been sent.
    """
    if len(commands) < 2:
        return [alone(redis, command) for command in commands]
    answers = _piped(redis, commands)
    unknown = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        told = _piped(redis, [commands[index].with_text() for index in unknown])
        answers = [told.pop(0) if isinstance(answer, NoScriptError) else answer for answer in answers]
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _piped(redis: Client, commands: Sequence[Command]) -> list[Any]:
    """Return what is answered to each, exceptions too."""
    with redis.pipeline(transaction=False) as pipe:
        for command in commands:
            command.send(pipe)
        answers: list[Any] = pipe.execute(raise_on_error=False)
    return answers


def alone(redis: Client, command: Command) -> Any:
    """Send one command; return its answer."""
    try:
        return command.send(redis)
    except NoScriptError:
        return command.with_text().send(redis)


OF_ANOTHER_TYPE = {"": "of another type"}  # a hash of nothing that anybody looks for


def hashes(redis: Client, names: Sequence[str]) -> list[dict[str, str]]:
    """Return what these hashes hold; nothing for one that is not there."""
    looks = [Command(("HGETALL", name)) for name in names]
    return _typed([_answer(redis, look) for look in looks] if len(looks) < 2 else _piped(redis, looks))


def fields_of(redis: Client, name: str) -> dict[str, str]:
    """Return what one hash holds, as `hashes` does."""
    [fields] = hashes(redis, [name])
    return fields


def answers_of(pipe: Any) -> list[Any]:
    """Send what a pipeline has collected; a key of another type is answered with `OF_ANOTHER_TYPE`."""
    return _typed(pipe.execute(raise_on_error=False))


def _typed(answers: list[Any]) -> list[Any]:
    return [OF_ANOTHER_TYPE if isinstance(each, ResponseError) else each for each in tolerated(answers)]


def _answer(redis: Client, command: Command) -> Any:
    try:
        return alone(redis, command)
    except ResponseError as error:
        return error


def tolerated(answers: list[Any]) -> list[Any]:
    """Return answers, among them that a key is of another type than was asked for; raise other errors."""
    for answer in answers:
        if isinstance(answer, Exception) and not _is_of_another_type(answer):
            raise answer
    return answers


def _is_of_another_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def pages(redis: Client, pattern: str, count: int) -> Iterator[list[str]]:
    """Yield the names of all keys like ``pattern``, about ``count`` looked at for each page.

    One that is there all the while is among them, perhaps twice, unless its slot moves meanwhile.
    """
    for node in nodes(redis):
        cursor = -1
        while cursor != 0:
            cursor, names = node.scan(max(cursor, 0), match=pattern, count=count)
            yield [str(name) for name in names]
