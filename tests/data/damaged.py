"""Any damage to a file, as a strategy."""

from __future__ import annotations

from hypothesis import strategies as st

_PIECES = st.binary(max_size=4) | st.sampled_from(
    [b"", b" ", b",", b"\n", b"\r\n", b"\t", b'"', b"\0", b"-", b"..", b"/", b"9" * 30, b"\xc3\xa9"]
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """``content`` with up to three pieces of it replaced by others."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 6)))
        content = content[:start] + draw(_PIECES) + content[end:]
    return content
