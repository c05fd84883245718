from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_bundle import write_toy

import sanderling
from sanderling.budget import Budget
from sanderling.camera import Camera, FrameAnswer
from sanderling.changes import WARM_UP, Changes
from sanderling.engine import AnyArray
from sanderling.errors import BudgetTooSmallError, CameraError, CameraStalledError, InputError, UnknownNameError
from sanderling.frames import Pushed
from sanderling.session import Session

WORDS = np.array([[10.0, 20.0]], dtype=np.float32)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "toy.sand")


@pytest.fixture
def session(toy: Path) -> Iterator[Session]:
    with sanderling.load(toy) as opened:
        yield opened


def frame(value: float) -> AnyArray:
    return np.full((1, 8), value, dtype=np.float32)


def camera(session: Session, source: object, **options: Any) -> Camera:
    return Camera(session, source, **{"image": "picture", **options})


def looked(answers: list[FrameAnswer]) -> list[float]:
    return [answer.outputs["looked"].item() / 8 for answer in answers]


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sanderling")]


def test_a_recording_is_answered_frame_by_frame_to_its_end(session: Session) -> None:
    with camera(session, [frame(k) for k in range(30)], inputs={"words": WORDS}) as watching:
        answers = list(watching)
    assert looked(answers) == list(range(30))
    assert [a.outputs["joined"].item() for a in answers] == [8 * k + 30 for k in range(30)]
    assert {a.dropped for a in answers} == {0}
    assert own_threads() == []


def test_times_run_from_capture_to_answer(session: Session) -> None:
    with camera(session, [frame(k) for k in range(5)]) as watching:
        for answer in watching:
            times = [answer.frame.captured_s, answer.frame.queued_s, answer.started_s, answer.answered_s]
            assert times == sorted(times)
            assert answer.age_ms == pytest.approx((times[3] - times[0]) * 1e3)
            assert answer.age_ms >= answer.receipt.spent_ms


def test_every_frame_is_answered_dropped_or_refused_and_counted_once(session: Session) -> None:
    source = Pushed()
    with camera(session, source, bad_frames="skip") as watching:
        seen = []
        for burst in range(10):
            for k in range(5):
                source.push(frame(burst * 10 + k))
            source.push(np.zeros((1, 7), np.float32))
            seen.append(next(watching.answers()))
        source.end()
        seen += list(watching)
    assert sum(a.dropped + a.bad + 1 for a in seen) == 60
    assert sum(a.bad for a in seen) == 10
    gaps = np.diff([-1] + [a.frame.number for a in seen])
    assert (gaps >= 1).all()


def test_the_budget_reaches_the_calls(session: Session) -> None:
    with camera(session, [frame(1)], inputs={"words": WORDS}, budget=Budget(latency_ms=1.2)) as watching:
        answer = next(watching.answers())
    assert answer.receipt.plan.settings == {"tokens": 2}
    assert answer.receipt.asked.latency_ms == 1.2


def test_other_inputs_may_be_replaced_between_frames(session: Session) -> None:
    source = Pushed()
    with camera(session, source, inputs={"words": WORDS}, ahead=False) as watching:
        answers = watching.answers()
        source.push(frame(1))
        assert next(answers).outputs["read"].item() == 30
        watching.inputs = {"words": WORDS * 2}
        source.push(frame(1))
        assert next(answers).outputs["read"].item() == 60


def test_working_ahead_takes_the_frame_that_waits_and_not_the_newest(session: Session) -> None:
    newest = {}
    for ahead in (True, False):
        source = Pushed()
        with camera(session, source, queue=1, ahead=ahead) as watching:
            answers = watching.answers()
            source.push(frame(1))
            next(answers)
            source.push(frame(2))
            if ahead:
                while watching.waiting:  # the worker takes it at once
                    pass
            source.push(frame(3))
            newest[ahead] = looked([next(answers)])[0]
    assert newest == {True: 2, False: 3}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((1, 9), np.float32), "the first was float32"),
        (np.zeros((1, 8), np.uint8), "the first was float32"),
        (np.zeros((1, 8, 3), np.float32), "channel count"),
    ],
    ids=["size", "dtype", "channels"],
)
def test_a_frame_that_changes_form_in_mid_stream_is_an_error_in_its_place(
    session: Session, bad: AnyArray, message: str
) -> None:
    with camera(session, [frame(0), bad, frame(2)]) as watching:
        answers = watching.answers()
        assert next(answers).frame.number == 0
        with pytest.raises(CameraError, match=message):
            next(answers)
        assert next(answers).frame.number == 2
        with pytest.raises(StopIteration):
            next(answers)


def test_a_call_that_fails_is_an_error_in_its_place(session: Session) -> None:
    frames = [frame(0), frame(np.nan), frame(2)]
    with camera(session, frames) as watching:
        answers = watching.answers()
        next(answers)
        with pytest.raises(InputError, match="NaN"):
            next(answers)
        assert next(answers).frame.number == 2
    tight = camera(session, [frame(0)], inputs={"words": WORDS}, budget=Budget(latency_ms=1e-3))
    with tight, pytest.raises(BudgetTooSmallError):
        next(tight.answers())


def test_what_the_source_raises_is_raised_after_its_frames(session: Session) -> None:
    def failing() -> Iterator[AnyArray]:
        yield frame(0)
        raise OSError("cable pulled")

    with camera(session, failing()) as watching:
        answers = watching.answers()
        next(answers)
        with pytest.raises(OSError, match="cable pulled"):
            next(answers)
        with pytest.raises(StopIteration):
            next(answers)


def test_a_stall_is_an_error_and_the_camera_goes_on(session: Session) -> None:
    source = Pushed()
    with camera(session, source, stall_s=0.02, ahead=False) as watching:
        answers = watching.answers()
        with pytest.raises(CameraStalledError, match=r"0\.02 s"):
            next(answers)
        source.push(frame(3))
        assert looked([next(answers)]) == [3]


def test_close_ends_a_loop_that_waits(session: Session) -> None:
    watching = camera(session, Pushed())
    ended: list[int] = []
    loop = threading.Thread(target=lambda: ended.append(len(list(watching))))
    loop.start()
    while not watching._is_waited_for:
        pass
    watching.close()
    loop.join(10)
    assert ended == [0]
    assert own_threads() == []
    assert list(watching) == []
    watching.close()


def test_close_frees_a_source_that_waits_for_room(session: Session) -> None:
    watching = camera(session, (frame(k) for k in range(1000)), queue=1)
    next(watching.answers())
    watching.close()
    assert own_threads() == []


def test_pushing_to_a_closed_camera_says_that_no_more_is_wanted(session: Session) -> None:
    source = Pushed()
    with camera(session, source):
        assert source.push(frame(0))
    assert not source.push(frame(1))


def test_two_loops_on_one_camera_are_refused(session: Session) -> None:
    source = Pushed()
    with camera(session, source) as watching:
        first = watching.answers()
        waiting = threading.Thread(target=lambda: next(first))
        waiting.start()
        while not watching._is_waited_for:
            pass
        with pytest.raises(CameraError, match="another loop reads this camera"):
            watching.answers()
        with pytest.raises(CameraError, match="another loop reads this camera"):
            next(first)
        source.push(frame(0))
        waiting.join(10)
        second = watching.answers()
        with pytest.raises(CameraError, match="another loop reads this camera"):
            next(first)
        source.push(frame(1))
        assert looked([next(second)]) == [1]


def test_two_cameras_on_one_source_are_refused(session: Session) -> None:
    source = Pushed()
    with camera(session, source), pytest.raises(CameraError, match="read by another Camera"):
        camera(session, source)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"image": "photo"}, UnknownNameError, "unknown input 'photo'"),
        ({"image": None}, InputError, "takes 0 pictures; say which"),
        ({"inputs": {"picture": 1}}, InputError, "is what the camera gives"),
        ({"stall_s": 0}, InputError, "stall_s is 0"),
        ({"stall_s": float("nan")}, InputError, "stall_s is nan"),
        ({"queue": 0}, InputError, "queue is 0"),
        ({"drop": "all"}, InputError, "drop is 'all'"),
        ({"source": 3.5}, CameraError, "cannot come from float"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_refused(
    session: Session, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    source = options.pop("source", Pushed()) if "source" in options else Pushed()
    with pytest.raises(error, match=message):
        camera(session, source, **options)
    assert own_threads() == []


def test_an_asynchronous_loop_gets_every_answer_and_leaves_the_event_loop_free(session: Session) -> None:
    async def watch() -> tuple[list[FrameAnswer], int]:
        turns, done = 0, asyncio.Event()

        async def tick() -> None:
            nonlocal turns
            while not done.is_set():
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        async with camera(session, [frame(k) for k in range(20)]) as watching:
            answers = [answer async for answer in watching.answers()]
        done.set()
        await ticking
        return answers, turns

    answers, turns = asyncio.run(watch())
    assert looked(answers) == list(range(20))
    assert turns > 20
    assert own_threads() == []


def test_a_cancelled_wait_loses_no_answer(session: Session) -> None:
    async def watch() -> list[float]:
        source = Pushed()
        async with camera(session, source) as watching:
            answers = watching.answers()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(answers), 0.02)
            source.push(frame(7))
            return looked([await anext(answers)])

    assert asyncio.run(watch()) == [7]
    assert own_threads() == []


def test_a_cancelled_wait_whose_frame_fails_logs_nothing(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    async def watch() -> None:
        async with camera(session, Pushed(), stall_s=0.03) as watching:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watching.answers()), 0.005)
            await asyncio.sleep(0.05)

    asyncio.run(watch())
    assert caplog.records == []


def test_closing_ends_an_asynchronous_loop_that_waits(session: Session) -> None:
    async def watch() -> list[FrameAnswer]:
        async with camera(session, Pushed()) as watching:
            loop = asyncio.create_task(collect(watching))
            while not watching._is_waited_for:
                await asyncio.sleep(0)
            await asyncio.to_thread(watching.close)
            return await loop

    async def collect(watching: Camera) -> list[FrameAnswer]:
        return [answer async for answer in watching.answers()]

    assert asyncio.run(watch()) == []


def test_thousands_of_frames_leave_nothing_behind(session: Session) -> None:
    def endless(count: int) -> Iterator[AnyArray]:
        for number in range(count):
            yield frame(number % 7)

    sizes = []
    with camera(session, endless(2000), inputs={"words": WORDS}) as watching:
        tracemalloc.start()
        for number, _ in enumerate(watching):
            if number in (400, 1900):
                sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 40_000  # 27 bytes a frame; one kept answer is over 100 times that


@pytest.fixture
def pictures(tiny_bundle: Path) -> Iterator[Session]:
    with sanderling.load(tiny_bundle) as opened:
        yield opened


def still(count: int, moved: tuple[int, ...] = ()) -> list[AnyArray]:
    """Noisy pictures of one scene, with something new from each frame in `moved` on."""
    rng = np.random.default_rng(0)
    base = rng.integers(60, 180, (32, 32, 3)).astype(float)
    frames = []
    for number in range(count):
        if number in moved:
            base[8:16, 8:16] = rng.integers(0, 255, 3)
        frames.append(np.clip(base + rng.normal(0, 2, base.shape), 0, 255).astype(np.uint8))
    return frames


def test_where_nothing_changed_the_last_answer_serves_again(pictures: Session) -> None:
    frames = still(40, moved=(20,))
    with Camera(pictures, frames, changes=Changes(grid=(4, 4))) as watching:
        answers = list(watching)
    fresh = [a.frame.number for a in answers if a.seen == a.frame.number]
    assert fresh == [*range(WARM_UP + 1), 20] or fresh == [*range(WARM_UP), 20]
    for answer in answers:
        plain = pictures.run({"image": frames[answer.seen]}, plan=pictures.at({}))
        np.testing.assert_array_equal(answer.outputs["scores"], plain.outputs["scores"])
        assert answer.receipt.reused == (() if answer.seen == answer.frame.number else ("vision",))
    assert answers[20].change is not None
    assert answers[20].change.changed[1, 1]
    assert f"nothing changed since frame {answers[30].seen}" in answers[30].receipt.plan.reason


def test_refresh_bounds_how_old_an_answer_may_be(pictures: Session) -> None:
    for refresh in (1, 5):
        with Camera(pictures, still(30), changes=Changes(grid=(4, 4), refresh=refresh)) as watching:
            ages = [a.frame.number - a.seen for a in watching]
        assert max(ages) == refresh - 1


def test_without_change_detection_every_frame_is_seen(pictures: Session) -> None:
    with Camera(pictures, still(10)) as watching:
        for answer in watching:
            assert (answer.seen, answer.change, answer.receipt.reused) == (answer.frame.number, None, ())


def test_a_video_file_is_watched_to_its_end(pictures: Session, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for pixels in still(5):
        writer.write(np.asarray(Image.fromarray(pixels).resize((64, 48))))
    writer.release()
    with Camera(pictures, path) as watching:
        assert [a.frame.number for a in watching] == [0, 1, 2, 3, 4]
