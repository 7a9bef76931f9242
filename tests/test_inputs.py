"Requests read and photos decoded within limits."
import base64, json, os, subprocess, sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_inputs import fuzz
from hostile import encoded, photo, profile, rotated, scene

from mlproject.core import Problem
from mlproject.export.extended import Preprocess
from mlproject.photos import PhotoError
from mlproject.serving.inputs import from_base64, read_item, read_request
from mlproject.serving.limits import Limits, jpeg_frame, pixels
from mlproject.serving.schemas import ServingError

PREP = Preprocess(64, 72, (.5, .5, .5), (.25, .25, .25))
LIMITS = Limits()

def sent(**arguments):
    "Content type and body as a real client makes them."
    r = httpx.Request('POST', 'http://x/', **arguments)
    return r.headers['content-type'], r.read()

def refused(*args, limits=LIMITS) -> ServingError:
    with pytest.raises(ServingError) as caught: read_request(*args, limits=limits)
    return caught.value

# forms
@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8), st.integers(1, 100))
def test_a_form_of_a_real_client_comes_back_byte_by_byte(contents, top_k):
    kind, body = sent(files=[('photos', (f'{i}.jpg', c, 'image/jpeg')) for i, c in enumerate(contents)], data=dict(top_k=str(top_k)))
    request = read_request(kind, body)
    assert [p.data for p in request.photos] == contents and [p.id for p in request.photos] == [f'{i}.jpg' for i in range(len(contents))]
    assert request.top_k == top_k and request.kind == 'multipart' and [p.field for p in request.photos] == [f'photos[{i}]' for i in range(len(contents))]

def test_line_ends_and_dashes_in_a_photo_are_its_own():
    data = b'\r\n--\r\n----\r\n\r\n--cu\r\r\n-'
    assert read_request(*sent(files=[('photo', ('a', data))])).photos[0].data == data

def test_a_form_is_cut_by_the_letter():
    head, end = b'content-disposition: form-data; name="photos"', b'\r\n--cut--'
    def parts(*bodies, after=b''): return read_request('multipart/form-data; boundary=cut', b''.join(bodies) + end + after)
    assert parts(b'--cut \t\r\n', head, b'\r\n\r\nab').photos[0].data == b'ab'                         # padding behind the boundary
    assert parts(b'--cut\r\n', head, b'\r\n\r\nab', after=b'\r\nanything').photos[0].data == b'ab'    # what follows the end is no part
    assert parts(b'--cut\r\n', head, b'\r\n\r\n', after=b'\r\n').photos[0].error.code == 'empty'
    for bad in ([b'before\r\n--cut\r\n', head, b'\r\n\r\nab'], [b'--cut\r\n', head, b'\r\n\r\na\r\n--cutter\r\nb'], [b'--cut\r\n', head, b'\r\n folded\r\n\r\nab'],
                [b'--cut\r\n', head, b'\r\n', head, b'\r\n\r\nab'], [b'--cut\r\n', head, b'\r\nx: ' + b'x' * 5000, b'\r\n\r\nab'], [b'--cut\r\nno header\r\n\r\nab']):
        with pytest.raises(ServingError) as e: parts(*bad)
        assert e.value.code == 'malformed' and 'form' in e.value.detail

def test_an_unknown_field_is_named_with_those_that_exist():
    e = refused(*sent(files=[('image', ('a.jpg', b'x'))]))
    assert (e.code, e.field) == ('unknown_field', 'image') and 'photos' in e.allowed

def test_a_file_name_is_never_more_than_a_label():
    found = read_request(*sent(files=[('photos', ('../../etc/\u202epasswd\x07', photo()))])).photos[0]
    assert found.id.isprintable() and found.data == photo()

# JSON
@given(st.binary(max_size=200), st.sampled_from(['', '\n', ' \t\r\n']), st.integers(1, 80), st.booleans())
def test_base64_comes_back(data, space, every, as_url):
    text = base64.b64encode(data).decode()
    text = space.join(text[i:i + every] for i in range(0, len(text), every))
    assert from_base64('data:image/png;base64,' * as_url + text, 'data', LIMITS) == data

@given(st.text(max_size=40))
def test_what_is_not_base64_is_refused_and_shown(text):
    try: expected = base64.b64decode(''.join(text.split(' ')).translate(dict.fromkeys(map(ord, '\t\r\n'))), validate=True)
    except ValueError: expected = None
    try: found = from_base64(text, 'data', LIMITS)
    except ServingError as e: assert e.code == 'invalid' and 'data' in e.detail
    else: assert found == expected

@pytest.mark.parametrize('size,fits', [(999, True), (1000, True), (1001, False)])
def test_the_limit_of_a_photo_is_exact_and_the_same_in_every_form(size, fits):
    limits, data = Limits(photo_bytes=1000), bytes(size)
    in_json = json.dumps(dict(photos=[dict(data=base64.b64encode(data).decode())])).encode()
    for request in (sent(files=[('photos', ('a', data))]), ('image/jpeg', data), ('application/json', in_json)):
        found = read_request(*request, limits=limits).photos[0]
        assert (found.data == data) == fits and (fits or found.error.status == 413)

def test_a_photo_of_a_batch_line_is_read_alike():
    found = read_item(dict(id='a', data=base64.b64encode(photo()).decode()), 'line 7', LIMITS)
    assert (found.data, found.id, found.field) == (photo(), 'a', 'line 7')

def test_an_address_waits_to_be_fetched_where_that_is_allowed():
    body = b'{"photos":[{"url":"https://images.org/fox.jpg","id":"a"}]}'
    assert read_request('application/json', body).photos[0].error.code == 'url_refused'
    found = read_request('application/json', body, limits=Limits(urls=('images.org',))).photos[0]
    assert (found.url, found.data, found.error, found.id) == ('https://images.org/fox.jpg', None, None, 'a')

# limits
@pytest.mark.parametrize('wrong', [dict(photos=0), dict(pixels=-1), dict(side=True), dict(body_bytes=1.5), dict(photo_bytes='5'), dict(urls='images.org'), dict(urls=('*',)), dict(urls=('https://images.org',)), dict(urls=('IMAGES.org',)), dict(urls=('*.',))])
def test_a_limit_that_does_not_fit_is_named(wrong):
    with pytest.raises(Problem, match=next(iter(wrong))): Limits(**wrong)

def test_limits_hold():
    kind, body = sent(files=[('photos', ('a', b'x'))] * 3)
    assert refused(kind, body, limits=Limits(photos=2)).code == 'too_large'
    assert refused(kind, body, limits=Limits(body_bytes=10)).status == 413
    assert len(read_request(kind, body, limits=Limits(photos=3)).photos) == 3
    for limits, reason in ((Limits(pixels=1000), 'too_large'), (Limits(side=300), 'too_small')):
        with pytest.raises(PhotoError, match=reason): pixels(PREP, photo(), limits)
    with pytest.raises(PhotoError, match='too_large'): pixels(PREP, encoded(scene(), 'PNG'), Limits(other_pixels=1000))

# pixels
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'WEBP', 'BMP', 'TIFF'])
@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'L', 'P', 'CMYK'])
def test_pixels_are_those_of_the_model(kind, mode):
    image = scene(mode='RGB').quantize(32) if mode == 'P' else scene(mode=mode)
    if mode in dict(JPEG=('RGBA', 'P'), PNG='CMYK', GIF=('CMYK', 'RGBA'), WEBP=('CMYK',), BMP=('CMYK',)).get(kind, ''): image = image.convert('RGB')
    data = encoded(image, kind)
    for prep in (PREP, Preprocess(64, 72, (.5,) * 3, (.25,) * 3, min_side_hint=72)): assert (pixels(prep, data) == prep.pixels(data)).all()

def test_a_rotated_photo_with_a_profile_is_as_the_model_sees_it():
    data = encoded(scene(), exif=rotated(6), icc_profile=profile())
    assert (pixels(PREP, data) == PREP.pixels(data)).all()

@pytest.mark.slow
def test_up_to_ten_megapixels_nothing_differs_and_above_nothing_to_see():
    for size, exactly in (((3600, 2700), True), ((4800, 3600), False)):
        data = encoded(scene(*size), quality=92)
        off = np.abs(pixels(PREP, data).astype(int) - PREP.pixels(data)).max()
        assert off == 0 if exactly else off <= 2

def test_the_frame_of_a_jpeg_is_read_right():
    for subsampling, samples in ((0, (1, 1, 1)), (1, (2, 1, 1)), (2, (4, 1, 1))):
        for progressive in (False, True):
            f = jpeg_frame(encoded(scene(300, 200), subsampling=subsampling, progressive=progressive))
            assert (f.width, f.height, f.samples, f.buffered) == (300, 200, samples, progressive)
            assert f.coefficients == progressive * 2 * 300 * 200 * sum(samples) // max(samples)
    assert jpeg_frame(b'\xff\xd8\xff') is None and jpeg_frame(b'') is None

def test_a_short_fuzz():
    found = fuzz(3, examples=40)
    assert {'photo ok', 'form ok', 'json invalid'} <= set(found) and len(found) > 15

def test_nothing_heavy_is_imported():
    code = 'import sys, mlproject.serving.inputs, mlproject.serving.fetching; print([m for m in ("torch", "pandas", "pyarrow", "mlflow", "scipy", "onnxruntime", "requests", "fastapi") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=os.environ).stdout.strip() == '[]'

def test_what_is_told_about_the_photos_goes_along_whatever_the_form():
    told = dict(locationID='cam-7', eventDate='2026-05-01T06:00Z', decimalLatitude='46.5', decimalLongitude='7.1', license='CC0', consent='yes')
    body = b''.join(b'--b\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v.encode()) for n, v in (told | dict(photo='x')).items()) + b'--b--\r\n'
    form = read_request('multipart/form-data; boundary=b', body)
    as_json = read_request('application/json', json.dumps(dict(photos=[dict(data='eA==')], **told | dict(decimalLatitude=46.5, decimalLongitude=7.1))).encode())
    raw = read_request('image/jpeg', b'x', '&'.join(f'{n}={v}' for n, v in told.items()))
    assert form.context == as_json.context == raw.context == told
    for bad in (dict(decimalLatitude=91), dict(decimalLongitude='east'), dict(decimalLatitude=True), dict(license='x' * 201), dict(consent=3), dict(locationid='x')):
        with pytest.raises(ServingError) as e: read_request('application/json', json.dumps(dict(photos=[dict(data='eA==')], **bad)).encode())
        assert e.value.code in ('invalid', 'unknown_field') and e.value.field == next(iter(bad))
