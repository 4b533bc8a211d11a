"""The times of a clip's frames, where its own time stamps cannot be relied on."""

from __future__ import annotations

from fractions import Fraction

from av.packet import Packet
from av.video.frame import VideoFrame

LONGEST_STEP = 10
"""Seconds from one frame to the next, at most; ffmpeg's limit for streams whose clocks jump."""
# As in ffmpeg: time stamps of MPEG streams may be off by a frame or two, and catch up later.
_JITTER = Fraction(1, 10)
# What FFmpeg takes for a stream that says nothing.
_USUAL_STEP = Fraction(1, 25)


class Clock:
    """Seconds since the first frame, counted up from time stamps.

    A time stamp that goes back by more than a tenth of a second and a frame, or forward by more
    than ``LONGEST_STEP``, is a gap. It is closed: the frame follows as the frames before it did,
    and those after it follow by their time stamps. A frame whose time stamp does not increase,
    or that has none, follows in the same way; the next one that is in time is on time again.

    Args:
        unit: of time stamps and durations, in seconds.

    Attributes:
        gaps: how many were closed.
        faults: time stamps that do not increase, or jump.
        seconds: of the last frame.
    """

    def __init__(self, unit: Fraction) -> None:
        self.gaps = self.faults = 0
        self.seconds = Fraction(0)
        self._unit = unit
        self._begun = False
        self._last_stamp: int | None = None
        # The time of stamp 0; unknown before the first stamp.
        self._origin: Fraction | None = None
        self._step: Fraction | None = None
        self._duration: Fraction | None = None

    def tick(self, stamp: int | None, duration: int | None) -> Fraction:
        """The time of the next frame, in seconds.

        Args:
            stamp: its time stamp, if it has one.
            duration: how long it is said to last; 0 or None where that is unknown.
        """
        step = self._usual_step()
        follows = self.seconds + step if self._begun else self.seconds
        if stamp is not None:
            follows = self._by_stamp(stamp, step, follows)
        self.seconds, self._begun = follows, True
        self._duration = duration * self._unit if duration else None
        return self.seconds

    def end(self) -> Fraction:
        """When the last frame ends, in seconds; 0 if there was none."""
        return self.seconds + self._usual_step() if self._begun else Fraction(0)

    def _by_stamp(self, stamp: int, step: Fraction, follows: Fraction) -> Fraction:
        """The time that a stamp tells, or ``follows`` where it cannot be true."""
        at = stamp * self._unit
        last, self._last_stamp = self._last_stamp, stamp
        if last is None or self._origin is None:
            self._origin = follows - at
            return follows
        told = self._origin + at
        late = self.seconds - told
        if late > max(_JITTER, step) or -late > LONGEST_STEP:
            self.gaps += 1
            self.faults += 1
            self._origin = follows - at
            return follows
        self.faults += stamp <= last
        if late >= 0:
            return follows
        self._step = told - self.seconds
        return told

    def _usual_step(self) -> Fraction:
        if self._step is not None:
            return self._step
        if self._duration is not None and 0 < self._duration <= LONGEST_STEP:
            return self._duration
        return _USUAL_STEP


class FrameClock:
    """The times of decoded frames, by presentation or, where that fails, by decoding.

    As in ffmpeg, the time stamps with fewer faults are taken, and of equals those of presentation.
    AVI has none: FFmpeg numbers packets in the order of decoding, which is not that of the frames
    where there are B-frames. Such a clip is recognised at the first frame that comes out before a
    packet with an earlier time stamp, though all packets came in ascending order.

    Args:
        unit: of time stamps, in seconds.
    """

    def __init__(self, unit: Fraction) -> None:
        self._shown, self._decoded = Clock(unit), Clock(unit)
        self._sent: list[int] = []
        self._last_sent: int | None = None
        self._ascending = True
        self._begun = False
        self._shuffled = False

    def send(self, packet: Packet) -> None:
        """Note a packet that goes into the decoder."""
        if packet.pts is not None:
            self._ascending &= self._last_sent is None or packet.pts > self._last_sent
            self._last_sent = packet.pts
            self._sent.append(packet.pts)

    def tick(self, frame: VideoFrame) -> Fraction:
        """The time of the next frame that comes out, in seconds since the first."""
        if frame.pts is not None:
            overtaken = any(stamp < frame.pts for stamp in self._sent)
            # Packets before the first frame may be left over from one that was cut off.
            self._shuffled |= overtaken and self._ascending and self._begun
            if not self._shuffled:
                self._sent = [stamp for stamp in self._sent if stamp > frame.pts]
        self._begun = True
        shown = self._shown.tick(frame.pts, frame.duration)
        decoded = self._decoded.tick(frame.dts, frame.duration)
        if self._shuffled:
            self._sent.clear()
            return decoded
        return shown if self._shown.faults <= self._decoded.faults else decoded
