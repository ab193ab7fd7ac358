"""Files that are nearly right: a valid one with some bytes, or some words, changed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from hypothesis import strategies as st

#: A number, a word, a text in quotes, or a mark of JSON, YAML and CSV.
_TOKENS = re.compile(rb'"[^"\n]*"|[-+.\w]+|[\[\]{},:]')

#: What a word may be replaced by: the odd values of every format.
ODD = (
    b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b".nan", b"-.inf", b"null", b"true", b"True", b"~", b"",
    b"0", b"-1", b"-0.0", b"1", b"2", b"1.5", b"1e400", b"1e-400", b"1e300", b"9" * 25, b"9" * 5000,
    b"0x" + b"f" * 40, b'"1"', b'""', b'"x"', b"[]", b"{}", b"[[]]", b'{"a": 1}', b"2020-01-01", b"2020-13-45",
    b"!!int foo", b"*a", b"&a b", b"<<", b"'", b'"', b"\t", b"\n", b"\r", b"#", b"\x00", b"\xff", b"\xc2\xb2",
    b"\xed\xa0\x80", b"../x", b"/x", b"=1+1", b"@x", b"%s", b"<script>", b"[" * 3000, b"- ", b"? ",
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, valid: bytes, text: bool = False) -> bytes:
    """One to three changes of `valid`. text: also of whole words."""
    data = valid
    for _ in range(draw(st.integers(1, 3))):
        kinds = ["cut", "flip", "delete", "insert", "double", "swap"] + ["word"] * 8 * text
        kind = draw(st.sampled_from(kinds))
        at, to = sorted((draw(_places(data)), draw(_places(data))))
        if kind == "word" and (tokens := list(_TOKENS.finditer(data))):
            token = tokens[draw(st.integers(0, len(tokens) - 1))]
            data = data[: token.start()] + draw(st.sampled_from(ODD)) + data[token.end() :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "flip" and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
        elif kind == "delete":
            data = data[:at] + data[min(to, at + 200) :]
        elif kind == "insert":
            data = data[:at] + draw(st.binary(min_size=1, max_size=40)) + data[at:]
        elif kind == "double":
            data = data[:to] + data[at:to] + data[to:]
        elif kind == "swap":
            data = data[to:] + data[at:to] + data[:at]
    return data


def _places(data: bytes) -> st.SearchStrategy[int]:
    """Places in the data, its first bytes more often than others: headers are there."""
    return st.one_of(st.integers(0, len(data)), st.integers(0, min(len(data), 200)))


def slightly_changed(valid: bytes, text: bool) -> Iterator[bytes]:
    """A thousand of the smallest changes of `valid`: of one bit, or, if it is text, of the last digit of a number."""
    draw = random.Random(0)
    ends = [token.end() - 1 for token in _TOKENS.finditer(valid) if token[0][-1:].isdigit()]
    for at in draw.choices(ends if text else range(len(valid)), k=1000):
        other = draw.choice(sorted(set(b"0123456789") - {valid[at]})) if text else valid[at] ^ (1 << draw.randrange(8))
        yield valid[:at] + bytes([other]) + valid[at + 1 :]
