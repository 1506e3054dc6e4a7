"""Presentation contexts of a retrieve: proposals, the limit of 128, and the choice per object."""

from __future__ import annotations

from pathlib import Path

import pytest
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from lfscp.archive.archive import StoredInstance
from lfscp.services.sending.retrieve_contexts import Accepted, Choice, batches

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
RLE = "1.2.840.10008.1.2.5"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


def instance(sop_class: str, syntax: str, number: int = 1) -> StoredInstance:
    return StoredInstance(
        sop_class_uid=sop_class,
        sop_instance_uid=f"1.2.3.{number}",
        transfer_syntax_uid=syntax,
        path=Path("object.dcm"),
        dataset_offset=0,
        size=0,
        study_uid="1.2",
        series_uid="1.2.3",
    )


def accepted(*contexts: tuple[int, str, str], as_scu: bool = True) -> Accepted:
    prepared: list[PresentationContext] = []
    for context_id, sop_class, syntax in contexts:
        context = build_context(sop_class, syntax)
        context.context_id = context_id
        context._as_scu = as_scu
        prepared.append(context)
    return Accepted(prepared)


@pytest.mark.parametrize(
    ("stored", "proposed"),
    [
        ([JPEG_2000], [(JPEG_2000,), (EXPLICIT, IMPLICIT)]),
        ([EXPLICIT], [(EXPLICIT,), (IMPLICIT,)]),
        ([JPEG_2000, RLE, IMPLICIT], [(JPEG_2000,), (RLE,), (IMPLICIT,), (EXPLICIT,)]),
        ([EXPLICIT, IMPLICIT], [(EXPLICIT,), (IMPLICIT,)]),
    ],
)
def test_each_stored_syntax_has_a_context_and_each_class_a_fall_back(
    stored: list[str], proposed: list[tuple[str, ...]]
) -> None:
    (batch,) = batches([instance(CT, syntax) for syntax in stored])

    assert batch.proposals == [(CT, syntaxes) for syntaxes in proposed]


def test_context_ids_are_odd_and_distinct() -> None:
    (batch,) = batches([instance(CT, JPEG_2000), instance(MR, EXPLICIT)])

    assert [context.context_id for context in batch.contexts()] == [1, 3, 5, 7]
    assert [context.abstract_syntax for context in batch.contexts()] == [CT, CT, MR, MR]


def test_one_association_is_enough_for_128_contexts() -> None:
    objects = [instance(f"1.2.{number}", JPEG_2000) for number in range(64)]

    (batch,) = batches(objects)

    assert batch.contexts()[-1].context_id == 255


def test_more_contexts_take_several_associations_each_with_whole_classes() -> None:
    objects = [
        instance(f"1.2.{number}", syntax, number)
        for syntax in (JPEG_2000, RLE)
        for number in range(100)
    ]

    divided = batches(objects)

    assert all(len(batch.proposals) <= 128 for batch in divided)
    assert sum(len(batch.instances) for batch in divided) == 200
    classes = [{one.sop_class_uid for one in batch.instances} for batch in divided]
    assert sum(len(each) for each in classes) == len(set().union(*classes)) == 100


def test_order_is_kept() -> None:
    objects = [instance((CT, MR)[number % 2], EXPLICIT, number) for number in range(6)]

    (batch,) = batches(objects)

    assert batch.instances == objects


def test_stored_syntax_is_preferred() -> None:
    found = accepted((1, CT, JPEG_2000), (3, CT, EXPLICIT))

    assert found.choose(instance(CT, JPEG_2000), may_decode=True) == Choice(1, JPEG_2000)


def test_uncompressed_is_taken_when_the_stored_syntax_was_refused() -> None:
    found = accepted((3, CT, IMPLICIT))

    assert found.choose(instance(CT, JPEG_2000), may_decode=True) == Choice(3, IMPLICIT)


def test_explicit_goes_as_implicit_even_when_decoding_is_off() -> None:
    found = accepted((3, CT, IMPLICIT))

    assert found.choose(instance(CT, EXPLICIT), may_decode=False) == Choice(3, IMPLICIT)


@pytest.mark.parametrize(
    ("found", "may_decode"),
    [
        (accepted((3, CT, IMPLICIT)), False),  # decoding is off
        (accepted((3, CT, RLE)), True),  # nothing is compressed for a receiver
        (accepted((3, MR, JPEG_2000)), True),  # of another SOP class
        (accepted((3, CT, JPEG_2000), as_scu=False), True),  # C-GET without the SCP role
    ],
)
def test_no_suitable_context(found: Accepted, may_decode: bool) -> None:
    assert found.choose(instance(CT, JPEG_2000), may_decode=may_decode) is None
