"Hostile and odd photos: what goes in, and that only a right picture or a reason comes out."
import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mlproject.photos import REASONS, PhotoError, fit_photo, photo_bytes, photo_exif, read_photo, upright

ODD = Path(os.environ.get('MLPROJECT_SHARED_DATA') or Path(__file__).resolve().parents[2] / 'shared' / 'data') / 'odd_images'
SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
INVERSE = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF')


def encode(img, fmt='JPEG', **options):
    (img if isinstance(img, Image.Image) else Image.fromarray(img)).save(out := io.BytesIO(), fmt, **options)
    return out.getvalue()


def reason(data, **options):
    with pytest.raises(PhotoError) as caught: read_photo(data, **options)
    assert caught.value.reason in REASONS and '\n' not in str(caught.value)
    return caught.value.reason


def far(a, b): return float(np.abs(a.astype(int) - b).mean())


def png_chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def jpeg_claiming(width, height, sof=b'\xff\xc0'):
    data = bytearray(encode(SMOOTH, progressive=sof == b'\xff\xc2'))
    at = data.index(sof)
    data[at + 5:at + 9] = struct.pack('>HH', height, width)
    return bytes(data)


def png_claiming(width, height): return b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)) + png_chunk(b'IDAT', zlib.compress(bytes(10**6))) + png_chunk(b'IEND', b'')


BOMBS = {'jpeg 65500': jpeg_claiming(65500, 65500), 'jpeg 9000': jpeg_claiming(9000, 9000), 'progressive 65500': jpeg_claiming(65500, 65500, b'\xff\xc2'),
         'png': png_claiming(60000, 60000), 'gif': b'GIF89a' + struct.pack('<HHBBB', 65535, 65535, 0, 0, 0) + b';',
         'bmp': b'BM' + bytes(12) + struct.pack('<Iii', 40, 60000, -60000) + struct.pack('<HH', 1, 24) + bytes(24),
         'webp': b'RIFF' + struct.pack('<I', 22) + b'WEBPVP8X' + struct.pack('<I', 10) + bytes(4) + b'\xff\xff\x00' * 2}


@pytest.mark.parametrize('name', BOMBS)
def test_a_bomb_is_refused_from_its_header_without_memory(name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert reason(BOMBS[name]) == 'too_large'
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB


@pytest.mark.parametrize('fmt', FORMATS)
def test_a_photo_cut_anywhere_is_refused(fmt):
    data = encode(SMOOTH, fmt)
    for cut in np.linspace(1, len(data) - 12, 40).astype(int): assert reason(data[:cut]) in ('truncated', 'corrupt', 'not_an_image', 'empty')


def test_a_png_with_any_bit_of_its_pixels_changed_is_refused():
    data = encode(SMOOTH, 'PNG')
    for at in np.linspace(45, len(data) - 13, 60).astype(int):
        bent = bytearray(data)
        bent[at] ^= 4
        assert reason(bytes(bent)) in ('corrupt', 'truncated')


def test_a_jpeg_overwritten_in_the_middle_is_refused():
    data, rng, refused = encode(cv2.resize(SMOOTH, (640, 480)) ^ np.random.default_rng(1).integers(0, 32, (480, 640, 3), dtype=np.uint8), quality=90), np.random.default_rng(0), 0
    for _ in range(40):
        bent = bytearray(data)
        at = int(rng.integers(1000, len(data) - 200))
        bent[at:at + 64] = rng.bytes(64)
        try: read_photo(bytes(bent))
        except PhotoError: refused += 1
    assert refused >= 38


@pytest.mark.filterwarnings('ignore::UserWarning:PIL')
@pytest.mark.parametrize('fmt', FORMATS)
def test_random_damage_gives_a_reason_or_a_picture_never_another_error(fmt):
    exif = Image.Exif()
    exif[0x0112], exif[0x010f] = 6, 'Maker'
    data, rng = encode(SMOOTH[:60, :80], fmt, exif=exif) if fmt not in ('GIF', 'BMP') else encode(SMOOTH[:60, :80], fmt), np.random.default_rng(FORMATS.index(fmt))
    for _ in range(250):
        bent = bytearray(data)
        for at in rng.integers(0, min(len(bent), 500), rng.integers(1, 6)): bent[at] = rng.integers(256)
        try: img = read_photo(bytes(bent), max_pixels=10**6)
        except PhotoError: continue
        assert img.dtype == np.uint8 and img.ndim == 3 and img.shape[2] == 3
        assert isinstance(photo_exif(bytes(bent)), dict)


@pytest.mark.parametrize('fmt', ('JPEG', 'PNG', 'WEBP', 'TIFF'))
@pytest.mark.parametrize('orientation', range(1, 9))
def test_every_orientation_comes_back_upright(fmt, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    img = read_photo(encode(upright(SMOOTH, INVERSE[orientation]), fmt, exif=exif))
    assert img.shape == SMOOTH.shape and far(img, SMOOTH) < 4 and img.flags['C_CONTIGUOUS']


def test_an_orientation_beyond_8_counts_as_none():
    exif = Image.Exif()
    exif[0x0112] = 99
    assert far(read_photo(encode(SMOOTH, exif=exif)), SMOOTH) < 4


def test_cmyk_is_right_with_and_without_adobes_inversion():
    ink = np.asarray(Image.fromarray(SMOOTH).convert('CMYK'))
    assert far(read_photo(encode(Image.fromarray(SMOOTH).convert('CMYK'), quality=95)), SMOOTH) < 3
    data = encode(Image.frombytes('CMYK', (160, 120), (255 - ink).tobytes()), quality=95)
    at = data.index(b'\xff\xee')
    assert far(read_photo(data[:at] + data[at + 2 + int.from_bytes(data[at + 2:at + 4], 'big'):]), SMOOTH) < 3


def test_a_damaged_cmyk_jpeg_is_refused_too(): assert reason(encode(Image.fromarray(SMOOTH).convert('CMYK'))[:-300]) == 'truncated'


@pytest.mark.parametrize('fmt', ('PNG', 'TIFF'))
def test_sixteen_bits_are_scaled_not_clipped(fmt):
    grey = np.linspace(0, 65535, 60 * 80).reshape(60, 80).astype(np.uint16)
    assert np.abs(read_photo(encode(grey, fmt))[..., 1] - grey / 257).max() <= .51


def test_sixteen_bit_colour_and_alpha():
    deep = np.dstack([SMOOTH[..., ::-1], np.full(SMOOTH.shape[:2], 255, np.uint8)]).astype(np.uint16) * 257
    deep[:30, :, 3] = 0
    img = read_photo(cv2.imencode('.png', deep)[1].tobytes())
    assert (img[:30] == 255).all() and (img[30:] == SMOOTH[30:]).all()


@pytest.mark.parametrize('mode', ('LA', 'RGBA', 'P', 'RGB', 'L'))
def test_what_is_transparent_becomes_white(mode):
    img = Image.fromarray(SMOOTH)
    if mode in ('LA', 'RGBA'):
        img = img.convert(mode)
        img.putalpha(0)
        data = encode(img, 'PNG')
    else:
        flat = Image.new('RGB', (40, 30), (10, 20, 30)).quantize(4) if mode == 'P' else Image.new(mode, (40, 30), 7 if mode == 'L' else (10, 20, 30))
        data = encode(flat, 'PNG', transparency=flat.getpixel((0, 0)))
    assert (read_photo(data) == 255).all()


@pytest.mark.parametrize('fmt', ('GIF', 'WEBP', 'PNG'))
def test_an_animation_is_its_first_frame_or_refused_on_request(fmt):
    data = encode(SMOOTH, fmt, save_all=True, append_images=[Image.fromarray(255 - SMOOTH)])
    assert far(read_photo(data), SMOOTH) < 20
    assert reason(data, first_frame=False) == 'animated'
    assert far(read_photo(encode(SMOOTH, fmt), first_frame=False), SMOOTH) < 20


@pytest.mark.parametrize('content,expected', [
    (b'', 'empty'), (b'hello, I am a photo', 'not_an_image'), (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'not_an_image'), (b'%PDF-1.7', 'not_an_image'),
    (b'\xef\xbb\xbf  <!DOCTYPE HTML><html>', 'not_an_image'), (bytes(100), 'not_an_image'), (b'\0\0\0\x18ftypheic' + bytes(20), 'unsupported_format'),
    (b'\0\0\0\x18ftypmp42' + bytes(20), 'not_an_image'), (b'\xff\x0a' + bytes(20), 'unsupported_format'), (b'\xff\xd8\xff', 'truncated'), (b'BM', 'truncated')])
def test_content_decides_not_the_name(content, expected, tmp_path):
    (path := tmp_path / 'photo.jpg').write_bytes(content)
    assert reason(path) == expected


def test_a_jpeg_named_png_is_read(tmp_path):
    (path := tmp_path / 'photo.png').write_bytes(encode(SMOOTH))
    assert (read_photo(path) == read_photo(encode(SMOOTH))).all() and (read_photo(str(path)) == read_photo(path)).all()


def test_a_missing_file_and_a_folder_have_a_reason(tmp_path): assert reason(tmp_path / 'no.jpg') == reason(tmp_path) == 'missing'


def test_a_path_that_cannot_be_opened_has_a_reason(tmp_path):
    assert reason(tmp_path / ('x' * 400)) == 'unreadable'
    assert reason(str(tmp_path / 'a') + '\0b') == 'missing'


def test_limits_are_those_asked_for():
    assert reason(encode(SMOOTH), max_pixels=1000) == 'too_large'
    assert reason(encode(SMOOTH), min_side=200) == 'too_small'


def test_a_reason_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(PhotoError('truncated', 'ends early')))
    assert (error.reason, error.detail, str(error)) == ('truncated', 'ends early', 'truncated: ends early')


def test_a_scaled_decode_looks_like_the_scaled_photo():
    large = cv2.resize(SMOOTH, (1600, 1200), interpolation=cv2.INTER_CUBIC)
    data = encode(large, quality=95)
    small = read_photo(data, min_side_hint=150)
    assert small.shape == (150, 200, 3) and far(fit_photo(small, 96), fit_photo(read_photo(data), 96)) < 2


def test_a_very_long_photo_does_not_become_longer():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fit_photo(np.zeros((16, 1_000_000, 3), np.uint8), 160).shape == (160, 160, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_reading_needs_no_torch_and_no_data_tools():
    code = 'import sys, mlproject.photos, mlproject.looks; print([m for m in ("torch", "pyarrow", "pandas", "daft", "matplotlib", "scipy") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == '[]'


@pytest.mark.skipif(not ODD.is_dir(), reason=f'real odd photos are not here ({ODD.name})')
def test_real_odd_photos():
    plain = read_photo(ODD / 'african_elephants.jpg')
    assert reason(ODD / 'african_elephants_truncated_file.jpg') == 'truncated'
    assert far(read_photo(ODD / 'african_elephants_cmyk.jpg'), plain) < 12
    assert read_photo(ODD / 'african_elephants_with_exif_orientation.jpg').shape == plain.shape
    grey = read_photo(ODD / 'african_elephants_bw.jpg')
    assert grey.shape == plain.shape and (grey[..., 0] == grey[..., 2]).all()


def test_what_is_no_file_has_a_reason_and_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'loop').symlink_to('loop')
    for place, reason in ((tmp_path / 'pipe', 'missing'), (tmp_path / 'loop', 'missing'), (tmp_path, 'missing'), (tmp_path / 'none', 'missing'), ('a\0b', 'missing'),
                          (tmp_path / 'none/below', 'missing'), ('x' * 300, 'unreadable')):
        with pytest.raises(PhotoError) as e: photo_bytes(place)
        assert e.value.reason == reason and '\n' not in str(e.value)
    (tmp_path / 'bytes').write_bytes(data := os.urandom(100_000))
    assert photo_bytes(tmp_path / 'bytes') == photo_bytes(str(tmp_path / 'bytes')) == data
