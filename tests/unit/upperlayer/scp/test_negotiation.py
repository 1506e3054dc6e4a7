"""The prepared negotiation decides as pynetdicom's negotiate_as_acceptor does."""

from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor

from lfscp.upperlayer.scp.contexts import SupportedContexts

ABSTRACT = ["1.2.840.10008.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.3"]
TRANSFER = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50", "1.2.3.4"]

transfers = st.lists(st.sampled_from(TRANSFER), min_size=1, max_size=4, unique=True)
asked_roles = st.dictionaries(
    st.sampled_from([UID(uid) for uid in ABSTRACT]), st.tuples(st.booleans(), st.booleans())
)
# pynetdicom's attributes: a role is only negotiated when both are set.
own_roles = st.one_of(st.just((None, None)), st.tuples(st.booleans(), st.booleans()))


@st.composite
def proposals(draw):
    proposed = []
    for number in range(draw(st.integers(1, 8))):
        context = build_context(draw(st.sampled_from(ABSTRACT)), draw(transfers))
        context.context_id = 2 * number + 1
        proposed.append(context)
    return draw(st.permutations(proposed))


@st.composite
def supports(draw):
    supported = []
    for uid in draw(st.lists(st.sampled_from(ABSTRACT), max_size=4, unique=True)):
        context = build_context(uid, draw(transfers))
        context.scu_role, context.scp_role = draw(own_roles)
        supported.append(context)
    return supported


def decided(contexts):
    """What a result says; roles and transfer syntax only of what is accepted."""
    return [
        (cx.context_id, cx.abstract_syntax, cx.result)
        + ((cx.as_scu, cx.as_scp, cx.transfer_syntax) if cx.result == 0 else ())
        for cx in sorted(contexts, key=lambda cx: cx.context_id)
    ]


@settings(max_examples=300, deadline=None)
@given(proposals(), supports(), asked_roles)
def test_results_and_role_answers_are_pynetdicoms(proposed, supported, roles):
    expected, expected_roles = negotiate_as_acceptor(deepcopy(proposed), supported, dict(roles))
    results, role_items = SupportedContexts(supported).negotiate(proposed, roles)
    assert decided(results) == decided(expected)
    assert [cx.context_id for cx in results] == sorted(cx.context_id for cx in proposed)
    assert [(i.sop_class_uid, i.scu_role, i.scp_role) for i in role_items] == [
        (i.sop_class_uid, i.scu_role, i.scp_role) for i in expected_roles
    ]


def test_what_is_supported_is_not_changed_by_a_negotiation():
    supported = [build_context(ABSTRACT[1], TRANSFER)]
    prepared = SupportedContexts(supported)
    proposed = build_context(ABSTRACT[1], [TRANSFER[2]])
    proposed.context_id = 1
    for _ in range(2):
        (result,), _ = prepared.negotiate([proposed], {})
        assert result.transfer_syntax == [TRANSFER[2]]
        result._transfer_syntax.clear()
    assert supported[0].transfer_syntax == TRANSFER


def test_only_the_contexts_that_were_prepared_are_these():
    supported = [build_context(uid) for uid in ABSTRACT]
    prepared = SupportedContexts(supported)
    assert prepared.are(list(supported))
    assert not prepared.are(supported[:-1])
    assert not prepared.are([*supported[:-1], PresentationContext()])
