"""Frame times of clips with unreliable time stamps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from av.packet import Packet
from av.video.frame import VideoFrame

LONGEST_STEP, LONGEST_PAUSE = 10, 60
"""Longest step between two frames in seconds, unless the neighbouring steps are about as long.
The first is ffmpeg's limit for formats whose clocks jump (MPEG streams). In other formats a longer
pause is probably intended, as in a screen recording, so the second applies."""
AHEAD = 256
"""Number of frames to look ahead. With a clock of whole seconds, all frames of a second share one
time stamp: 60 of them at 60 frames per second."""
# A step that is this many times as long as its neighbours is not explained by the frame rate.
_OUT_OF_PROPORTION = 10
# As in ffmpeg: time stamps of MPEG streams may be off by a frame or two and catch up later.
_JITTER = Fraction(1, 10)
# FFmpeg's default for streams without a frame rate.
_USUAL_STEP = Fraction(1, 25)


class Clock:
    """Converts time stamps to seconds since the first frame.

    Increasing time stamps are trusted, however coarse or far apart they are. Frames with the same
    time stamp divide the time until the next one equally. There are two kinds of gap:

    * a time stamp that goes back by more than a tenth of a second and more than one frame;
    * a step forward that is longer than a limit and ten times as long as the steps before and
      after it.

    A gap is closed: its frame follows after the usual step, and the time stamps of later frames are
    shifted to match. A frame without a time stamp, or whose time stamp goes back by less, also
    follows after the usual step. The next frame with a correct time stamp ends the deviation.

    Args:
        unit: unit of time stamps and durations, in seconds.
        jumps: whether clocks of this format jump. In other formats the frame after a jump begins a
            new second, so that the sample has a frame after every pause.

    Attributes:
        gaps: number of closed gaps.
        faults: number of time stamps that do not increase, or jump.
        seconds: time of the last frame, in seconds.
    """

    def __init__(self, unit: Fraction, jumps: bool = True) -> None:
        self.gaps = self.faults = 0
        self.seconds = Fraction(0)
        self._unit, self._jumps = unit, jumps
        self._longest = LONGEST_STEP if jumps else LONGEST_PAUSE
        self._begun = False
        self._last_stamp: int | None = None
        # The time of stamp 0; unknown before the first stamp.
        self._origin: Fraction | None = None
        self._step: Fraction | None = None
        self._duration: Fraction | None = None

    def tick(
        self, stamp: int | None, duration: int | None, ahead: Sequence[int | None] = ()
    ) -> Fraction:
        """The time of the next frame, in seconds.

        Args:
            stamp: time stamp of the frame, or None.
            duration: nominal duration; 0 or None if unknown.
            ahead: known time stamps of later frames.
        """
        step = self._usual_step()
        follows = self.seconds + step if self._begun else self.seconds
        if stamp is not None:
            follows = self._by_stamp(stamp, step, follows, ahead)
        self.seconds, self._begun = follows, True
        self._duration = duration * self._unit if duration else None
        return self.seconds

    def end(self) -> Fraction:
        """The end of the last frame, in seconds; 0 without frames."""
        return self.seconds + self._usual_step() if self._begun else Fraction(0)

    def _by_stamp(
        self, stamp: int, step: Fraction, follows: Fraction, ahead: Sequence[int | None]
    ) -> Fraction:
        """The time that the stamp implies, or ``follows`` if the stamp is wrong."""
        at = stamp * self._unit
        last, self._last_stamp = self._last_stamp, stamp
        if last is None or self._origin is None:
            self._origin = follows - at
            return follows
        told = self._origin + at
        late = self.seconds - told
        if stamp == last:
            self.faults += 1
            shared = self._shared(stamp, ahead)
            return follows if shared is None else self.seconds + shared
        jumped = -late > self._longest and self._is_jump(-late, stamp, ahead)
        if jumped or late > max(_JITTER, step):
            self.gaps += 1
            self.faults += 1
            if jumped and not self._jumps:
                follows = max(follows, Fraction(math.floor(self.seconds) + 1))
            self._origin = follows - at
            return follows
        self.faults += stamp < last
        if late >= 0:
            return follows
        self._step = told - self.seconds
        return told

    def _shared(self, stamp: int, ahead: Sequence[int | None]) -> Fraction | None:
        """Time per frame until the next time stamp; None if unknown."""
        assert self._origin is not None
        rise = _next(stamp, ahead)
        if rise is None or (rise - stamp) * self._unit > self._longest:
            return None
        left = self._origin + rise * self._unit - self.seconds
        # The last frame, this one, and those ahead.
        return max(left / (2 + ahead.count(stamp)), Fraction(0))

    def _is_jump(self, step: Fraction, stamp: int, ahead: Sequence[int | None]) -> bool:
        """Whether a step is far longer than the steps before and after it."""
        rise = _next(stamp, ahead)
        after = None if rise is None else (rise - stamp) * self._unit
        beside = [one for one in (self._step, after) if one is not None]
        return bool(beside) and step > _OUT_OF_PROPORTION * max(beside)

    def _usual_step(self) -> Fraction:
        if self._step is not None:
            return self._step
        if self._duration is not None and 0 < self._duration <= LONGEST_STEP:
            return self._duration
        return _USUAL_STEP


def _next(stamp: int, ahead: Sequence[int | None]) -> int | None:
    """The smallest larger stamp ahead, or None."""
    return min((one for one in ahead if one is not None and one > stamp), default=None)


class Times(NamedTuple):
    """Times of a packet. The packet itself would keep its frame in memory."""

    shown: int | None
    decoded: int | None
    duration: int | None
    is_key: bool


def clock_of(packets: Sequence[Times], unit: Fraction, jumps: bool) -> Clock:
    """The clock after the last frame of a clip, without decoding it.

    As in :class:`FrameClock`, the time stamps with fewer faults are used.

    Args:
        packets: packets of the video stream, in file order.
        unit: unit of time stamps, in seconds.
        jumps: see :class:`Clock`.
    """
    in_order = [packet for group in _groups(packets) for packet in sorted(group, key=_shown_at)]
    shown, decoded = Clock(unit, jumps), Clock(unit, jumps)
    stamps = [packet.shown for packet in in_order]
    for place, packet in enumerate(in_order):
        shown.tick(packet.shown, packet.duration, stamps[place + 1 : place + 1 + AHEAD])
    stamps = [packet.decoded for packet in packets]
    for place, packet in enumerate(packets):
        decoded.tick(packet.decoded, packet.duration, stamps[place + 1 : place + 1 + AHEAD])
    return shown if shown.faults <= decoded.faults else decoded


def _groups(packets: Sequence[Times]) -> Iterator[Sequence[Times]]:
    """Each key frame with the packets up to the next; frames are reordered only within a group."""
    starts = [place for place, packet in enumerate(packets) if place and packet.is_key]
    for start, end in pairwise([0, *starts, len(packets)]):
        yield packets[start:end]


def _shown_at(packet: Times) -> int:
    return 0 if packet.shown is None else packet.shown


class FrameClock:
    """Times of decoded frames from presentation time stamps or, if these are worse, decoding ones.

    As in ffmpeg, the time stamps with fewer faults are used, on a tie those of presentation. AVI
    has no presentation time stamps: FFmpeg numbers packets in decoding order, which differs from
    frame order if there are B-frames. Such a clip is detected at the first frame that the decoder
    returns before a packet with an earlier time stamp, although all packets were in ascending
    order.

    Args:
        unit: unit of time stamps, in seconds.
        jumps: see :class:`Clock`.
    """

    def __init__(self, unit: Fraction, jumps: bool) -> None:
        self._shown, self._decoded = Clock(unit, jumps), Clock(unit, jumps)
        self._sent: list[int] = []
        self._last_sent: int | None = None
        self._ascending = True
        self._begun = False
        self._shuffled = False

    def send(self, packet: Packet) -> None:
        """Note a packet that is sent to the decoder."""
        if packet.pts is not None:
            self._ascending &= self._last_sent is None or packet.pts > self._last_sent
            self._last_sent = packet.pts
            self._sent.append(packet.pts)

    def tick(self, frame: VideoFrame, ahead: Iterable[Packet]) -> Fraction:
        """The time of the next decoded frame, in seconds since the first.

        Args:
            frame: the decoded frame.
            ahead: packets that have not been sent to the decoder.
        """
        if frame.pts is not None:
            overtaken = any(stamp < frame.pts for stamp in self._sent)
            # Packets before the first frame may belong to a frame whose beginning was cut off.
            self._shuffled |= overtaken and self._ascending and self._begun
            if not self._shuffled:
                self._sent = [stamp for stamp in self._sent if stamp > frame.pts]
        self._begun = True
        packets = [*ahead]
        shown_ahead = [*self._sent, *(packet.pts for packet in packets)]
        decoded_ahead = [packet.dts for packet in packets]
        shown = self._shown.tick(frame.pts, frame.duration, shown_ahead)
        decoded = self._decoded.tick(frame.dts, frame.duration, decoded_ahead)
        if self._shuffled:
            self._sent.clear()
            return decoded
        return shown if self._shown.faults <= self._decoded.faults else decoded


def with_ahead(packets: Iterator[Packet]) -> Iterator[tuple[Packet, deque[Packet]]]:
    """Each packet with up to ``AHEAD`` packets that follow it."""
    ahead: deque[Packet] = deque()
    for packet in packets:
        ahead.append(packet)
        if len(ahead) > AHEAD:
            yield ahead.popleft(), ahead
    while ahead:
        yield ahead.popleft(), ahead
