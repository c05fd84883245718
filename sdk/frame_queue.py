"""The bounded queue between a camera and the model: who waits, and what is dropped, when one is faster."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from sanderling.engine import AnyArray
from sanderling.errors import CameraError, CameraStalledError, InputError

Drop: TypeAlias = Literal["oldest", "newest", "none"]
"""What goes when the queue is full: the frame that waited longest, the one that comes, or none: the source waits."""

BadFrames: TypeAlias = Literal["raise", "skip"]
"""What becomes of a frame that does not fit: an error in its place, or nothing but a count."""

Clock: TypeAlias = Callable[[], float]
"""Seconds on a clock that never goes back, such as `time.monotonic`."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture and when it came.

    Attributes:
        number: how many frames the source delivered before this one, bad and dropped ones included.
        pixels: read-only, as the source gave it; uint8 [height, width, channels] in red, green, blue from a camera.
        captured_s: when the source had it, on the camera's clock.
        queued_s: when it was accepted into the queue; later than `captured_s` where the source had to wait.
    """

    number: int
    pixels: AnyArray
    captured_s: float
    queued_s: float


@dataclass(frozen=True)
class Taken:
    """A frame from the queue, and how many went before it without an answer: dropped, and refused as bad."""

    frame: Frame
    dropped: int
    bad: int


class FrameQueue:
    """Takes frames from a source's thread and gives them to another's.

    A frame fits when it has the dtype and shape of the first one, is not empty, and was captured no earlier than the
    one before and no later than now.

    Args:
        capacity: most frames that wait.
        drop: what goes when it is full.
        bad_frames: what becomes of a frame that does not fit.
        clock: gives `queued_s`, and the time that no capture may be later than.
    """

    def __init__(self, capacity: int, drop: Drop, bad_frames: BadFrames, clock: Clock) -> None:
        if capacity < 1:
            raise InputError(f"queue is {capacity}, expected at least 1 frame")
        for name, value, known in (("drop", drop, get_args(Drop)), ("bad_frames", bad_frames, get_args(BadFrames))):
            if value not in known:
                raise InputError(f"{name} is {value!r}, expected {' or '.join(map(repr, known))}")
        self.clock = clock
        self._capacity = capacity
        self._drop = drop
        self._bad_frames = bad_frames
        self._changed = threading.Condition()
        self._waiting: deque[Frame | CameraError] = deque()
        self._first: AnyArray | None = None
        self._last_captured_s = -np.inf
        self._delivered = self._dropped = self._bad = 0
        self._closed = self._ended = False
        self._failure: BaseException | None = None

    @property
    def waiting(self) -> int:
        """How many frames wait now."""
        with self._changed:
            return len(self._frames())

    def put(self, pixels: object, captured_s: float) -> bool:
        """Offer a frame; return whether more are wanted: False once the reader has closed.

        Args:
            pixels: read-only, so that it stays as it is.
            captured_s: on the queue's clock.
        """
        with self._changed:
            number, self._delivered = self._delivered, self._delivered + 1
            problem = self._problem(pixels, captured_s)
            if problem is not None or not isinstance(pixels, np.ndarray):
                self._refuse(CameraError(f"frame {number} {problem}"))
            elif self._room():
                if self._first is None:
                    self._first = pixels
                self._last_captured_s = captured_s
                self._waiting.append(Frame(number, pixels, captured_s, self.clock()))
                self._changed.notify_all()
            return not self._closed

    def end(self, failure: BaseException | None = None) -> None:
        """Say that no more frames come, and why, when the source failed."""
        with self._changed:
            self._ended = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    def take(self, stall_s: float) -> Taken | None:
        """Return the next frame, waiting for it; None once the source has ended or `close` was called.

        Raises:
            CameraStalledError: no frame came for `stall_s` seconds; calling again waits again.
            CameraError: a frame did not fit, and such frames are to be raised; calling again goes on behind it.
            BaseException: whatever the source raised, once every frame before it was taken.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._ended or self._closed, stall_s):
                refused = f", and {self._bad} did not fit," if self._bad else ""
                raise CameraStalledError(
                    f"no frame came for {stall_s:g} s{refused}; check the camera, or allow more with stall_s. "
                    "Reading on waits for it again"
                )
            if self._closed:
                return None
            if not self._waiting:
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
                return None
            first = self._waiting.popleft()
            self._changed.notify_all()
            if isinstance(first, CameraError):
                raise first
            dropped, bad = self._dropped, self._bad
            self._dropped = self._bad = 0
            return Taken(first, dropped, bad)

    def close(self) -> None:
        """Let go of every frame; wake whoever waits on either side."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _room(self) -> bool:
        """Return whether there is room for one more, having made it as the drop policy says."""
        if self._drop == "none":
            self._changed.wait_for(lambda: len(self._frames()) < self._capacity or self._closed)
        elif len(self._frames()) >= self._capacity:
            self._dropped += 1
            if self._drop == "newest":
                return False
            self._waiting.remove(self._frames()[0])
        return not self._closed

    def _frames(self) -> list[Frame]:
        return [item for item in self._waiting if isinstance(item, Frame)]

    def _refuse(self, problem: CameraError) -> None:
        """Count a bad frame; where it is to be raised one error waits in its place, however many follow."""
        self._bad += 1
        told = any(isinstance(item, CameraError) for item in self._waiting)
        if self._bad_frames == "raise" and not told and not self._closed:
            self._waiting.append(problem)
            self._changed.notify_all()

    def _problem(self, pixels: object, captured_s: float) -> str | None:
        """Return what is wrong with a frame, and a way out."""
        if not isinstance(pixels, np.ndarray):
            return f"is {type(pixels).__name__}, expected a NumPy array such as uint8 [height, width, 3]"
        if not pixels.size:
            return f"is empty, {_form(pixels)}; check the camera"
        if self._first is not None and (pixels.dtype, pixels.shape) != (self._first.dtype, self._first.shape):
            return (
                f"is {_form(pixels)}, and the first was {_form(self._first)}; a camera keeps one size, dtype and "
                "channel count: open another Camera for another form, or pass bad_frames='skip' to leave such out"
            )
        now_s = self.clock()
        if not self._last_captured_s <= captured_s <= now_s:
            return (
                f"was captured at {captured_s:.6f} s, expected {self._last_captured_s:.6f} s, when the frame before "
                f"was, to {now_s:.6f} s, which is now; take captured_s from the camera's own clock"
            )
        return None


def _form(pixels: AnyArray) -> str:
    return f"{pixels.dtype} {list(pixels.shape)}"
