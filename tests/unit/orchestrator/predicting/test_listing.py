"""The list of images is hashed, and cut into chunks that end where parts end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.predicting.arguments import ImageSource
from orchestrator.predicting.listing import Listing

ENTRIES = st.lists(
    st.one_of(
        st.builds(ImageSource, st.just(""), st.text("ab\udcff", min_size=1, max_size=3)),
        st.builds(ImageSource, st.just("s3://b?x=y"), st.just("t"), st.integers(0, 9), st.just("image")),
    ),
    max_size=8,
).map(lambda found: [*found, ImageSource("", "last.jpg")])


@given(ENTRIES, st.integers(1, 5), st.integers(1, 7), st.sets(st.integers(0, 9)))
def test_chunks_hold_every_image_of_open_parts_once_and_never_two_parts(
    entries: list[ImageSource], batch: int, part: int, done: set[int]
) -> None:
    with Listing(entries) as listing:
        refs = list(listing.refs())
        assert len(refs) == listing.count
        chunks = list(listing.chunks(batch, part, done))
    found = {chunk.start + place: ref for chunk in chunks for place, ref in enumerate(chunk.refs)}
    assert sum(len(chunk.refs) for chunk in chunks) == len(found)
    assert found == {place: ref for place, ref in enumerate(refs) if place // part not in done}
    for chunk in chunks:
        assert 1 <= len(chunk.refs) <= batch
        assert chunk.start // part == (chunk.start + len(chunk.refs) - 1) // part


@given(ENTRIES)
def test_another_order_or_another_name_is_another_list(entries: list[ImageSource]) -> None:
    def digest(found: list[ImageSource]) -> str:
        with Listing(found) as listing:
            return listing.sha256

    turned = entries[::-1]
    assert (digest(entries) == digest(turned)) == (entries == turned)
    assert digest(entries) != digest([*entries, ImageSource("", "one more")])
    assert digest([ImageSource("s3://b?secret=1", "a.jpg")]) == digest(
        [ImageSource("s3://b?secret=2", "a.jpg")]
    )
