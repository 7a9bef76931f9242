"The Open Inference Protocol: what a tensor means, and its REST side asked by a client that is not ours."
import json, struct

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colours import SPECIES, model, photo, server  # noqa: F401 (model and server are fixtures)
from mlproject.export.extended import ExtendedModel
from mlproject.serving.inputs import Limits
from mlproject.serving.protocol import OUTPUTS, join_bytes, read_infer, split_bytes
from mlproject.serving.schemas import ServingError

triton = pytest.importorskip('tritonclient.http')
from tritonclient.utils import InferenceServerException  # noqa: E402

settings.register_profile('protocol', deadline=None, derandomize=True, max_examples=150)
settings.load_profile('protocol')


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_bytes_come_out_of_a_tensor_as_they_went_in(elements):
    assert split_bytes(join_bytes(elements), 8) == elements
    if len(elements) > 1:
        with pytest.raises(ServingError, match='too many elements'): split_bytes(join_bytes(elements), len(elements) - 1)


@given(st.binary(max_size=60))
def test_lengths_that_lie_are_an_error_and_nothing_else(raw):
    try: found = split_bytes(raw, 1000)
    except ServingError as e: assert e.status == 400
    else: assert join_bytes(found) == raw


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
                    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(['name', 'shape', 'data', 'datatype', 'parameters', 'binary_data_size', 'binary_data']), x, max_size=4), max_leaves=12)


@given(st.dictionaries(st.sampled_from(['id', 'inputs', 'outputs', 'parameters', 'x']), JSON, max_size=5) | JSON, st.binary(max_size=12), st.none() | st.text(max_size=5))
def test_any_json_is_a_request_or_an_error_of_the_client(document, tail, length):
    try: read_infer(json.dumps(document).encode() + tail, length)
    except ServingError as e: assert 400 <= e.status < 500


@given(st.fixed_dictionaries(dict(name=st.sampled_from(['photo', 'x']), datatype=st.sampled_from(['BYTES', 'FP32']), shape=JSON, data=JSON, parameters=JSON)), JSON, JSON)
def test_nearly_right_requests_too(tensor, outputs, parameters):
    try: read_infer(json.dumps(dict(inputs=[tensor], outputs=outputs, parameters=parameters)).encode(), None)
    except ServingError as e: assert 400 <= e.status < 500


@pytest.fixture()
def client(server):
    with triton.InferenceServerClient(f'127.0.0.1:{server.rest}') as client: yield client


def tensor(photos, column=False):
    x = triton.InferInput('photo', [len(photos), 1] if column else [len(photos)], 'BYTES')
    x.set_data_from_numpy(np.array(photos, object).reshape(-1, 1) if column else np.array(photos, object))
    return [x]


def test_health_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready('colours') and client.is_model_ready('colours', '1')
    assert not client.is_model_ready('colours', '2') and not client.is_model_ready('animals')
    assert client.get_server_metadata()['extensions'] == ['binary_tensor_data']
    found = client.get_model_metadata('colours', '1')
    assert (found['name'], found['versions'], found['inputs']) == ('colours', ['1'], [dict(name='photo', datatype='BYTES', shape=[-1])])
    assert [o['name'] for o in found['outputs']] == list(OUTPUTS)


@pytest.mark.parametrize('column', [False, True])
def test_answers_are_those_of_the_model_in_binary_and_in_json(client, model, column):
    photos = [photo(i, 40 + 9*i, 130 - 7*i, '.png' if i % 3 == 0 else '.jpg') for i in range(10)]
    extended = ExtendedModel.load(model, threads=1)
    want, logits, embedding = extended.predict(photos), *extended.numbers(photos)
    for binary in (True, False):
        named = [triton.InferRequestedOutput(n, binary_data=binary) for n in OUTPUTS]
        for outputs in (named, None):
            got = client.infer('colours', tensor(photos, column), outputs=outputs, request_id='7')
            assert [x.decode() if isinstance(x, bytes) else x for x in got.as_numpy('label').tolist()] == [p.label for p in want]
            np.testing.assert_allclose(got.as_numpy('confidence'), [p.confidence for p in want], atol=1e-5)
            np.testing.assert_allclose(got.as_numpy('probabilities'), extended.probabilities(photos), atol=1e-5)
            np.testing.assert_allclose(got.as_numpy('logits'), logits, atol=1e-4)
            np.testing.assert_allclose(got.as_numpy('embedding'), embedding, atol=1e-5)
            assert got.get_response()['id'] == '7' and got.get_response()['model_version'] == '1' and set(got.as_numpy('error')) in ({b''}, {''})


def test_only_the_outputs_that_were_asked_for_come(client):
    got = client.infer('colours', tensor([photo(1)]), '1', outputs=[triton.InferRequestedOutput('label', binary_data=False), triton.InferRequestedOutput('confidence')])
    assert [o['name'] for o in got.get_response()['outputs']] == ['label', 'confidence'] and got.as_numpy('label')[0] in SPECIES


def test_a_bad_photo_has_a_row_of_its_own_and_costs_no_other(client):
    bad = [b'', b'GIF89a', photo(2)[:200], b'<svg xmlns="http://www.w3.org/2000/svg"/>', bytes(1_100_000)]
    mixed = [x for b in bad for x in (photo(1), b)]
    got = client.infer('colours', tensor(mixed))
    labels, sums = got.as_numpy('label').tolist(), got.as_numpy('probabilities').sum(1)
    assert labels[1::2] == [b'error']*5 and len(set(labels[::2])) == 1 and labels[0] != b'error'
    np.testing.assert_allclose(sums, [1, 0]*5, atol=1e-5)
    reasons = [e.decode().split(':')[0] for e in got.as_numpy('error')]
    assert reasons[1::2] == ['empty', 'truncated', 'truncated', 'not_an_image', 'too_large'] and set(reasons[::2]) == {''}
    assert got.get_response()['parameters'] == dict(errors=5)


@pytest.mark.parametrize(('photos', 'name', 'version', 'status', 'text'), [
    ([b'no photo'], 'colours', '', '415', r'photo\[0\]: text'), ([photo(1)], 'animals', '', '404', 'no such model'), ([photo(1)], 'colours', '9', '404', 'is not loaded'),
    ([photo(1)]*13, 'colours', '', '413', 'at most 12'), ([bytes(1_000_000)]*3, 'colours', '', '413', 'at most 2,097,152')])
def test_errors_of_a_request(client, photos, name, version, status, text):
    with pytest.raises(InferenceServerException, match=text) as e: client.infer(name, tensor(photos), version)
    assert e.value.status() == status


def test_other_tensors_parameters_and_time(client):
    x = triton.InferInput('pixels', [1, 3, 32, 32], 'FP32')
    x.set_data_from_numpy(np.zeros((1, 3, 32, 32), np.float32))
    with pytest.raises(InferenceServerException, match='no such input'): client.infer('colours', [x])
    with pytest.raises(InferenceServerException, match='no such output'): client.infer('colours', tensor([photo(1)]), outputs=[triton.InferRequestedOutput('mood')])
    shared = tensor([photo(1)])
    shared[0].set_shared_memory('region', 100)
    with pytest.raises(InferenceServerException, match='shared memory is not offered'): client.infer('colours', shared)
    with pytest.raises(InferenceServerException, match='No answer within the time') as e: client.infer('colours', tensor([photo(1, 1000, 1500)]), timeout=1)
    assert e.value.status() == '504'
    with pytest.raises(InferenceServerException, match='compressed bodies') as e: client.infer('colours', tensor([photo(1)]), request_compression_algorithm='gzip')
    assert e.value.status() == '415'
    assert client.infer('colours', tensor([photo(1)]), parameters=dict(route_key='ann', mine=3)).as_numpy('label').shape == (1,)


def test_errors_are_problem_documents_and_base64_photos_are_read(server):
    import base64
    url = f'http://127.0.0.1:{server.rest}/v2/models/colours/infer'
    one = dict(name='photo', datatype='BYTES', shape=[1], data=[base64.b64encode(photo(3)).decode()])
    assert httpx.post(url, json=dict(inputs=[one], outputs=[dict(name='label')])).json()['outputs'][0]['data'][0] in SPECIES
    for body, headers in [(b'', {}), (b'[]', {}), (b'{"inputs":', {}), (b'\xff', {}), (b'{}', {'inference-header-content-length': '-1'}), (b'{}x', {'inference-header-content-length': '2'}),
                          (json.dumps(dict(inputs=[one | dict(data=['%%%'])])).encode(), {}), (b'{"inputs":[{"name":"photo","datatype":"BYTES","shape":[1],"data":[1]}]}', {})]:
        got = httpx.post(url, content=body, headers=headers)
        assert 400 <= got.status_code < 500 and got.headers['content-type'] == 'application/problem+json', (body, got.text)
        assert got.json()['error'] == got.json()['detail'] and got.json()['status'] == got.status_code
    assert httpx.get(url).status_code == 405 and httpx.get(url.replace('colours/infer', '%2e%2e')).status_code == 404
