"""The stall watch: told once, with every stack, and never in the way."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlwatch import Watch
from rlwatch.stall import GRACE, KNOWN, StallWatch

pytestmark = pytest.mark.usefixtures("elsewhere")


class Told(list[tuple[str, int, str, dict[str, Any]]]):
    """What a stall watch told."""

    def __call__(self, *event: Any) -> None:
        self.append(event)

    def kinds(self) -> list[str]:
        """The kinds in order."""
        return [event[0] for event in self]


class Clock:
    """Time that passes when told to."""

    now = 1000.0

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        return self.now


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the stall watch."""
    clock = Clock()
    monkeypatch.setattr("rlwatch.stall.time", clock)
    return clock


@pytest.fixture
def stall(told: Told, tmp_path: Path) -> Iterator[StallWatch]:
    """A stall after 3 usual steps and 10 s at least; its thread does not look by itself."""
    watch = StallWatch(told, lambda: tmp_path, times=3.0, seconds=10.0, tick=3600.0)
    yield watch
    watch.stop()


def wait_for(what: Callable[[], bool]) -> None:
    """For real threads: give them 5 s."""
    end = time.monotonic() + 5.0
    while not what() and time.monotonic() < end:
        time.sleep(0.005)


def pass_by(stall: StallWatch, clock: Clock, seconds: float) -> None:
    """Time goes by; the thread would look every second."""
    for _ in range(int(seconds)):
        clock.now += 1.0
        stall.check()


def beats(stall: StallWatch, clock: Clock, count: int, seconds: float = 1.0, start: int = 0) -> None:
    """Steps that come in time, the last one just now."""
    for step in range(start, start + count):
        pass_by(stall, clock, seconds)
        stall.beat(step)
    stall.check()


def test_a_stall_is_told_once_and_its_end_too(stall: StallWatch, clock: Clock, told: Told) -> None:
    """However long it lasts: one report, and one word when steps come again."""
    beats(stall, clock, 10)
    pass_by(stall, clock, 10)
    assert told == []
    pass_by(stall, clock, 500)
    assert told.kinds() == ["stall"]
    _, step, message, facts = told[0]
    assert step == 9
    assert message.startswith("no step for 11 s (usually 1 s); the training thread is in ")
    assert (facts["seconds"], facts["usual_seconds"]) == (11.0, 1.0)
    beats(stall, clock, 3, start=10)
    assert told.kinds() == ["stall", "resumed"]
    assert told[1][1:3] == (10, "a step came again after 511 s")


def test_the_next_stall_is_told_again(stall: StallWatch, clock: Clock, told: Told) -> None:
    """If it is longer than the pause that was recovered from."""
    beats(stall, clock, 10)
    pass_by(stall, clock, 20)
    beats(stall, clock, 10, start=10)
    pass_by(stall, clock, 40)
    assert told.kinds() == ["stall", "resumed", "stall"]


def test_all_stacks_are_written(stall: StallWatch, clock: Clock, told: Told, tmp_path: Path) -> None:
    """The training thread's first, the innermost call last; our own is left out."""
    hold = threading.Event()
    helper = threading.Thread(target=hold.wait, name="helper")
    helper.start()
    beats(stall, clock, 10)
    looking = threading.Thread(target=pass_by, args=(stall, clock, 20), name="looking")
    looking.start()
    looking.join()
    hold.set()
    helper.join()
    written = (tmp_path / "stalls" / "9.txt").read_text()
    assert told[0][3]["stacks"] == str(tmp_path / "stalls" / "9.txt")
    assert "threading.py" in told[0][3]["place"]
    assert written.index("thread MainThread") < written.index("thread helper")
    assert "test_all_stacks_are_written" in written
    assert "thread looking" not in written


@pytest.mark.parametrize("seconds", [1.0, 5.0, 60.0])
def test_steady_steps_are_no_stall(stall: StallWatch, clock: Clock, told: Told, seconds: float) -> None:
    """Slow ones neither: what counts is the run's own usual time."""
    beats(stall, clock, 20, seconds)
    pass_by(stall, clock, max(10.0, 3 * seconds))
    assert told == []
    pass_by(stall, clock, 2)
    assert told.kinds() == ["stall"]


def test_the_first_steps_have_time(stall: StallWatch, clock: Clock, told: Told) -> None:
    """Nothing is known yet: compiling may take minutes, but not hours."""
    beats(stall, clock, KNOWN)
    pass_by(stall, clock, GRACE)
    assert told == []
    assert stall.usual is None
    pass_by(stall, clock, 2)
    assert told.kinds() == ["stall"]
    assert "usually" not in told[0][2]


def test_a_pause_is_no_stall(stall: StallWatch, clock: Clock, told: Told) -> None:
    """An evaluation under `pause` is passed over, and does not count as a step's time."""
    beats(stall, clock, 10)
    limit = stall.limit
    with stall.pause(), stall.pause():
        pass_by(stall, clock, 500)
    beats(stall, clock, 3, start=10)
    assert told == []
    assert stall.limit == limit


def test_a_pause_that_was_recovered_from_is_remembered(stall: StallWatch, clock: Clock, told: Told) -> None:
    """The first long evaluation is told; the next of that length is not."""
    beats(stall, clock, 10)
    pass_by(stall, clock, 100)
    beats(stall, clock, 50, start=10)
    pass_by(stall, clock, 110)
    beats(stall, clock, 5, start=60)
    assert told.kinds() == ["stall", "resumed"]


@pytest.mark.parametrize("folder", [None, Path("no/such/folder")])
def test_without_a_folder_only_the_words_are_told(folder: Path | None, clock: Clock, told: Told) -> None:
    """No file; the place is in the message."""
    stall = StallWatch(told, lambda: folder, seconds=10.0, tick=3600.0)
    beats(stall, clock, 10)
    pass_by(stall, clock, 12)
    stall.stop()
    assert "stacks" not in told[0][3]
    assert "the training thread is in" in told[0][2]


def test_who_is_told_may_fail() -> None:
    """The thread goes on, and prints nothing."""
    called = threading.Event()

    def broken(*event: Any) -> None:
        called.set()
        raise OSError("no console")

    stall = StallWatch(broken, lambda: None, times=2.0, seconds=0.01, tick=0.005)
    for step in range(10):
        stall.beat(step)
    assert called.wait(5.0)
    assert stall._thread is not None
    assert stall._thread.is_alive()
    stall.stop()


def test_a_forgotten_one_ends_its_thread() -> None:
    """The thread keeps neither the watch nor the process alive."""
    stall = StallWatch(Told(), lambda: None, seconds=0.05, tick=0.005)
    for step in range(3):
        stall.beat(step)
    thread = stall._thread
    assert thread is not None
    assert thread.daemon
    del stall
    thread.join(2.0)
    assert not thread.is_alive()


def test_a_watch_reports_to_its_run_folder(capfd: pytest.CaptureFixture[str]) -> None:
    """The stall is in events.jsonl and on the console."""
    watch = Watch(stall_seconds=0.05, runs_dir="runs", run_id="one")
    for step in range(10):
        watch.log(step=step, loss=1.0)
    wait_for(lambda: len(watch.events) == 1)
    watch.log(step=10, loss=1.0)
    wait_for(lambda: len(watch.events) == 2)
    watch.close()
    events = [json.loads(line) for line in Path("runs/one/events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["stall", "resumed"]
    assert Path(events[0]["stacks"]).exists()
    assert "rlwatch STALL at step 9" in capfd.readouterr().err


@pytest.mark.parametrize("settings", [{"stall": False}, {"record": False, "console": False}])
def test_off(settings: dict[str, Any]) -> None:
    """Switched off, or with nobody to tell (a replay): no thread."""
    before = threading.active_count()
    with Watch(**{"record": False, **settings}) as watch:
        for step in range(10):
            watch.log(step=step, loss=1.0)
        with watch.pause():
            pass
        assert threading.active_count() == before


def test_another_rank_says_where_it_hangs(caplog: pytest.LogCaptureFixture) -> None:
    """It has no console and no folder, but its stack may be the one that counts."""
    with Watch(stall_seconds=0.05, main_process=False) as watch:
        for step in range(10):
            watch.log(step=step, loss=1.0)
        wait_for(lambda: bool(watch.events))
    assert "stall at step 9: no step for" in caplog.text


def test_a_process_ends_while_it_listens() -> None:
    """A stalled script that returns is not held up."""
    script = (
        "from rlwatch import Watch\n"
        "watch = Watch(record=False, stall_seconds=100)\n"
        "for step in range(10): watch.log(step=step, loss=1.0)\n"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begun < 30


def test_a_beat_costs_next_to_nothing(stall: StallWatch) -> None:
    """Well under the 30 us of a `Watch.log`."""
    begun = time.perf_counter()
    for step in range(10_000):
        stall.beat(step)
    assert (time.perf_counter() - begun) / 10_000 < 10e-6
