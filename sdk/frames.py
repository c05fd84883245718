"""Where a camera's frames come from.

    Pushed()                      your callback calls `push(pixels)`; `end()` when there are no more
    Pulled(iterable)              anything that yields arrays
    opened(0), opened("a.mp4")    a device or a video file, through OpenCV (the extra `camera`)
    opened("rtsp://...")          a stream

A source is read once, by one camera. It stamps each frame when it has it and puts it into the camera's queue.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol

import numpy as np

from sanderling.engine import AnyArray
from sanderling.errors import CameraError, MissingExtraError
from sanderling.frame_queue import FrameQueue
from sanderling.frozen import frozen

JOIN_S = 2.0
"""Longest wait for a source's thread when a camera closes; a read that hangs longer is left to end by itself."""


class Source(Protocol):
    """What delivers frames."""

    @property
    def live(self) -> bool:
        """Whether frames come at their own pace and are lost unless taken, as from a camera; False for a recording."""
        ...

    def start(self, queue: FrameQueue) -> None:
        """Begin to put frames into the queue, and end it after the last.

        Raises:
            CameraError: another camera reads this source, or read it before.
        """
        ...

    def stop(self) -> None:
        """Stop putting frames and let go of the device; nothing when it has not begun."""
        ...


class Pushed:
    """Frames that the caller hands over, for drivers that call back.

    source = Pushed()
    driver.on_frame(source.push)
    for answer in Camera(session, source): ...
    """

    live = True

    def __init__(self) -> None:
        self._queue: FrameQueue | None = None

    def push(self, pixels: AnyArray, captured_s: float | None = None) -> bool:
        """Hand over a frame; return whether more are wanted: False once the camera is closed.

        With drop="none" this waits until there is room.

        Args:
            pixels: copied unless read-only, so that the driver may fill its buffer again.
            captured_s: when it was taken, on the camera's clock; now when None.

        Raises:
            CameraError: no camera reads this source yet.
        """
        queue = self._queue
        if queue is None:
            raise CameraError("a frame was pushed before any Camera was made of this source; make the Camera first")
        return queue.put(_owned(pixels), queue.clock() if captured_s is None else captured_s)

    def end(self) -> None:
        """Say that no more frames come.

        Raises:
            CameraError: no camera reads this source yet.
        """
        if self._queue is None:
            raise CameraError("the frames ended before any Camera was made of this source; make the Camera first")
        self._queue.end()

    def start(self, queue: FrameQueue) -> None:
        """Send what is pushed into the queue."""
        if self._queue is not None:
            raise _taken_twice()
        self._queue = queue

    def stop(self) -> None:
        """Nothing to stop: a closed queue takes no more."""


class Pulled:
    """Frames from an iterable, pulled by a thread of its own.

    Args:
        frames: yields arrays; each is copied unless read-only, for many readers fill one buffer again. Closed at the
            end when it is a generator. What it raises, the reader of the camera gets.
        live: as for `Source`.
    """

    def __init__(self, frames: Iterable[AnyArray], live: bool = False) -> None:
        self.live = live
        self._frames = frames
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, queue: FrameQueue) -> None:
        """Start the thread."""
        if self._thread is not None:
            raise _taken_twice()
        self._thread = threading.Thread(target=self._pull, args=(queue,), name="sanderling frames", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, and wait for it a while."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def _pull(self, queue: FrameQueue) -> None:
        with _HandOver(queue):
            frames = iter(self._frames)
            try:
                for pixels in frames:
                    if self._stop.is_set() or not queue.put(_owned(pixels), queue.clock()):
                        break
            finally:
                if isinstance(frames, Generator):
                    frames.close()


class _HandOver:
    """Ends a queue with whatever error its source ended with, so that the reader raises it and not a thread."""

    def __init__(self, queue: FrameQueue) -> None:
        self._queue = queue

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._queue.end(error)
        return True


def opened(source: int | str | Path) -> Pulled:
    """Return a device, video file or stream as a source, opened now so that a wrong name is told at once.

    Args:
        source: a device's number, a file's path, or an address with "://" in it.

    Raises:
        MissingExtraError: OpenCV is not installed.
        CameraError: there is no such device or file, or nothing in it that OpenCV can read.
    """
    name = source if isinstance(source, int) else str(source)
    is_file = isinstance(name, str) and "://" not in name
    if is_file and not Path(str(name)).is_file():
        raise CameraError(f"there is no video file {source}; give a path, an address with '://' or a device's number")
    capture = _cv2().VideoCapture(name)
    if not capture.isOpened():
        raise CameraError(f"OpenCV cannot open {source!r}: no such device, or no video it can read; try another player")
    return Pulled(_read(capture, source, live=not is_file), live=not is_file)


def as_source(given: object) -> Source:
    """Return what a caller passed as a source.

    Raises:
        CameraError: it is nothing that frames could come from.
    """
    if hasattr(given, "start") and hasattr(given, "stop") and hasattr(given, "live"):
        return given
    if isinstance(given, (int, str, Path)):
        return opened(given)
    if isinstance(given, Iterable) and not isinstance(given, np.ndarray):
        return Pulled(given)
    raise CameraError(
        f"frames cannot come from {type(given).__name__}; expected a device's number, a path, an iterable of arrays, "
        "or Pushed()"
    )


def _read(capture: Any, name: object, live: bool) -> Iterator[AnyArray]:
    """Yield frames, uint8 [height, width, 3] red, green, blue, and release the device after the last.

    Raises:
        CameraError: a live source stopped, which unlike a file has no end.
    """
    try:
        while True:
            there, pixels = capture.read()
            if not there and live:
                raise CameraError(f"{name!r} gives no more frames; check its connection, then make a new Camera")
            if not there:
                return
            turned = np.ascontiguousarray(pixels[..., ::-1])
            turned.flags.writeable = False
            yield turned
    finally:
        capture.release()


def _owned(pixels: object) -> object:
    """Return pixels that stay as they are; what is no array is passed on, for the queue to refuse by its number."""
    return frozen(pixels) if isinstance(pixels, np.ndarray) else pixels


def _taken_twice() -> CameraError:
    return CameraError("this source is read by another Camera, or was; make a new source for each Camera")


def _cv2() -> ModuleType:
    try:
        return import_module("cv2")
    except ImportError as error:
        raise MissingExtraError("opencv-python-headless", "camera", "reading a device or a video file") from error
