"""Where a file's numbers are, by its own word; and that a lying file is believed in nothing."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.snapshots.layouts import Layout, Span, hint_of, layout_of


def layout(name: str, content: bytes) -> Layout | None:
    """As the engine asks, reading never beyond the end."""

    def read_at(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(content)
        return content[offset : offset + length]

    found = layout_of(name.encode(), content[: 1 << 16], len(content), read_at)
    if found is not None:
        assert [span.start for span in found] == [0, *(span.end for span in found[:-1])][
            : len(found)
        ]
        assert all(span.start < span.end for span in found)
        assert (found[-1].end if found else 0) == len(content)
    return found


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype: str, start: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "data_offsets": [start, end]}


def npy(descr: str, data: bytes, *, version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(
        2 if version == 1 else 4, "little"
    ) + header + data  # fmt: skip


def torch(*, compression: int = zipfile.ZIP_STORED, wide: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("model/data.pkl", b"never unpickled" * 9)
        for number, byte in enumerate((b"a", b"b")):
            with archive.open(f"model/data/{number}", "w", force_zip64=wide) as member:
                member.write(byte * (200_000 + number))
        archive.comment = b"a comment"
    return file.getvalue()


def test_safetensors_name_the_size_of_their_numbers() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "later": tensor("F32", 600, 1000),
        "first": tensor("BF16", 0, 600),
        "eighth": tensor("F8_E4M3", 1000, 1100),
    }
    content = safetensors(header, bytes(1100))
    begin = len(content) - 1100
    assert layout("model.safetensors", content) == (
        Span(0, begin, None),
        Span(begin, begin + 600, 2),
        Span(begin + 600, begin + 1000, 4),
        Span(begin + 1000, begin + 1100, None),
    )


def test_bytes_that_no_tensor_owns_are_kept() -> None:
    content = safetensors({"a": tensor("F64", 10, 20), "empty": tensor("F32", 4, 4)}, bytes(30))
    begin = len(content) - 30
    assert layout("x.safetensors", content) == (
        Span(0, begin + 10, None),
        Span(begin + 10, begin + 20, 8),
        Span(begin + 20, begin + 30, None),
    )


@pytest.mark.parametrize(
    "header",
    [
        {"a": tensor("F32", 0, 101)},
        {"a": tensor("F32", 8, 4)},
        {"a": tensor("F32", -8, 4)},
        {"a": tensor("F32", 0, 60), "b": tensor("F32", 59, 100)},
        {"a": tensor("F32", 0, 1 << 90)},
        {"a": tensor("F32", 0.0, 4.0)},
        {"a": tensor("F32", "0", "4")},
        b'{"a": {"dtype": "F32", "data_offsets": [0, Infinity]}}',
        b'{"a": {"dtype": "F32", "data_offsets": [0, 1e999]}}',
        {"a": {"dtype": ["F32"], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "data_offsets": [0, 4, 8]}},
        {"a": {"dtype": "F32"}},
        {"a": "not a tensor"},
        {"a": None},
        [],
        7,
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_a_header_that_does_not_fit_is_none(header: Any) -> None:
    assert layout("model.safetensors", safetensors(header, bytes(100))) is None


def test_a_header_longer_than_the_file_or_than_is_sane_is_not_read() -> None:
    assert layout("a.safetensors", b"\xff" * 8 + b"{}") is None
    assert layout("a.safetensors", b"\x10\0\0\0\0\0\0\0{}") is None
    assert layout("a.safetensors", b"{}") is None
    assert layout("a.safetensors", b"") is None

    def never(offset: int, length: int) -> bytes:
        raise AssertionError((offset, length))

    huge = (90 << 20).to_bytes(8, "little")
    assert layout_of(b"a.safetensors", huge, 100 << 30, never) is None


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(
    ("descr", "element"),
    [("'<f4'", 4), ("'<f2'", 2), ("'>i8'", 8), ("'<c16'", 8), ("'|u1'", None), ("'<V2'", None),
     ("[('x', '<f4'), ('y', '<i8')]", None)],
)  # fmt: skip
def test_arrays(version: int, descr: str, element: int | None) -> None:
    content = npy(descr, b"n" * 800, version=version)
    begin = len(content) - 800
    assert layout("any name", content) == (Span(0, begin, None), Span(begin, len(content), element))


def test_arrays_that_lie() -> None:
    assert layout("a.npy", npy("'<f4'", b"", version=9)) is None
    assert layout("a.npy", npy("'<f4'", b"")[:30]) is None
    assert layout("a.npy", b"\x93NUMPY") is None
    assert layout("a.npy", b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(100)) is None


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", ["model.pt", "last.ckpt", "pytorch_model.bin", "arrays.npz"])
def test_tensors_in_a_torch_file_start_spans(name: str, wide: bool) -> None:
    content = torch(wide=wide)
    found = layout(name, content)
    assert found is not None
    tensors = [content[span.start : span.end] for span in found if span.end - span.start > 100_000]
    assert tensors == [b"a" * 200_000, b"b" * 200_001]
    assert all(span.element is None for span in found)


def test_a_zip_of_compressed_members_has_no_layout() -> None:
    assert layout("model.pt", torch(compression=zipfile.ZIP_DEFLATED)) is None
    assert layout("sources.zip", torch()) is None


def test_a_torch_file_whose_directory_points_elsewhere_is_none() -> None:
    content = torch()
    at = content.rindex(b"PK\x01\x02")
    for offset in (1, 1 << 31, len(content) - 3):
        moved = content[: at + 42] + offset.to_bytes(4, "little") + content[at + 46 :]
        assert layout("model.pt", moved) is None
    assert layout("model.pt", content[:-200]) is None


VALID = {
    "a.safetensors": safetensors({"a": tensor("F32", 0, 60), "b": tensor("I64", 64, 100)}, bytes(100)),
    "a.npy": npy("'<f4'", bytes(400)),
    "a.pt": torch(),
    "b.pt": torch(wide=True),
}  # fmt: skip


@given(name=st.sampled_from(sorted(VALID)), where=st.randoms(use_true_random=False))
def test_a_damaged_file_is_covered_or_not_believed(name: str, where: Any) -> None:
    content = bytearray(VALID[name])
    edges = [*range(min(200, len(content))), *range(max(0, len(content) - 500), len(content))]
    for _ in range(where.randrange(1, 6)):
        content[where.choice(edges)] = where.choice([0, 0xFF, where.randrange(256)])
    layout(name, bytes(content))


@given(content=st.binary(max_size=400), name=st.sampled_from(["a.safetensors", "a.pt", "a.npy"]))
def test_any_bytes_will_do(content: bytes, name: str) -> None:
    for start in (b"", b"\x93NUMPY\x01\0", b"PK\x03\x04", b"\x20\0\0\0\0\0\0\0"):
        layout(name, start + content)


@pytest.mark.parametrize("fault", [OSError, PermissionError])
def test_a_file_that_cannot_be_read_is_not_called_a_liar(fault: type[OSError]) -> None:
    def broken(offset: int, length: int) -> bytes:
        raise fault(5, "broken")

    content = VALID["a.safetensors"]
    with pytest.raises(fault):
        layout_of(b"a.safetensors", content, len(content), broken)


def test_names_tell_what_is_compressed_already() -> None:
    for name in (b"a.JPG", b"dir/b.tar.gz", b"c.whl", b"\xff.zst", b"d.parquet"):
        assert hint_of(name) == 0
    for name in (b"a.py", b"jpg", b".zip", b"x.zip/file", b"", b"model.safetensors"):
        assert hint_of(name) is None
