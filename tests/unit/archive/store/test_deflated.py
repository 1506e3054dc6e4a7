"""What inflates to more than the bound is refused before it is inflated whole."""

import tracemalloc
import zlib

import pytest

from lfscp.archive.store.deflated import inflated, require_bounded, require_bounded_file
from lfscp.dicom.errors import DatasetError
from lfscp.dicom.part10.file_meta import part10_header

DEFLATED = "1.2.840.10008.1.2.1.99"
MB = 1 << 20


def deflated(size):
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return b"".join(deflate.compress(bytes(MB)) for _ in range(size // MB)) + deflate.flush()


def test_a_bomb_is_refused_in_bounded_memory():
    bomb = deflated(100 * MB)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="50 MB"):
            require_bounded([bomb], 50 * MB)
        assert tracemalloc.get_traced_memory()[1] < MB
    finally:
        tracemalloc.stop()


def test_what_stays_below_the_bound_passes():
    require_bounded([deflated(3 * MB)], 3 * MB)


def test_what_is_not_deflated_is_refused():
    with pytest.raises(DatasetError, match="inflated"):
        require_bounded([b"\xff\xff\xff"], MB)


@pytest.mark.parametrize("syntax", [DEFLATED, "1.2.840.10008.1.2.1"])
def test_only_the_dataset_of_a_deflated_file_is_counted(tmp_path, syntax):
    file = tmp_path / "file.dcm"
    file.write_bytes(part10_header("1.2", "1.2.3", syntax) + deflated(4 * MB))
    if syntax == DEFLATED:
        with pytest.raises(DatasetError, match="2 MB"):
            require_bounded_file(file, 2 * MB)
    else:
        require_bounded_file(file, 2 * MB)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("padding", [b"\0", bytes(100_000)])
def test_padding_behind_the_end_is_not_waited_for(padding):
    require_bounded([deflated(3 * MB) + padding], 3 * MB)


def test_a_dataset_is_inflated_up_to_the_bound_and_no_further():
    content = deflated(3 * MB)
    assert inflated(content + b"\0", 3 * MB) == bytes(3 * MB)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="2 MB"):
            inflated(content, 2 * MB)
        assert tracemalloc.get_traced_memory()[1] < MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [1, 100])
def test_a_cut_dataset_is_not_inflated(cut):
    with pytest.raises(DatasetError, match="ends too early"):
        inflated(deflated(MB)[:-cut], 3 * MB)
