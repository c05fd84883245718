"""A camera in front of a model: frames in, answers out, for hours.

with Camera(session, 0, inputs={"text": "how many circles are there"}, budget=Budget(latency_ms=30)) as camera:
    for answer in camera:
        print(answer.outputs["answer_scores"], answer.age_ms, answer.dropped, answer.receipt.met)

async with Camera(session, source, changes=Changes()) as camera:      # in a robot's loop
    async for answer in camera.answers():
        await steer(answer)
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from types import TracebackType
from typing import Any

from sanderling.budget import Budget, Plan
from sanderling.changes import Change, ChangeDetector, Changes
from sanderling.engine import AnyArray
from sanderling.errors import CameraError, InputError, UnknownNameError
from sanderling.frame_queue import BadFrames, Clock, Drop, Frame, FrameQueue, Taken
from sanderling.frames import as_source
from sanderling.receipt import Receipt
from sanderling.reuse import Reuse
from sanderling.session import Answer, Session
from sanderling.spec import ImageInput


@dataclass(frozen=True, eq=False)
class FrameAnswer:
    """What the model answered about a frame; times are seconds on the camera's clock.

    Attributes:
        frame: the frame, with `captured_s` and `queued_s`.
        seen: number of the frame whose pixels the model saw: this one's, or an earlier one's when nothing had changed
            since; the receipt then lists what was re-used.
        answer: outputs and receipt.
        started_s: when work on it began.
        answered_s: when it was done.
        dropped: frames dropped since the last answer because the queue was full.
        bad: frames refused since the last answer because they did not fit.
        change: against the frame that the model saw last; None without change detection.
    """

    frame: Frame
    seen: int
    answer: Answer
    started_s: float
    answered_s: float
    dropped: int
    bad: int
    change: Change | None

    @property
    def outputs(self) -> dict[str, AnyArray]:
        """The model's outputs by name."""
        return self.answer.outputs

    @property
    def receipt(self) -> Receipt:
        """What the call cost and left out."""
        return self.answer.receipt

    @property
    def age_ms(self) -> float:
        """From capture to answer."""
        return (self.answered_s - self.frame.captured_s) * 1e3


class Camera:
    """Answers about a source's frames, one after the other. One loop reads it at a time.

    A worker thread prepares the next answer while the caller uses the last one, and is never further ahead than that:
    when answers are not taken, frames wait in the queue and the drop policy rules. An error takes the place of an
    answer; reading on goes on behind it. Close it, or use it in `with`, to end its threads.

    Args:
        session: answers; several cameras may share one, and take turns.
        source: a device's number, a file's path, an address, an iterable of arrays, or a `frames.Source`.
        image: which input the frames are; may be left out where the model takes just one picture.
        inputs: the model's other inputs. The attribute `inputs` may be replaced at any time, for later frames.
        budget: for every call; the session's when None.
        queue: most frames that wait.
        drop: what goes when the queue is full; "oldest" for live sources and "none" for recordings when None.
        bad_frames: whether a frame of another size, dtype or channel count is an error or is skipped and counted.
        stall_s: how long to wait for a frame before it is an error.
        ahead: begin the next answer before it is asked for. False answers about a frame that is still fresh when the
            caller is slow, at the price of waiting for it.
        changes: detect what changed, and re-use the last answer's components where nothing did; off when None.
        clock: seconds, never going back.

    Raises:
        InputError: an argument out of range, or no single picture among the model's inputs.
        UnknownNameError: `image` is no input of the model.
        CameraError: the source cannot be opened, or another camera reads it.
    """

    def __init__(  # noqa: PLR0913 - each is the caller's own choice, and all but two go by name
        self,
        session: Session,
        source: object,
        *,
        image: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
        queue: int = 2,
        drop: Drop | None = None,
        bad_frames: BadFrames = "raise",
        stall_s: float = 5.0,
        ahead: bool = True,
        changes: Changes | None = None,
        clock: Clock = monotonic,
    ) -> None:
        if not (math.isfinite(stall_s) and stall_s > 0):
            raise InputError(f"stall_s is {stall_s}, expected seconds above 0")
        self.inputs: Mapping[str, Any] = dict(inputs or {})
        self._image = _image_input(session, image)
        if self._image in self.inputs:
            raise InputError(f"input {self._image!r} is what the camera gives; leave it out of `inputs`")
        self._source = as_source(source)
        self._queue = FrameQueue(queue, drop or ("oldest" if self._source.live else "none"), bad_frames, clock)
        self._session = session
        self._budget = budget
        self._stall_s = stall_s
        self._ahead = ahead
        self._clock = clock
        self._still = None if changes is None else _Still(changes)
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "sanderling camera")
        self._next: Future[FrameAnswer | None] | None = None
        self._reader: Answers | None = None
        self._is_waited_for = self._closed = False
        self._source.start(self._queue)

    def answers(self) -> Answers:
        """Return the answers to come, for `for` and for `async for`. A loop that read before may read no more.

        Raises:
            CameraError: another loop is waiting for an answer right now.
        """
        with self._lock:
            if self._is_waited_for:
                raise _read_twice()
            self._reader = Answers(self)
            return self._reader

    def __iter__(self) -> Answers:
        """Return `answers()`."""
        return self.answers()

    @property
    def waiting(self) -> int:
        """How many frames wait in the queue now."""
        return self._queue.waiting

    def close(self) -> None:
        """End the threads and let go of the source; whoever waits for an answer is told that there are no more.

        Takes as long as the call of the model that is under way. The session stays open.
        """
        with self._lock:
            self._closed = True
        self._queue.close()
        self._source.stop()
        self._worker.shutdown(wait=True)

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Camera:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # In a thread, because an inference under way would hold up the loop.
        await asyncio.shield(asyncio.to_thread(self.close))

    @contextmanager
    def _turn(self, reader: Answers) -> Iterator[Future[FrameAnswer | None] | None]:
        """Give a reader the next answer's future to wait for and then `_collect`; None when there are no more."""
        with self._lock:
            if self._is_waited_for or self._reader is not reader:
                raise _read_twice()
            self._is_waited_for = True
            future = self._begun()
        try:
            yield future
        finally:
            with self._lock:
                self._is_waited_for = False

    def _collect(self, future: Future[FrameAnswer | None] | None) -> FrameAnswer | None:
        """Return a finished answer, or raise what stands in its place, and begin the next one."""
        if future is None:
            return None
        with self._lock:
            self._next = None
            over = future.exception() is None and future.result() is None
            if self._ahead and not over:
                self._begun()
        return future.result()

    def _begun(self) -> Future[FrameAnswer | None] | None:
        if self._next is None and not self._closed:
            self._next = self._worker.submit(self._answer)
        return self._next

    def _answer(self) -> FrameAnswer | None:
        """Take a frame and answer about it; None when there are no more."""
        taken = self._queue.take(self._stall_s)
        if taken is None:
            return None
        if self._still is None:
            return self._run(taken, taken.frame, None, None, None)
        change = self._still.detector.look(taken.frame.pixels)
        frame, plan = self._still.choose(taken.frame, change)
        answer = self._run(taken, frame, plan, self._still.reuse, change)
        if frame is taken.frame:
            self._still.saw(frame, answer.receipt.plan)
        return answer

    def _run(
        self, taken: Taken, frame: Frame, plan: Plan | None, reuse: Reuse | None, change: Change | None
    ) -> FrameAnswer:
        started_s = self._clock()
        inputs = {**self.inputs, self._image: frame.pixels}
        answer = self._session.run(inputs, budget=self._budget, plan=plan, reuse=reuse)
        return FrameAnswer(
            taken.frame, frame.number, answer, started_s, self._clock(), taken.dropped, taken.bad, change
        )


class Answers:
    """The answers of a camera to come; ends when the source ends or the camera is closed."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera

    def __iter__(self) -> Answers:
        """Return itself."""
        return self

    def __next__(self) -> FrameAnswer:
        """Return the next answer, waiting for it.

        Raises:
            CameraStalledError: no frame came for too long.
            CameraError: a frame did not fit, the source failed, or another loop reads this camera.
            UserError: what `Session.run` raises, for this frame.
        """
        with self._camera._turn(self) as future:
            if future is not None:
                wait([future])
            answer = self._camera._collect(future)
        if answer is None:
            raise StopIteration
        return answer

    def __aiter__(self) -> Answers:
        """Return itself."""
        return self

    async def __anext__(self) -> FrameAnswer:
        """Return the next answer without blocking the event loop; raises as `__next__`.

        Cancelling the wait loses nothing: whoever reads next gets the answer.
        """
        with self._camera._turn(self) as future:
            if future is not None:
                done = asyncio.wrap_future(future)
                done.add_done_callback(_notice)
                await asyncio.wait([done])
            answer = self._camera._collect(future)
        if answer is None:
            raise StopAsyncIteration
        return answer


class _Still:
    """Remembers the frame that the model saw last, and when to show that one again instead of a new one."""

    def __init__(self, options: Changes) -> None:
        self.detector = ChangeDetector(options)
        self.reuse = Reuse()
        self._refresh = options.refresh
        self._seen: tuple[Frame, Plan] | None = None
        self._shown_again = 0

    def choose(self, frame: Frame, change: Change) -> tuple[Frame, Plan | None]:
        """Return the frame to show the model, and the plan to carry out where it is one it saw already."""
        if self._seen is None or change.changed.any() or self._shown_again + 1 >= self._refresh:
            return frame, None
        self._shown_again += 1
        seen, plan = self._seen
        reason = f"nothing changed since frame {seen.number}, so that one's plan and outputs serve again"
        return seen, replace(plan, predicted_ms=None, typical_ms=None, reason=reason)

    def saw(self, frame: Frame, plan: Plan) -> None:
        """Take note of what the model saw."""
        self._seen = (frame, plan)
        self._shown_again = 0
        self.detector.saw()


def _notice(done: asyncio.Future[FrameAnswer | None]) -> None:
    """Look at a future's error, which asyncio reports as lost when the wait for it was cancelled."""
    if not done.cancelled():
        done.exception()


def _image_input(session: Session, name: str | None) -> str:
    specs = session.manifest.model.inputs
    if name is not None:
        if name not in {spec.name for spec in specs}:
            raise UnknownNameError("input", name, [spec.name for spec in specs])
        return name
    pictures = [spec.name for spec in specs if isinstance(spec, ImageInput)]
    if len(pictures) != 1:
        raise InputError(
            f"model {session.manifest.model.name!r} takes {len(pictures)} pictures; say which input the frames are "
            f"with image=, one of {', '.join(spec.name for spec in specs)}"
        )
    return pictures[0]


def _read_twice() -> CameraError:
    return CameraError(
        "another loop reads this camera now; one loop at a time does. Hand its answers on, or make a second Camera of "
        "a second source"
    )
