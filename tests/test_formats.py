"Step 6: dates, units, positions, names and photos in one format, measured against the survey's truth."
import csv, json
from datetime import datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st

from mlproject.data.dates import DateConfig, normalise_dates, read_dates
from mlproject.data.faults import Faults
from mlproject.data.formats import FormatsConfig, normalise
from mlproject.data.measures import to_si
from mlproject.data.pixels import normalise_photos, oddity
from mlproject.data.records import account, records_table
from mlproject.data.survey import _write_tables, write_down
from mlproject.data.taxonomy import Backbone, canonical, lookup, read_taxa
from mlproject.photos import read_photo
from mlproject.places import distance

settings.register_profile('patient', deadline=None, derandomize=True)
settings.load_profile('patient')


def survey_tables(folder, photos):
    "The tables of a survey (nothing drawn), its truth, and the season without faults."
    clean = {f: 0 for f in Faults.__dataclass_fields__}
    _write_tables(folder, write_down(100, photos, 0, Faults()))
    perfect = {r['occurrenceID']: r for r in write_down(100, photos, 0, Faults(**clean)).records}
    rows = list(csv.DictReader(open(folder / 'occurrences.csv')))
    return rows, pq.read_table(folder / 'truth.parquet').to_pylist(), perfect


@pytest.fixture(scope='module')
def survey(tmp_path_factory): return survey_tables(tmp_path_factory.mktemp('survey'), 20)


def rates(name, hit, missed, false):
    "A line of the table: recall and precision."
    found, real = hit + false, hit + missed
    return dict(fault=name, planted=real, repaired=hit, recall=round(hit / max(1, real), 4), precision=round(hit / max(1, found), 4))


def format_table(survey):
    "Recall and precision of step 6 for each kind of planted fault."
    rows, truth, perfect = survey
    out = normalise(records_table(rows))
    account(len(rows), out, 'formats')
    done = {r['occurrenceID']: r for r in out.records.to_pylist()}
    of = lambda fault: {t['occurrenceID']: t['detail'] for t in truth if t['fault'] == fault}
    same = lambda a, b: a is not None and datetime.fromisoformat(a) == datetime.fromisoformat(b)
    table = []
    for kind in ('offset', 'zulu', 'day first'):
        ids = [i for i, d in of('odd_date').items() if d == kind]
        hit = sum(same(done[i]['eventDate'], perfect[i]['eventDate']) for i in ids)
        table.append(rates(f'odd_date, {kind}', hit, len(ids) - hit, sum(done[i]['eventDate'] is not None for i in ids) - hit))
    right = sum(same(done[i]['eventDate'], perfect[i]['eventDate']) for i in perfect)
    table.append(rates('every date', right, len(perfect) - right, sum(done[i]['eventDate'] is not None for i in perfect) - right))
    units = {i: json.loads(d) for i, d in of('odd_unit').items()}
    rewritten = {i for i, r in done.items() if 'verbatimMeasurements' in (r['dynamicProperties'] or '')}
    ok = {i for i, t in units.items() if abs((done[i]['minimumElevationInMeters'] or -9e9) - t['elevation_m']) < .2
          and abs(json.loads(done[i]['dynamicProperties'] or '{}').get('airTemperatureInCelsius', 9e9) - t['temperature_c']) < .06}
    copied = {t['occurrenceID']: t['duplicate_of'] for t in truth if t['duplicate_of']}
    table.append(rates('odd_unit', len(ok), len(units) - len(ok), len({i for i in rewritten if i not in units and copied.get(i) not in units})))
    dms = of('odd_position')
    near = {i for i in dms if distance(done[i]['decimalLatitude'] or 0, done[i]['decimalLongitude'] or 0, *(float(perfect[i][c]) for c in ('decimalLatitude', 'decimalLongitude'))) < 31}
    moved = {i for i, r in perfect.items() if i not in dms and done[i]['decimalLatitude'] != float(r['decimalLatitude'])}
    table.append(rates('odd_position', len(near), len(dms) - len(near), len(moved)))
    return table


def test_the_surveys_odd_dates_units_and_positions_are_put_right(survey, capsys):
    table = format_table(survey)
    with capsys.disabled():
        print('\n\n' + '\n'.join(' '.join(f'{str(v):>18}' for v in (r.values() if r else ())) for r in [dict.fromkeys(table[0]), *table] if r and any(r.values())))
    for row in table: assert row['recall'] >= .99 and row['precision'] >= .99, row


def test_misspelt_names_of_a_real_taxonomy_are_resolved_and_strangers_are_not():
    path = SHARED / 'taxonomy' / 'animaltraits' / 'observations.csv'
    if not path.is_file(): pytest.skip('the real taxonomy is not here')
    taxa, rng = read_taxa(path), np.random.default_rng(0)
    half = taxa.filter(pa.array(np.arange(len(taxa)) % 2 == 0))
    known, strangers = (Backbone(half), [n for i, n in enumerate(taxa['scientificName'].to_pylist()) if i % 2])
    def typo(name):
        i, c = int(rng.integers(1, len(name))), 'aeioulnrst'[rng.integers(10)]
        return (name[:i] + name[i + 1:], name[:i] + c + name[i:], name[:i] + c + name[i + 1:])[rng.integers(3)]
    names = [n for n in half['scientificName'].to_pylist() if n.count(' ') == 1][:500]
    got = [lookup(known, typo(n)) for n in names]
    answered = [(n, half['scientificName'][m.row].as_py()) for n, m in zip(names, got) if m.row >= 0]
    assert len(answered) >= .92 * len(names) and sum(a == b for a, b in answered) >= .995 * len(answered)
    wrong = [n for n in strangers if lookup(known, n).how == 'misspelt']
    assert len(wrong) <= .02 * len(strangers), wrong


@pytest.mark.parametrize('name, expected', [
    ('Panthera leo (Linnaeus, 1758)', 'Panthera leo'), ('PANTHERA LEO', 'Panthera leo'), ('Rana temporaria L.', 'Rana temporaria'),
    ('Parus major Linnaeus, 1758', 'Parus major'), ('Turdus cf. merula', 'Turdus merula'), ('Bufo sp.', 'Bufo'), ('', ''), ('a fox that ran away', '')])
def test_names_lose_their_decoration(name, expected): assert canonical(name) == expected


@given(st.text(max_size=60))
def test_any_text_is_looked_up_without_an_error(text):
    assert lookup(Backbone(), text).how in ('', 'accepted', 'synonym', 'subspecies', 'everyday', 'misspelt', 'ambiguous', 'unknown')


moments = st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 30)).map(lambda d: d.replace(microsecond=0))
FORMS = ['%Y-%m-%dT%H:%M:%S', '%Y:%m:%d %H:%M:%S', '%Y%m%dT%H%M%S', '%d.%m.%Y %H:%M:%S', '%d %B %Y %H:%M:%S', '%B %d, %Y %I:%M:%S %p', '%Y/%m/%d %H:%M:%S', '%a, %d %b %Y %H:%M:%S']


@settings(max_examples=60)
@given(st.lists(st.tuples(moments, st.sampled_from(FORMS), st.integers(-12 * 4, 14 * 4)), min_size=1, max_size=20))
def test_a_moment_is_the_same_however_it_is_written(written):
    texts, expected = [], []
    for when, form, quarters in written:
        zone = timezone(timedelta(minutes=15 * quarters))
        texts.append(when.strftime(form) + when.replace(tzinfo=zone).strftime('%z'))
        expected.append(when.replace(tzinfo=zone).astimezone(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ').zfill(20))
    done, _, _ = normalise_dates(records_table([dict(occurrenceID=str(i), eventDate=t) for i, t in enumerate(texts)]))
    assert done['eventDate'].to_pylist() == expected


@given(st.lists(st.text(max_size=40) | st.text('0123456789-/:.TZ +amPM\u200f,', max_size=30), max_size=20))
def test_any_text_is_read_as_a_date_without_an_error(texts):
    dates = read_dates(pa.array([t.encode('utf-8', 'replace').decode() for t in texts], pa.string()))
    assert len(dates.ms) == len(texts) and (np.abs(dates.ms[dates.precision > 0]) < 1.2e13).all()


def test_day_and_month_follow_the_data_set_and_are_never_guessed():
    rows = [dict(occurrenceID=f'{d}{i}', datasetName=d, eventDate=t) for d, texts in dict(
        european=['03/05/2024', '27/05/2024'], american=['03/05/2024', '05/27/2024'], silent=['03/05/2024', '04/04/2024'],
        torn=['03/05/2024', '27/05/2024', '05/27/2024']).items() for i, t in enumerate(texts)]
    done = {r['occurrenceID']: r for r in normalise_dates(records_table(rows))[0].to_pylist()}
    assert [done[f'{d}0']['eventDate'] for d in ('european', 'american', 'silent', 'torn')] == ['2024-05-03', '2024-03-05', None, None]
    assert done['silent1']['eventDate'] == '2024-04-04' and done['silent0']['verbatimEventDate'] == '03/05/2024'
    forced = normalise_dates(records_table(rows), DateConfig(order='month_first'))[0].to_pylist()
    assert forced[4]['eventDate'] == '2024-03-05'


def test_hostile_records_pass_through_in_order_and_a_second_pass_changes_nothing():
    nasty = ['', None, 'x' * 1_000_000, '\x00\x07', '\\ud800', '🦊' * 100, 'ثعلب أحمر', '1' * 5000, '°' * 5000, '46°24\'36"N' * 500, '9 ft ' * 2000, '-' * 3000, '99999999 ft']
    rows = [dict(occurrenceID=f'r{i}', scientificName=t and t[:5000], eventDate=t, occurrenceRemarks=t, locationID=t and t[:50], dynamicProperties=t and t[:300]) for i, t in enumerate(nasty)]
    rows += [dict(occurrenceID=f'p{i}', decimalLatitude=a, decimalLongitude=b) for i, (a, b) in enumerate([(0, 0), (91, 5), (5, 181), (1e308, -1e308), (None, 4), (-90, 180)])]
    records = records_table(rows)
    out = account(len(records), normalise(records), 'formats')
    assert out.records['occurrenceID'].to_pylist() == records['occurrenceID'].to_pylist()
    assert normalise(out.records).records == out.records
    strict = normalise(records, FormatsConfig(undated='reject'))
    account(len(records), strict, 'formats')
    assert set(strict.rules()) == {'undated'}


def test_empty_tables_and_tables_with_few_columns_are_records_too():
    assert normalise(records_table([])).records.num_rows == 0
    assert normalise(pa.table({'occurrenceID': ['a'], 'eventDate': ['2024-05-03T06:12:09+02:00']})).records['eventDate'].to_pylist() == ['2024-05-03T04:12:09Z']


@given(st.integers(-200, 9999), st.sampled_from([('ft', .3048, 'm'), ('miles', 1.609344, 'km'), ('lbs', .45359237, 'kg'), ('yards', .9144, 'm')]))
def test_units_keep_their_value_and_are_rewritten_once(n, unit):
    name, factor, si = unit
    text, written = to_si(f'It was {n} {name} away.')
    value = float(text.split()[2])
    assert text.split()[3] == si and abs(value - n * factor) <= .06 and to_si(text) == (text, []) and written == [f'{n} {name}']


@pytest.mark.parametrize('text', ['2 in the tree, 3F 1M', '12 °C', '3 min later', 'CAM4 foot print', '4 m, 3 km, 5 kg', 'in 1905 miles of fence', '5 feet2', 'v1.2.3 ft'])
def test_what_is_no_foreign_unit_stays(text):
    if text.startswith('in 1905'): assert to_si(text)[1] == ['1905 miles']  # a reader would stumble as well
    else: assert to_si(text) == (text, [])


def test_real_odd_photos_become_plain_ones_and_a_damaged_odd_one_goes_to_the_ledger(tmp_path):
    folder = SHARED / 'odd_images'
    if not folder.is_dir(): pytest.skip('the odd images are not here')
    names = sorted(p.name for p in folder.glob('*.jpg') if 'truncated' not in p.name)  # that one has a plain header: found by the quality step
    (tmp_path / 'cut.jpg').write_bytes((folder / 'african_elephants_cmyk.jpg').read_bytes()[:200_000])
    records = records_table([dict(occurrenceID=n, associatedMedia=str(folder / n)) for n in names] + [dict(occurrenceID='cut', associatedMedia=str(tmp_path / 'cut.jpg'))])
    out = account(len(records), normalise_photos(records, tmp_path, tmp_path / 'new'), 'pixels')
    assert out.rejects['occurrenceID'].to_pylist() == ['cut'] and out.rules() == {'truncated': 1}
    assert out.counts == dict(cmyk=1, grey=1, turned=1)
    for name, media in zip(out.records['occurrenceID'].to_pylist(), out.records['associatedMedia'].to_pylist()):
        data = (tmp_path / media).read_bytes()
        assert oddity(data) == ''
        before, after = read_photo(folder / name).astype(int), read_photo(data).astype(int)
        assert before.shape == after.shape and np.abs(before - after).mean() < 3
