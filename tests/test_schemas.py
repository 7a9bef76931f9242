"Errors that say what to do, and models that agree with what is read."
import json, pickle

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from mlproject.photos import REASONS, PhotoError
from mlproject.serving.inputs import read_request
from mlproject.serving.schemas import (CODES, PROBLEM_MEDIA_TYPE, PredictIn, PredictionOut, ProblemOut, ServingError, photo_problem,
                                       problem_responses, shown)

VALUES = st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.integers()), st.dictionaries(st.text(), st.text()))

@given(VALUES)
def test_a_value_is_shown_short_and_printable(value):
    text = shown(value)
    assert len(text) <= 80 and text.isprintable()
    text.encode()

def test_an_enormous_value_costs_nothing():
    assert len(shown('x' * 10**7)) == 80 and shown(10**100_000) == 'an integer of 332,193 bits' and shown({'a': [1] * 10**6}) == 'an object with 1 members'

@given(st.sampled_from(sorted(CODES)), st.text(), st.none() | st.text(), VALUES, st.none() | st.text())
def test_every_document_is_a_problem_document(code, text, field, value, allowed):
    e = ServingError(code, text, field, value, allowed)
    document = json.loads(json.dumps(e.document('r1'), allow_nan=False).encode())
    assert ProblemOut(**document).model_dump(exclude_none=True) == document
    assert document['error'] == document['detail'] and document['status'] == CODES[code][0] and document['type'].endswith(code)
    assert document['detail'].isprintable()

def test_an_error_names_field_value_and_what_is_allowed():
    assert str(ServingError('invalid', 'does not fit', 'top_k', 0, '1 to 100')) == 'invalid: top_k = 0: does not fit (allowed: 1 to 100)'
    assert ServingError('overloaded', headers={'Retry-After': '1'}).headers == {'Retry-After': '1'}

def test_an_error_survives_the_way_between_processes():
    e = ServingError('overloaded', 'busy', headers={'Retry-After': '2'})
    again = pickle.loads(pickle.dumps(e))
    assert (again.document(), again.headers) == (e.document(), e.headers)

@pytest.mark.parametrize('reason', REASONS)
def test_every_reason_of_a_photo_is_a_clients_error(reason):
    e = photo_problem(PhotoError(reason, 'because'), 'photos[3]')
    assert e.code == reason and e.status in (413, 415, 422) and e.field == 'photos[3]' and 'because' in e.detail

def test_an_unknown_code_is_our_mistake():
    with pytest.raises(ValueError, match='teapot'): ServingError('teapot')

def test_responses_of_an_operation_are_grouped_by_status():
    found = problem_responses('too_large', 'invalid', 'missing')
    assert list(found) == [413, 422] and PROBLEM_MEDIA_TYPE in found[422]['content'] and 'missing' in found[422]['description']

@pytest.mark.parametrize('value', [dict(), dict(photos=[]), dict(photos=[dict(data='/9j/')], top_k=0), dict(photos=[dict(data='/9j/')], top_k=101), dict(photos=[dict(data='/9j/', x=1)]),
                                   dict(photos=[dict(data='/9j/')], k=1), dict(photos='x'), dict(photos=[dict(data='/9j/', id='x' * 129)]), dict(photos=[dict(data='/9j/')], version='a b')])
def test_the_schema_and_the_reader_refuse_the_same(value):
    with pytest.raises(ValidationError): PredictIn(**value)
    with pytest.raises(ServingError): read_request('application/json', json.dumps(value).encode())

@pytest.mark.parametrize('value', [dict(photos=[dict(data='/9j/')]), dict(photos=[dict(data='/9j/', id=None, url=None)], version=None), dict(photos=[dict(data='/9j/', id='x' * 128)], top_k=100),
                                   dict(photos=[dict(data='/9j/')], top_k=5.0, version='v1.2+b@x')])
def test_the_schema_and_the_reader_accept_the_same(value):
    sent, read = PredictIn(**value), read_request('application/json', json.dumps(value).encode())
    assert (sent.top_k, sent.version, sent.photos[0].id) == (read.top_k, read.version, read.photos[0].id)

def test_an_item_may_be_a_problem(): assert PredictionOut(problem=ServingError('truncated').document()).problem.code == 'truncated'
