from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sanderling.engine import AnyArray
from sanderling.errors import CameraError, CameraStalledError, InputError, MissingExtraError
from sanderling.frame_queue import BadFrames, Drop, FrameQueue
from sanderling.frames import Pulled, Pushed, _read, as_source, opened

STALL_S = 0.02


class Ticks:
    """A clock that moves one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def picture(value: int = 0, shape: tuple[int, ...] = (4, 6, 3), dtype: str = "uint8") -> AnyArray:
    return np.full(shape, value, dtype=dtype)


def new_queue(capacity: int = 2, drop: Drop = "oldest", bad_frames: BadFrames = "raise") -> FrameQueue:
    return FrameQueue(capacity, drop, bad_frames, Ticks())


def pushing(queue: FrameQueue) -> Pushed:
    source = Pushed()
    source.start(queue)
    return source


def numbers(queue: FrameQueue) -> list[int]:
    """The numbers of the frames that are left until the source ends."""
    found = []
    while (taken := queue.take(STALL_S)) is not None:
        found.append(taken.frame.number)
    return found


@pytest.mark.parametrize(("drop", "left"), [("oldest", [3, 4]), ("newest", [0, 1])])
def test_a_flood_leaves_what_the_drop_policy_says_and_counts_the_rest(drop: Drop, left: list[int]) -> None:
    queue = new_queue(drop=drop)
    source = pushing(queue)
    assert all(source.push(picture(value)) for value in range(5))
    assert queue.waiting == 2
    first = queue.take(STALL_S)
    assert first is not None
    assert (first.frame.number, first.dropped) == (left[0], 3)
    source.end()
    assert numbers(queue) == left[1:]


def test_without_dropping_the_source_waits_until_there_is_room() -> None:
    queue = new_queue(capacity=1, drop="none")
    source = Pulled([picture(value) for value in range(20)])
    source.start(queue)
    assert numbers(queue) == list(range(20))
    source.stop()


def test_a_waiting_source_is_woken_when_the_reader_closes() -> None:
    queue = new_queue(capacity=1, drop="none")
    source = pushing(queue)
    assert source.push(picture())
    wanted: list[bool] = []
    pusher = threading.Thread(target=lambda: wanted.append(source.push(picture())))
    pusher.start()
    queue.close()
    pusher.join(5)
    assert wanted == [False]
    assert queue.waiting == 0


def test_frames_carry_when_they_were_captured_and_queued() -> None:
    queue = new_queue()
    source = pushing(queue)
    source.push(picture(), captured_s=0.5)
    taken = queue.take(STALL_S)
    assert taken is not None
    assert taken.frame.captured_s == 0.5
    assert taken.frame.queued_s == 2.0  # the clock was read once before, to see that the capture is not in the future


def test_a_driver_may_fill_its_buffer_again() -> None:
    queue = new_queue()
    source, buffer = pushing(queue), picture(1)
    source.push(buffer)
    buffer[:] = 9
    taken = queue.take(STALL_S)
    assert taken is not None
    assert (taken.frame.pixels == 1).all()
    assert not taken.frame.pixels.flags.writeable
    assert buffer.flags.writeable


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (picture(shape=(4, 7, 3)), r"frame 1 is uint8 \[4, 7, 3\], and the first was uint8 \[4, 6, 3\]"),
        (picture(shape=(4, 6, 1)), r"\[4, 6, 1\].*channel count"),
        (picture(dtype="float32"), r"float32 \[4, 6, 3\], and the first was uint8"),
        (picture(shape=(0, 6, 3)), r"is empty, uint8 \[0, 6, 3\]"),
        ([[1, 2]], "is list, expected a NumPy array"),
    ],
    ids=["size", "channels", "dtype", "empty", "no array"],
)
def test_a_frame_that_does_not_fit_is_an_error_in_its_place_or_skipped(bad: AnyArray, message: str) -> None:
    for policy in ("raise", "skip"):
        queue = new_queue(capacity=3, bad_frames=policy)
        source = pushing(queue)
        for pixels in (picture(), bad, picture()):
            source.push(pixels)
        first = queue.take(STALL_S)
        assert first is not None
        if policy == "raise":
            with pytest.raises(CameraError, match=message):
                queue.take(STALL_S)
        last = queue.take(STALL_S)
        assert last is not None
        assert last.frame.number == 2
        assert first.bad + last.bad == 1


@pytest.mark.parametrize("captured_s", [99.0, 0.1], ids=["in the future", "before the one before"])
def test_a_capture_time_that_cannot_be_is_refused(captured_s: float) -> None:
    queue = new_queue()
    source = pushing(queue)
    source.push(picture(), captured_s=0.5)
    source.push(picture(), captured_s=captured_s)
    assert queue.take(STALL_S) is not None
    with pytest.raises(CameraError, match=r"expected 0\.500000 s"):
        queue.take(STALL_S)


def test_a_flood_of_bad_frames_waits_as_one_error() -> None:
    queue = new_queue()
    source = pushing(queue)
    source.push(picture())
    for _ in range(1000):
        source.push(picture(shape=(2, 2)))
    assert len(queue._waiting) == 2
    first = queue.take(STALL_S)
    assert first is not None
    assert first.bad == 1000
    with pytest.raises(CameraError, match="frame 1 is"):
        queue.take(STALL_S)
    source.push(picture())
    assert queue.take(STALL_S) is not None


def test_a_camera_that_stalls_is_told_and_may_go_on() -> None:
    queue = new_queue()
    source = pushing(queue)
    with pytest.raises(CameraStalledError, match=r"no frame came for 0\.02 s"):
        queue.take(STALL_S)
    source.push(picture())
    assert queue.take(STALL_S) is not None


def test_a_camera_that_sends_only_bad_frames_stalls_and_says_how_many() -> None:
    queue = new_queue(bad_frames="skip")
    source = pushing(queue)
    for _ in range(3):
        source.push(picture(shape=(0,)))
    with pytest.raises(CameraStalledError, match="and 3 did not fit"):
        queue.take(STALL_S)


def test_what_a_source_raises_comes_after_its_last_frame() -> None:
    def failing() -> Iterator[AnyArray]:
        yield picture()
        raise OSError("cable pulled")

    queue = new_queue(drop="none")
    source = Pulled(failing())
    source.start(queue)
    assert queue.take(1.0) is not None
    with pytest.raises(OSError, match="cable pulled"):
        queue.take(1.0)
    assert queue.take(1.0) is None
    source.stop()


def test_a_generator_is_closed_when_the_reader_stops() -> None:
    closed = threading.Event()

    def endless() -> Iterator[AnyArray]:
        try:
            while True:
                yield picture()
        finally:
            closed.set()

    queue = new_queue(drop="none")
    source = Pulled(endless())
    source.start(queue)
    assert queue.take(1.0) is not None
    queue.close()
    source.stop()
    assert closed.is_set()


def test_a_source_is_read_by_one_camera() -> None:
    for source in (Pushed(), Pulled([])):
        source.start(new_queue())
        with pytest.raises(CameraError, match="read by another Camera"):
            source.start(new_queue())
        source.stop()


def test_pushing_before_there_is_a_camera_is_refused() -> None:
    with pytest.raises(CameraError, match="make the Camera first"):
        Pushed().push(picture())
    with pytest.raises(CameraError, match="make the Camera first"):
        Pushed().end()


@pytest.mark.parametrize(
    ("options", "message"),
    [((0, "oldest", "raise"), "queue is 0"), ((1, "all", "raise"), "drop is 'all'"), ((1, "none", "no"), "bad_frames")],
)
def test_options_that_make_no_sense_are_refused(options: tuple[int, Drop, BadFrames], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FrameQueue(*options, Ticks())


def test_a_video_file_gives_the_frames_that_opencv_wrote_in_red_green_blue(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for value in (10, 100, 200):
        writer.write(np.dstack([picture(v, (24, 32)) for v in (0, 60, value)]))  # blue, green, red
    writer.release()
    source, queue = as_source(path), new_queue(drop="none")
    assert not source.live
    source.start(queue)
    for value in (10, 100, 200):
        taken = queue.take(5.0)
        assert taken is not None
        assert taken.frame.pixels.shape == (24, 32, 3)
        assert np.abs(taken.frame.pixels.mean((0, 1)) - [value, 60, 0]).max() < 6  # JPEG's own error
    assert queue.take(5.0) is None
    source.stop()


def test_what_opencv_cannot_open_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(CameraError, match="no video file"):
        opened(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(CameraError, match="OpenCV cannot open"):
        opened(tmp_path / "text.mp4")
    with pytest.raises(CameraError, match="cannot come from ndarray"):
        as_source(picture())


def test_without_opencv_the_message_has_the_pip_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sanderling\[camera\]'"):
        opened(0)


class Unplugged:
    """Answers as OpenCV's capture does when a device goes away after some frames; there is no device to unplug here."""

    def __init__(self, frames: int) -> None:
        self.left = frames
        self.released = False

    def read(self) -> tuple[bool, AnyArray | None]:
        self.left -= 1
        return (True, picture(7)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


def test_a_device_that_goes_away_is_an_error_and_a_file_just_ends() -> None:
    for live in (True, False):
        capture, queue = Unplugged(2), new_queue(drop="none")
        source = Pulled(_read(capture, 0, live), live=live)
        source.start(queue)
        assert queue.take(1.0) is not None
        assert queue.take(1.0) is not None
        if live:
            with pytest.raises(CameraError, match="0 gives no more frames; check its connection"):
                queue.take(1.0)
        assert queue.take(1.0) is None
        source.stop()
        assert capture.released
