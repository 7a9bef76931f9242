"Photos lose their owner and keep their pixels; sensitive positions lose their den."
import io
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from conftest import SHARED
from mlproject.core import Problem
from mlproject.data.exif import strip_photos
from mlproject.data.records import account, records_table
from mlproject.data.sensitive import SensitiveConfig, category, obscure, sensitive_taxa
from mlproject.photos import PhotoError, read_photo
from mlproject.places import distance
from mlproject.stripping import strip_exif

SECRET = b'a test needs no secret'
settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')
OWNER = b'Leila Rossi'
PIXELS = (np.add.outer(np.arange(48), np.arange(64))[..., None] * np.array([1, 2, 3]) % 256).astype(np.uint8)


def exif(turn=6):
    e, whole = Image.Exif(), Image.Exif()
    e[0x0112], e[0x013b], e[0x010e], e[0x9c9d] = turn, OWNER.decode(), 'house of Leila Rossi', 'Leila Rossi'.encode('utf-16-le')
    e[0x8769] = {0x9003: '2024:05:03 06:12:09', 0xa430: 'Leila Rossi', 0xa431: 'SERIAL-4711', 0x927c: b'maker Leila Rossi', 0x9286: b'ASCII\0\0\0Leila Rossi'}
    e[0x8825] = {1: 'N', 2: (46., 30., 44.4), 3: 'E', 4: (7., 7., 24.4)}
    whole.load(e.tobytes())
    return whole


def saved(form, image=None, **how):
    (image or Image.fromarray(PIXELS)).save(out := io.BytesIO(), form, **how)
    return out.getvalue()


def segment(kind, body): return bytes([0xff, kind]) + struct.pack('>H', len(body) + 2) + body


def loaded_jpeg(**how):
    "A JPEG with everything: Exif and its thumbnail, XMP, extended XMP, IPTC, comment, MPF, maker's segments, a second picture behind the end."
    thumb = saved('JPEG', Image.fromarray(PIXELS[:16, :16]))
    data = saved('JPEG', exif=exif(), **how)
    more = (segment(0xe1, b'http://ns.adobe.com/xap/1.0/\0<x>Leila Rossi</x>') + segment(0xe1, b'http://ns.adobe.com/xmp/extension/\0Leila Rossi') + segment(0xed, b'Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0eLeila Rossi')
            + segment(0xfe, OWNER) + segment(0xe2, b'MPF\0Leila Rossi') + segment(0xe0, b'JFXX\0\x10' + thumb) + segment(0xe5, b'SAMSUNG Leila Rossi') + segment(0xef, OWNER))
    return data[:2] + more + data[2:] + thumb + b'ftypmp42 Leila Rossi'


def png():
    info = PngImagePlugin.PngInfo()
    info.add_text('Author', 'Leila Rossi'); info.add_text('Comment', 'Leila Rossi ' * 40, zip=True); info.add_itxt('XML:com.adobe.xmp', '<x>Leila Rossi</x>')
    info.add(b'zZzZ', OWNER)
    return saved('PNG', pnginfo=info, exif=exif(), dpi=(300, 300)) + OWNER


def tiff(order='<'):
    return saved('TIFF', exif=exif(), tiffinfo={305: 'Leila Rossi soft', 700: b'<x>Leila Rossi</x>', 33723: b'Leila Rossi'}, compression='tiff_lzw')


def gif(): return saved('GIF', Image.fromarray(PIXELS).quantize(32), save_all=True, append_images=[Image.fromarray(PIXELS[::-1]).quantize(32)], comment=OWNER, loop=3)


LOADED = dict(jpeg=loaded_jpeg(), progressive=loaded_jpeg(progressive=True), optimised=loaded_jpeg(optimize=True, quality=95), png=png(), tiff=tiff(), gif=gif(),
              webp=saved('WEBP', exif=exif(), xmp=b'<x>Leila Rossi</x>'), lossless=saved('WEBP', lossless=True, exif=exif(), xmp=b'<x>Leila Rossi</x>'),
              animated=saved('WEBP', save_all=True, append_images=[Image.fromarray(PIXELS[::-1])], exif=exif()), grey=saved('JPEG', Image.fromarray(PIXELS[..., 0]), exif=exif(), comment=OWNER),
              cmyk=saved('JPEG', Image.fromarray(PIXELS).convert('CMYK'), exif=exif(8), comment=OWNER))


PLAIN = dict(jpeg=saved('JPEG', exif=exif()), progressive=saved('JPEG', exif=exif(), progressive=True), optimised=saved('JPEG', exif=exif(), optimize=True, quality=95))  # PIL trips over the loaded ones


@pytest.mark.parametrize('name', LOADED)
def test_owner_and_position_are_gone_and_the_picture_is_the_same(name):
    data = LOADED[name]
    bare = strip_exif(data)
    secrets = (OWNER, 'Leila Rossi'.encode('utf-16-le'), b'SERIAL', b'2024:05', b'maker', b'8BIM', b'MPF\0', b'JFXX', b'ns.adobe', b'<x>')
    assert any(s in data for s in secrets) and not [s for s in secrets if s in bare]
    before, after = Image.open(io.BytesIO(PLAIN.get(name, data))), Image.open(io.BytesIO(bare))
    left = after.getexif()
    if name != 'tiff': assert set(left) <= {0x0112}
    assert not left.get_ifd(0x8825) and not left.get_ifd(0x8769) and left.get(0x0112) == before.getexif().get(0x0112)
    assert not {'comment', 'xmp', 'photoshop', 'XML:com.adobe.xmp', 'Author', 'mp'} & set(after.info)
    assert getattr(after, 'n_frames', 1) == getattr(before, 'n_frames', 1)
    assert after.info.get('icc_profile') == before.info.get('icc_profile') and after.info.get('loop') == before.info.get('loop') and after.info.get('dpi') == before.info.get('dpi')
    for k in range(getattr(after, 'n_frames', 1)):
        before.seek(k); after.seek(k)
        assert np.array_equal(np.array(after), np.array(before))
    assert np.array_equal(read_photo(bare), read_photo(data)) and strip_exif(bare) == bare and len(bare) <= len(data)


def test_upright_photos_get_no_exif_at_all():
    assert b'Exif' not in strip_exif(saved('JPEG', exif=exif(1))) and b'EXIF' not in strip_exif(saved('WEBP', exif=exif(1)))


@pytest.mark.parametrize('turn', range(1, 9))
def test_every_orientation_is_kept(turn):
    for form in ('JPEG', 'PNG', 'WEBP', 'TIFF'):
        data = saved(form, exif=exif(turn))
        assert np.array_equal(read_photo(strip_exif(data)), read_photo(data)), form


def test_colour_profiles_stay():
    from PIL import ImageCms
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    for form in ('JPEG', 'PNG', 'WEBP', 'TIFF'): assert Image.open(io.BytesIO(strip_exif(saved(form, icc_profile=icc, exif=exif())))).info['icc_profile'] == icc


def test_a_thumbnail_in_a_tiff_is_blanked():
    page, thumb = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS[:16, :16])
    thumb.encoderinfo = {'tiffinfo': {254: 1}}
    data = saved('TIFF', page, save_all=True, append_images=[thumb])
    bare = strip_exif(data)
    assert Image.open(io.BytesIO(bare)).n_frames in (1, 2) and np.array_equal(np.array(Image.open(io.BytesIO(bare))), PIXELS)


@pytest.mark.parametrize('name', LOADED)
def test_a_cut_file_leaks_nothing(name):
    data = LOADED[name]
    for size in range(12, len(data), max(1, len(data) // 150)):
        try: bare = strip_exif(data[:size])
        except PhotoError: continue
        assert OWNER not in bare and b'SERIAL' not in bare


@settings(max_examples=150)
@given(st.sampled_from(sorted(LOADED)), st.lists(st.tuples(st.floats(0, .999), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_gives_a_photo_or_a_reason(name, damage):
    data = bytearray(LOADED[name])
    for at, value in damage: data[int(at * len(data))] = value
    try: assert isinstance(strip_exif(bytes(data)), bytes)
    except PhotoError: pass


@pytest.mark.parametrize('data', [b'', b'<html>', b'\xff\xd8\xff', b'\xff\xd8\xff\xd9', b'II*\0\x08\0\0\0\xff\xff', b'II*\0\x00\0\0\0', b'GIF89a', b'RIFF\0\0\0\0WEBP', b'\x89PNG\r\n\x1a\n'])
def test_what_is_no_photo_is_a_reason(data):
    try: strip_exif(data)
    except PhotoError as e: assert e.reason


def test_a_folder_is_copied_once_resumed_and_kept_up_to_date(tmp_path):
    root, out = tmp_path / 'in', tmp_path / 'out'
    for i in range(5): (root / 'cam').mkdir(parents=True, exist_ok=True); (root / f'cam/{i}.jpg').write_bytes(LOADED['jpeg'])
    (tmp_path / 'secret.jpg').write_bytes(LOADED['jpeg']); (root / 'link.jpg').symlink_to(tmp_path / 'secret.jpg'); (root / 'bad.jpg').write_text('no photo')
    records = records_table([*(dict(associatedMedia=f'cam/{i}.jpg') for i in range(5)), dict(associatedMedia='../secret.jpg'), dict(associatedMedia=str(tmp_path / 'secret.jpg')), dict(associatedMedia='link.jpg'),
                             dict(associatedMedia='bad.jpg'), dict(associatedMedia='gone.jpg'), dict(occurrenceRemarks='no photo'), dict(associatedMedia='cam/0.jpg', recordedBy='twice')])
    first = account(12, strip_photos(records, root, out))
    assert first.counts['copied'] == 5 and first.records.num_rows == 7 and first.rules() == dict(unreadable=3, missing=1, not_an_image=1)
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob('*.jpg')) == [f'cam/{i}.jpg' for i in range(5)]
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob('*.jpg')}
    assert strip_photos(records, root, out).counts['copied'] == 0 and before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob('*.jpg')}
    (out / 'cam/3.jpg').unlink(); (root / 'cam/4.jpg').write_bytes(LOADED['grey'])
    assert strip_photos(records, root, out).counts['copied'] == 2 and (out / 'cam/4.jpg').read_bytes() == strip_exif(LOADED['grey'])
    with pytest.raises(Problem, match='holds the originals'): strip_photos(records, root, root)


@pytest.mark.skipif(not (SHARED / 'photos').exists(), reason='no shared data')
def test_real_photos_keep_their_pixels():
    for path in sorted((SHARED / 'photos').rglob('*.jpg'))[::400]:
        data = path.read_bytes()
        assert np.array_equal(read_photo(strip_exif(data)), read_photo(data)), path.name


# ---- sensitive species

def sighting(i, name, lat=46.51234, lon=7.12345, **more): return dict(occurrenceID=f'r{i}', scientificName=name, decimalLatitude=lat, decimalLongitude=lon, **more)


def test_unknown_taxa_are_generalised_and_open_ones_stay():
    records = records_table([sighting(0, 'Vulpes vulpes'), sighting(1, 'Vulpes vulpse'), sighting(2, None), sighting(3, 'Canidae'), sighting(4, 'Lynx lynx'), sighting(5, 'Lynx lynx', None, None)])
    out = account(6, obscure(records, key=SECRET))
    assert out.records.slice(0, 1) == records.slice(0, 1) and out.counts == dict(obscured=5, open=1)
    lat, lon = out.records['decimalLatitude'].to_pylist(), out.records['decimalLongitude'].to_pylist()
    assert all(46.4 <= x <= 46.6 and 7.0 <= y <= 7.2 and (x, y) != (46.51234, 7.12345) for x, y in zip(lat[1:5], lon[1:5])) and lat[5] is None
    for row in out.records.to_pylist()[1:5]: assert distance(46.51234, 7.12345, row['decimalLatitude'], row['decimalLongitude']) <= row['coordinateUncertaintyInMeters'] and '0.2' in row['dataGeneralizations']


@given(st.floats(-90, 90), st.floats(-180, 180), st.sampled_from(['2', '3', '4', 'obscured']))
def test_a_point_is_in_its_cell_and_a_second_run_keeps_it(lat, lon, kind):
    records = records_table([sighting(0, 'Aus bus', lat, lon, coordinateUncertaintyInMeters=5)])
    once = obscure(records, taxa={'aus bus': kind}, key=SECRET)
    row = once.records.to_pylist()[0]
    assert -90 <= row['decimalLatitude'] <= 90 and -180 <= row['decimalLongitude'] <= 180
    assert distance(lat, lon, row['decimalLatitude'], row['decimalLongitude']) <= row['coordinateUncertaintyInMeters'] + 1
    assert obscure(records, taxa={'aus bus': kind}, key=SECRET).records == once.records


def test_repeated_exports_and_other_rows_give_the_same_point():
    records = records_table([sighting(i, 'Lynx lynx') for i in range(20)])
    once, again = obscure(records, key=SECRET).records, obscure(records.slice(7, 5), key=SECRET).records
    assert once.slice(7, 5) == again and len(set(once['decimalLatitude'].to_pylist())) == 20
    assert obscure(records, key=b'another secret of a test').records['decimalLatitude'] != once['decimalLatitude']


def test_what_else_tells_the_place_goes_and_withheld_positions_are_null():
    records = records_table([sighting(0, 'Aus bus', locationID='CAM03', minimumElevationInMeters=1351, occurrenceRemarks='Den at 46.51234, 7.12345, two cubs.'), sighting(1, 'Cus dus', locationID='CAM03')])
    row, open_ = obscure(records, taxa={'aus bus': '1', 'cus dus': 'open'}, key=SECRET).records.to_pylist()
    assert row['decimalLatitude'] is row['minimumElevationInMeters'] is None and row['locationID'].startswith('place-') and row['occurrenceRemarks'] == 'Den at <POSITION>, two cubs.'
    assert open_['locationID'] == 'CAM03' and row['informationWithheld']


def test_every_note_of_a_hidden_species_loses_what_a_reader_finds_in_it():
    notes = ['Den at 46.51234, 7.12345, two cubs.', None, 'x', '18 °C, 12 N of it', '46°30\'44"N 7°07\'24"E; 46.1 N, 7.1 E', 'lat 46.5, lon: 7.1', 'no place']
    records = records_table([sighting(i, n, occurrenceRemarks=t) for i, (n, t) in enumerate((n, t) for n in ('Lynx lynx', 'Vulpes vulpes') for t in notes)])
    made = obscure(pa.concat_tables([records.slice(0, 4), records.slice(4)]), key=SECRET).records['occurrenceRemarks'].to_pylist()
    assert made[:7] == ['Den at <POSITION>, two cubs.', None, notes[2], notes[3], '<POSITION>; <POSITION>', '<POSITION>', 'no place'] and made[7:] == notes


def test_the_most_precise_name_on_the_list_counts(tmp_path):
    (tmp_path / 'list.csv').write_text('scientificName,category\nUrsus,2\nUrsus arctos,open\n"Ursus arctos  marsicanus",1\n')
    taxa = sensitive_taxa(tmp_path / 'list.csv')
    assert [category(n, taxa) for n in ('Ursus arctos marsicanus', 'Ursus arctos', 'Ursus maritimus Phipps, 1774', 'Ursus', 'Meles meles')] == ['1', 'open', '2', '2', 'obscured']
    (tmp_path / 'list.csv').write_text('scientificName,category\nUrsus,secret\n')
    with pytest.raises(Problem, match="line 2: category 'secret'"): sensitive_taxa(tmp_path / 'list.csv')
    with pytest.raises(Problem, match='unknown='): SensitiveConfig(unknown='maybe')
