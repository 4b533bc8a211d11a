"""Split the clips of a folder into training and test, and number objects and sessions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from crumb.data.sets.folder_layout import TEST, TRAIN, Entry, natural
from crumb.data.spacing import evenly
from crumb.errors import InputError, setting

Split = Literal["session", "object", "given", "image"]

# Crumb's own splits always leave training images, so only test images can be missing.
_LACKING: dict[Split, tuple[str, str]] = {
    "session": (
        "only one session, so nothing is left to test on",
        f"add a second, take {setting('split', 'image')}, which tests on the last images of each "
        f"session, or take {setting('test', False)}",
    ),
    "object": (
        "only one object, so nothing is left to test on",
        f"add a second, or take {setting('split', 'session')}",
    ),
    "given": ("no images to {} on", f"add some to {{}}, or take {setting('split', 'session')}"),
    "image": (
        "only one image in each session, so nothing is left to test on",
        f"add more, or take {setting('test', False)}",
    ),
}


@dataclass(frozen=True)
class Clip:
    """A session of an object: one video or a few, or images.

    Attributes:
        class_name: name of its class.
        object: name of its object; may be empty.
        session: its name; may be empty.
        split: "train" or "test" if given, else empty.
        files: paths in time order.
    """

    class_name: str
    object: str
    session: str
    split: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """The training images or the test images of a clip.

    Attributes:
        clip: The clip.
        is_test: Whether they are test images.
        images: Paths in time order, at least one.
    """

    clip: Clip
    is_test: bool
    images: tuple[str, ...]


def group(entries: Sequence[Entry]) -> list[Clip]:
    """Clips in natural order of class, object and session."""
    files: defaultdict[tuple[str, str, str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        files[entry.class_name, entry.object, entry.session, entry.split].append(entry)
    return [
        Clip(*key, tuple(e.path for e in sorted(of, key=lambda e: (e.frame, natural(e.path)))))
        for key, of in sorted(files.items(), key=lambda item: [natural(name) for name in item[0]])
    ]


def one_each(clips: Sequence[Clip]) -> bool:
    """Whether every class has a single clip, so that none could be held out whole."""
    return max(Counter(clip.class_name for clip in clips).values()) == 1


def spread(count: int, share: float) -> list[int]:
    """Indices of the test items among ``count`` ordered items.

    The share is rounded, but at least one and never all are chosen, and none of a single item. They
    are evenly spread and include the last. A quarter of ten are the third, sixth and tenth.
    """
    if count < 2:
        return []
    tested = min(max(1, int(count * share + 0.5)), count - 1)
    return evenly(count, tested, at="end").tolist()


def held_out(clips: Sequence[Clip], split: Split, share: float) -> list[bool]:
    """Whether each clip, in natural order, is a test clip.

    * session: :func:`spread` over the clips of each object. Objects with a single clip are pooled
      by class.
    * object: :func:`spread` over the objects of each class, with all their clips.
    * given: as given.
    * image: none, because each clip is divided; see :func:`divide`.
    """
    if split in ("given", "image"):
        return [split == "given" and clip.split == TEST for clip in clips]
    units: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, clip in enumerate(clips):
        units[clip.class_name, clip.object].append(place)
    # A share of each list is for testing. The members of a list are lists of clips.
    lists: defaultdict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for (class_name, item), places in units.items():
        if split == "object" or len(places) == 1:
            lists[(class_name,)].append(places)
        else:
            lists[class_name, item] = [[place] for place in places]
    tested = [False] * len(clips)
    for members in lists.values():
        for chosen in spread(len(members), share):
            for place in members[chosen]:
                tested[place] = True
    return tested


def divide(clip: Clip, images: Sequence[str], is_test: bool, last: float | None) -> list[Part]:
    """The parts of a clip: one, or two if its last images are test images.

    Test images are the last ones, not every k-th one, because neighbouring frames look alike.
    """
    if last is None or len(images) < 2:
        return [Part(clip, is_test, tuple(images))]
    cut = len(images) - len(spread(len(images), last))
    return [Part(clip, False, tuple(images[:cut])), Part(clip, True, tuple(images[cut:]))]


def check_sides(sides: Mapping[str, tuple[int, int]], split: Split, test: bool = True) -> None:
    """Refuse a class that would not be trained on, or not tested on.

    Args:
        sides: Images, or clips, to train on and to test on, by class.
        split: How they were divided.
        test: Whether anything is tested on.

    Raises:
        InputError: a class has no training or no test image; names the class.
    """
    for side, kind in enumerate((TRAIN, TEST) if test else (TRAIN,)):
        lacking = [name for name, counts in sides.items() if not counts[side]]
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            problem, remedy = _LACKING[split]
            raise InputError(f"class {lacking[0]}{more}", problem.format(kind), remedy.format(kind))


def numbered(parts: Sequence[Part], class_ids: Mapping[str, int]) -> list[tuple[int, int, int]]:
    """Class, object and session number of each part.

    Objects count from 1 in their class. Training sessions count from 1 in their object. Test
    sessions continue after the largest number of a training session in the data set, so the number
    of a session tells which kind it is.

    Args:
        parts: in the order of the index.
        class_ids: class ids by name.
    """
    objects: dict[tuple[str, str], int] = {}
    last_object: Counter[str] = Counter()
    ranks: list[int] = []
    sizes: Counter[tuple[str, str, bool]] = Counter()
    for part in parts:
        clip = part.clip
        if (clip.class_name, clip.object) not in objects:
            last_object[clip.class_name] += 1
            objects[clip.class_name, clip.object] = last_object[clip.class_name]
        sizes[clip.class_name, clip.object, part.is_test] += 1
        ranks.append(sizes[clip.class_name, clip.object, part.is_test])
    trained = max((size for (*_, is_test), size in sizes.items() if not is_test), default=0)
    return [
        (
            class_ids[part.clip.class_name],
            objects[part.clip.class_name, part.clip.object],
            rank + trained * part.is_test,
        )
        for part, rank in zip(parts, ranks, strict=True)
    ]
