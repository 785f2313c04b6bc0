"""How each role starts where something is wrong: in one line, without a secret, with the right exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis

from service.cli.demo import free_ports
from tests.conftest import await_true, running_valkey
from tests.e2e import unit
from tests.e2e.stack import ROOT, SERVICE
from tests.e2e.standin import LoadingStore

FAILING = Path(__file__).with_name("failing")
PASSWORD = "pa\"ss/w@rd 'of' the store"
SECRETS = {
    "SECRET_KEY": "the-secret-key-of-this-installation-0123456789",
    "METRICS_TOKEN": "the-metrics-token-0123",
    "HIKERAPI_TOKEN": "the-hikerapi-token-0123",
    "GRAPH_ACCOUNTS": json.dumps({"nasa": {"id": "1784", "token": "the-graph-token-0123"}}),
}
HIDDEN = [
    *(value for name, value in SECRETS.items() if name != "GRAPH_ACCOUNTS"),
    "the-graph-token-0123",
    PASSWORD,
    quote(PASSWORD, safe=""),
    json.dumps(PASSWORD)[1:-1],
    repr(PASSWORD)[1:-1],
]
WRONG_SETTING, FAILED = 2, 1
PATIENCE = 60.0


@dataclass(frozen=True)
class Ended:
    """How a process has ended."""

    role: str
    code: int
    output: str

    def events(self, name: str) -> list[dict]:
        lines = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def is_one_line(self) -> None:
        assert self.output.count("\n") == 1, self.output
        self.holds_no_secret()

    def holds_no_secret(self) -> None:
        shown = [secret for secret in HIDDEN if secret in self.output]
        assert not shown, self.output
        assert "locals" not in self.output

    def stays_down(self) -> bool:
        return not unit.is_started_again(self.role, self.code)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a store that wants a password."""
    [port] = free_ports(1)
    folder = tmp_path_factory.mktemp("store")
    with running_valkey(folder, port):
        with Redis(port=port) as redis:
            redis.config_set("requirepass", PASSWORD)
        yield port


@pytest.fixture
def environment(store: int, tmp_path: Path) -> dict[str, str]:
    [port] = free_ports(1)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "PORT": str(port),
        "ARCHIVE_URL": "",
        "REDIS_URL": url(store),
        "SOURCES": "instagrapi,hikerapi,graph",
        **SECRETS,
    }


def url(port: int, database: int = 0, password: str = PASSWORD) -> str:
    return f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


class Process:
    """A role, started as the shipped unit starts it; ended when the test is."""

    def __init__(self, role: str, environment: Mapping[str, str], folder: Path) -> None:
        self.role = role
        self._log = folder / f"{role}.log"
        with self._log.open("wb") as log:
            self._program = subprocess.Popen(
                unit.command(role),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def so_far(self) -> Ended:
        code = self._program.poll()
        whole = self._log.read_text(errors="replace")
        return Ended(self.role, -1000 if code is None else code, whole[: whole.rfind("\n") + 1])

    def runs(self) -> bool:
        return self._program.poll() is None

    def ends(self) -> Ended:
        """Return how it has ended; it is killed where it does not."""
        try:
            self._program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.role} goes on\n{self._log.read_text()[-3000:]}") from None
        return self.so_far

    def told_to_end(self) -> Ended:
        self._program.send_signal(signal.SIGTERM)
        return self.ends()

    def kill(self) -> None:
        self._program.kill()
        self._program.wait()


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(role: str, **settings: str) -> Process:
        changed = {name: value for name, value in {**environment, **settings}.items() if value != "unset"}
        process = Process(role, changed, tmp_path)
        started.append(process)
        return process

    yield begin
    for each in started:
        if each.runs():
            each.kill()


Start = Callable[..., Process]

EVERY_ROLE = pytest.mark.parametrize("role", SERVICE)


# --- what only a person can mend: one line, exit 2, and it stays down ---------------------------------


@EVERY_ROLE
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"WEBHOOK_CA_FILE": "/nope"}, "WEBHOOK_CA_FILE"),
        ({"WEBHOOK_CA_FILE": __file__}, "WEBHOOK_CA_FILE"),
        ({"TLS_CERT": "/nope", "TLS_KEY": "/nope"}, "TLS_CERT"),
        ({"SECRET_KEY": "unset", "SECRET_KEY_FILE": "/nope"}, "SECRET_KEY"),
        ({"SECRET_KEY": "unset", "SECRET_KEY_FILE": "/"}, "SECRET_KEY"),
        ({"GRAPH_ACCOUNTS": '{"nasa": {"id": 7, "token": "the-graph-token-0123"}}'}, "GRAPH_ACCOUNTS"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
    ],
    ids=["no CA file", "bad CA file", "no certificate", "no secret file", "secret folder", "graph", "level"],
)
def test_a_wrong_setting_is_one_line_for_every_role(
    start: Start, role: str, settings: dict[str, str], named: str
) -> None:
    ended = start(role, **settings).ends()
    ended.is_one_line()
    assert ended.code == WRONG_SETTING
    assert named in ended.output
    assert ended.stays_down()


@EVERY_ROLE
def test_a_wrong_password_of_the_store_ends_a_start_at_once(start: Start, store: int, role: str) -> None:
    for wrong in (url(store, password="the-wrong-password-0123"), f"redis://127.0.0.1:{store}/0"):
        ended = start(role, REDIS_URL=wrong).ends()
        ended.is_one_line()
        assert (ended.code, ended.stays_down()) == (WRONG_SETTING, True)
        assert "REDIS_URL" in ended.output
        assert "the-wrong-password-0123" not in ended.output


@EVERY_ROLE
@pytest.mark.parametrize(("database", "named"), [(15, "BROKER_URL"), (16, "REDIS_URL"), (99, "REDIS_URL")])
def test_a_database_that_is_not_there_is_refused(
    start: Start, store: int, role: str, database: int, named: str
) -> None:
    ended = start(role, REDIS_URL=url(store, database), ENVIRONMENT="development").ends()
    ended.is_one_line()
    assert (ended.code, ended.stays_down()) == (WRONG_SETTING, True)
    assert ended.output.startswith(f"storyhook: {named}: ")
    assert "16 (0 to 15)" in ended.output
    assert "REDIS_URL" in ended.output


@pytest.mark.parametrize("role", SERVICE)
def test_a_user_who_may_do_nothing_is_refused(start: Start, store: int, role: str) -> None:
    with Redis(port=store, password=PASSWORD) as redis:
        redis.execute_command("ACL", "SETUSER", "nobody", "on", ">secret-of-nobody", "~*", "+ping", "+select")
    ended = start(role, REDIS_URL=f"redis://nobody:secret-of-nobody@127.0.0.1:{store}/0").ends()
    assert (ended.code, ended.stays_down()) == (WRONG_SETTING, True)
    assert "NOPERM" in ended.output or "permission" in ended.output
    assert "secret-of-nobody" not in ended.output
    assert "Traceback" not in ended.output


# --- what passes: it is waited for --------------------------------------------------------------------


@EVERY_ROLE
@pytest.mark.parametrize("what", ["nobody", "no such host", "loading", "silent", "full", "failing over"])
def test_what_passes_is_waited_for_and_told_at_once(start: Start, role: str, what: str) -> None:
    answers = {
        "loading": b"-LOADING Valkey is loading the dataset in memory\r\n",
        "silent": b"",
        "full": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "failing over": b"-MASTERDOWN Link with MASTER is down\r\n",
    }
    with LoadingStore(0, answers.get(what, b"")) as standin:
        port = standin.port if what in answers else free_ports(1)[0]
        host = "no-such-host.invalid" if what == "no such host" else "127.0.0.1"
        process = start(role, REDIS_URL=url(port).replace("127.0.0.1", host))
        await_true(lambda: not process.runs() or process.so_far.events("start.waiting"), PATIENCE)
        assert process.runs(), process.so_far.output
        [told] = process.so_far.events("start.waiting")
        assert f"{host}:{port}" in told["waits_for"]
        ended = process.told_to_end()
    assert ended.code in {0, -signal.SIGTERM, 143}
    assert ended.stays_down()
    ended.holds_no_secret()
    assert "Traceback" not in ended.output


@EVERY_ROLE
def test_a_store_that_goes_away_between_two_looks_is_waited_for(
    start: Start, store: int, tmp_path: Path, role: str
) -> None:
    with LoadingStore(store) as standin:
        standin.loaded()
        # It goes away after the first look, and stays away.
        away = tmp_path / "away"
        away.mkdir()
        (away / "sitecustomize.py").write_text(GOES_AWAY)
        process = start(role, REDIS_URL=url(standin.port), PYTHONPATH=f"{away}{os.pathsep}{ROOT}")
        await_true(lambda: not process.runs() or process.so_far.events("start.waiting"), PATIENCE)
        assert process.runs(), process.so_far.output
        ended = process.told_to_end()
    assert ended.stays_down()
    assert "Traceback" not in ended.output
    ended.holds_no_secret()


# A process in which every command fails from the first look at what kind of store it is.
GOES_AWAY = """
from redis import Redis, exceptions
answer = Redis.execute_command
gone = []
def execute_command(self, *args, **options):
    if args[0] == "INFO" or gone:
        gone.append(1)
        raise exceptions.ConnectionError("Connection refused")
    return answer(self, *args, **options)
Redis.execute_command = execute_command
"""


def test_a_store_that_shows_nothing_of_itself_is_taken_with_a_warning(start: Start, store: int) -> None:
    with Redis(port=store, password=PASSWORD) as redis:
        redis.execute_command(
            "ACL", "SETUSER", "managed", "on", ">secret-of-managed", "~*", "&*", "+@all", "-info", "-config"
        )
    process = start("web", REDIS_URL=f"redis://managed:secret-of-managed@127.0.0.1:{store}/0")
    await_true(lambda: not process.runs() or process.so_far.events("process.ready"), PATIENCE)
    assert process.so_far.events("store.not_shown")
    ended = process.told_to_end()
    assert ended.code == 0
    assert "Traceback" not in ended.output


# --- what nobody foresaw: one line, exit 1, and it is tried again -------------------------------------

EVERYWHERE = ["service.config:load", "service.stores.connection:open_store", "service.bootstrap:assemble"]
STEPS = {
    "web": [
        *EVERYWHERE,
        "service.web.server:listen",
        "service.web.server:configured",
        "service.app:create_app",
        "service.lifecycle:settle_in",
    ],
    "worker": [
        *EVERYWHERE,
        "workers.sources.build:build_source",
        "workers.pulse:Pulse.__init__",
        "workers.consumer:Consumer.__init__",
    ],
    "deliverer": [*EVERYWHERE, "service.broker:make_celery", "workers.webhooks.sender:Sender.__init__"],
    "beat": [
        *EVERYWHERE,
        "workers.schedule:configure_beat",
        "workers.schedule:LastingScheduler.setup_schedule",
    ],
}


@pytest.mark.parametrize(("role", "step"), [(role, step) for role, steps in STEPS.items() for step in steps])
def test_a_start_that_fails_shows_no_secret(start: Start, role: str, step: str) -> None:
    path = f"{FAILING}{os.pathsep}{ROOT}"
    ended = start(role, FAIL_AT=step, PYTHONPATH=path).ends()
    ended.holds_no_secret()
    assert "injected" in ended.output, ended.output
    assert (ended.code, ended.stays_down()) == (FAILED, False)
    [told] = ended.events("start.failed")
    assert told["error"].startswith("RuntimeError: injected")
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_is_shown_at_debug_and_has_no_variables(start: Start, log_format: str) -> None:
    path = f"{FAILING}{os.pathsep}{ROOT}"
    step = "service.bootstrap:assemble"
    ended = start("worker", FAIL_AT=step, PYTHONPATH=path, LOG_LEVEL="debug", LOG_FORMAT=log_format).ends()
    assert "Traceback" in ended.output
    ended.holds_no_secret()


def test_several_web_processes_end_as_one_does(start: Start) -> None:
    path = f"{FAILING}{os.pathsep}{ROOT}"
    ended = start("web", WEB_WORKERS="2", FAIL_AT="service.app:create_app", PYTHONPATH=path).ends()
    ended.holds_no_secret()
    assert ended.code == FAILED
    assert "Traceback" not in ended.output


# --- what a role says when it is up -------------------------------------------------------------------


@EVERY_ROLE
def test_a_role_that_is_up_says_so_in_one_line(start: Start, store: int, role: str) -> None:
    process = start(role, SIMULATED_INSTAGRAM_URL="http://127.0.0.1:9")
    await_true(lambda: not process.runs() or process.so_far.events("process.simulated"), PATIENCE)
    ended = process.told_to_end()
    [ready] = ended.events("process.ready")
    assert (ready["role"], ready["instagram"]) == (role, "simulated")
    assert ready["store"] == f"127.0.0.1:{store}, database 0"
    [warned] = ended.events("process.simulated")
    assert warned["level"] == "warning"
    assert (ended.code, ended.stays_down()) == (0, True)
    ended.holds_no_secret()
    assert [line for line in ended.output.splitlines() if not line.startswith("{")] == []


@EVERY_ROLE
def test_a_role_whose_store_went_away_ends_when_told_to(start: Start, store: int, role: str) -> None:
    with LoadingStore(store) as standin:
        standin.loaded()
        process = start(role, REDIS_URL=url(standin.port))
        await_true(lambda: not process.runs() or process.so_far.events("process.ready"), PATIENCE)
    ended = process.told_to_end()
    assert ended.code == 0
    ended.holds_no_secret()
