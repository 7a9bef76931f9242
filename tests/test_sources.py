"""Hostile folders and tables: what can be loaded is loaded, the rest is in the ledger, errors are one line."""
import json, os, re, tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from mlproject.core import Problem
from mlproject.data import loading
from mlproject.data.tables import decode, read_delimited, read_jsonl

SHARED = Path(os.environ.get('MLPROJECT_SHARED_DATA') or Path(__file__).parent.parent.parent / 'shared' / 'data')


@pytest.fixture(autouse=True)
def caches(tmp_path_factory, monkeypatch): monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path_factory.mktemp('caches')))


def load_source(data, **columns): return loading.load_source(data, tempfile.mkdtemp(), **columns)


def photos(root: Path, *names: str) -> Path:
    for n in names:
        (root / n).parent.mkdir(parents=True, exist_ok=True)
        (root / n).write_bytes(b'the loader does not open photos')
    return root


def table(root: Path, text: str | bytes, name: str = 't.csv') -> Path:
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root / name


def named(source) -> list[str | None]:
    "Photos as a table `t` names them: those of a table lie in a folder of its name."
    return [m and m.removeprefix('t/') for m in source.records['associatedMedia'].to_pylist()]


def labels(source) -> dict[str, str]:
    return dict(zip(named(source), source.records['scientificName'].to_pylist()))


def splits(source) -> dict[str, str]:
    return dict(zip(named(source), source.records['givenSplit'].to_pylist()))


@pytest.mark.parametrize('layout', ['{split}/{label}', '{label}/{split}', 'archive/{split}/{label}', '{split}/{split}/{label}',
                                    '{split}/{label}/camera 1/2024'])
def test_splits_are_found_wherever_they_stand(tmp_path, layout):
    names = [layout.format(split=s, label=l) + f'/{i}.jpg' for s in ('Training', 'val', 'test') for l in ('lynx', 'otter') for i in (1, 2)]
    source = load_source(photos(tmp_path, *names))
    assert set(labels(source).values()) == {'lynx', 'otter'}
    assert source.counts['given_splits'] == {'train': 4, 'validation': 4, 'test': 4}


def test_one_folder_around_everything_is_looked_through_but_a_species_is_not(tmp_path):
    assert set(labels(load_source(photos(tmp_path / 'a', 'unpacked/lynx/1.jpg', 'unpacked/otter/1.jpg'))).values()) == {'lynx', 'otter'}
    assert set(labels(load_source(photos(tmp_path / 'b', 'lynx/1.jpg', 'lynx/x/2.jpg', 'lynx/y/2.jpg'))).values()) == {'lynx'}


def test_names_are_kept_as_paths_and_tidied_as_labels(tmp_path):
    names = ['Bra\u0308r  Affe/a b.jpg', 'Br\u00e4r Affe/ä.JPEG', ' lynx/ x.png']
    found = labels(load_source(photos(tmp_path, *names)))
    assert set(found) == set(names) and set(found.values()) == {'Br\u00e4r Affe', 'lynx'}
    assert all((tmp_path / n).is_file() for n in found)


def test_everything_that_is_no_example_is_in_the_ledger(tmp_path):
    photos(tmp_path, 'lynx/a.jpg', 'lynx/._a.jpg', '.git/x/1.jpg', '.git/x/2.jpg', 'lynx/Thumbs.db', 'labels.txt', 'b.jpg', 'test/c.jpg', 'lynx/d.heic')
    (tmp_path / 'badger' / 'deeper').mkdir(parents=True)
    source = load_source(tmp_path)
    assert source.counts['rejected'] == {'hidden_file': 2, 'not_a_photo': 2, 'no_label': 2, 'unsupported_format': 1}
    assert source.rejects.num_rows == 7 and source.counts['empty_folders'] == ['badger']


def test_a_file_name_in_an_old_encoding_is_rejected_not_fatal(tmp_path):
    photos(tmp_path, 'lynx/a.jpg')
    try: open(os.fsencode(tmp_path) + b'/lynx/L\xf6we.jpg', 'wb').close()
    except OSError: pytest.skip('this file system refuses such names')
    assert load_source(tmp_path).counts['rejected'] == {'name_not_utf8': 1}


def test_the_id_of_a_photo_does_not_depend_on_the_other_photos(tmp_path):
    first = load_source(photos(tmp_path, 'lynx/b.jpg', 'otter/c.jpg')).records['occurrenceID'].to_pylist()
    grown = load_source(photos(tmp_path, 'lynx/a.jpg', 'ant/a.jpg')).records['occurrenceID'].to_pylist()
    assert set(first) < set(grown) and len(set(grown)) == 4


@pytest.mark.parametrize('make, told', [
    (lambda d: d / 'nowhere', 'does not exist'),
    (lambda d: d, 'no photo in .*it is empty'),
    (lambda d: photos(d, 'a.jpg'), 'needed: one subfolder a species'),
    (lambda d: photos(d, 'x/a.doc'), 'no photo in .*a.doc'),
    (lambda d: photos(d, 'x/occurrences.csv'), 'it holds tables.*x/occurrences.csv'),
    (lambda d: photos(d, 'x.zip') / 'x.zip', '1 unreadable'),
    (lambda d: photos(d, 'x.docx') / 'x.docx', 'is not known by its ending .allowed: .csv'),
    (lambda d: table(d, ''), 'no usable record .* they are empty'),
    (lambda d: table(d, 'file,label\n'), 'no usable record'),
    (lambda d: table(d, 'item,price\nfish,3\n'), 'no label, photo or text column .columns found: item, price.'),
    (lambda d: table(d, 'species,price\nfish,3\n'), 'no photo .*columns found: species, price.*photo_column'),
    (lambda d: table(d, 'text,price\na fish,3\n'), 'no label .*columns found: text, price.*label_column'),
    (lambda d: table(d, 'file,label\na.jpg,lynx\n'), 'none of the photos .* a.jpg'),
    (lambda d: table(d, b'\x00\x01\x02', 'x.parquet'), 'as Parquet'),
])
def test_what_cannot_be_loaded_is_one_line(tmp_path, make, told):
    with pytest.raises(Problem, match=told) as caught: load_source(make(tmp_path))
    assert '\n' not in str(caught.value)


def test_a_named_column_must_be_there(tmp_path):
    path = table(photos(tmp_path, 'a.jpg'), 'file,label\na.jpg,lynx\n')
    for columns in (dict(label_column='genus'), dict(photo_column='genus')):
        with pytest.raises(Problem, match="no column 'genus'.*columns found: file, label"): load_source(path, **columns)


HOSTILE = ('\ufefffile;species;note\r\n'
           'a.jpg;Lynx lynx;fine\r\n'
           'a.jpg;Lynx lynx;"never closed\r\n'
           'b.jpg;Lynx lynx;"two\r\nlines"\r\n'
           '\r\n'
           'c.jpg;Lutra\0lutra;nul\r\n'
           'd.jpg;Lutra lutra\r\n'
           'e.jpg;Lutra lutra;too;many\r\n'
           'f.jpg; Lutra   lutra ;;;\r\n'
           'g.jpg;;\r\n'
           ';Lutra lutra;\r\n'
           'b.jpg;Lynx lynx;"two\r\nlines"\r\n').encode() + 'h.jpg;Löwe;latin\r\n'.encode('latin-1')


def test_one_bad_line_costs_one_line(tmp_path):
    source = load_source(table(photos(tmp_path, 'a.jpg'), HOSTILE))
    assert labels(source) == {'a.jpg': 'Lynx lynx', 'b.jpg': 'Lynx lynx', 'f.jpg': 'Lutra lutra', 'h.jpg': 'Löwe'}
    told = {(int(line[1]) if (line := re.search(r'line (\d+)', d)) else None, r) for d, r in zip(source.rejects['detail'].to_pylist(), source.rejects['rule'].to_pylist())}
    assert told == {(3, 'unclosed_quote'), (7, 'nul_byte'), (8, 'ragged_row'), (9, 'ragged_row'), (11, 'no_label'), (12, 'no_photo'), (None, 'duplicate_row')}


def test_a_row_with_a_note_goes_on_without_label_or_photo(tmp_path):
    source = load_source(table(photos(tmp_path, 'a.jpg'), 'file,species,note\na.jpg,Lynx lynx,x\na.jpg,,who is this?\n,Lutra lutra,tracks\n,,rain\n'))
    rows = zip(named(source), *(source.records[c].to_pylist() for c in ('scientificName', 'occurrenceRemarks', 'type')))
    assert [*rows] == [('a.jpg', 'Lynx lynx', 'x', 'StillImage'), ('a.jpg', None, 'who is this?', 'StillImage'), (None, 'Lutra lutra', 'tracks', 'Text'), (None, None, 'rain', 'Text')]


def test_run_and_curate_read_a_table_alike(tmp_path):
    path = table(photos(tmp_path, 'a.jpg', 'b.jpg'), 'file;species;lat;subset;note\na.jpg | b.jpg;Lynx lynx;46.5;train;\nb.jpg; Lutra  lutra;x;valid;seen\n;;;;two adults\nc.jpg;;;;\n')
    run = load_source(path)
    parts = [p for p in loading.iter_sources(path, tmp_path / 'cache')]
    assert run.records.equals(pa.concat_tables(p.records for p in parts).combine_chunks())
    assert run.rejects.equals(pa.concat_tables(p.rejects for p in parts).combine_chunks())


def test_a_forgotten_quote_does_not_reach_into_the_next_line():
    rows = read_delimited('file,label,note\na.jpg,lynx,"oops\nb.jpg,lynx,"close, 5"",x\nc.jpg,4",y\n')
    assert [r['file'] for r in rows.rows] == ['c.jpg'] and [b.line for b in rows.bad] == [2, 3]


def test_a_bad_line_of_jsonl_costs_one_line(tmp_path):
    lines = ['{"image": "a.jpg", "label": "lynx", "split": "val"}', '{"image": "b.jpg"', '[]', '', '{"image": "a.jpg", "label": null}',
             '{"image": "b.jpg", "label": 7, "note": "half \\ud800 a character"}', '[' * 5000]
    source = load_source(table(photos(tmp_path, 'a.jpg'), '\n'.join(lines), 't.jsonl'))
    assert labels(source) == {'a.jpg': 'lynx', 'b.jpg': '7'} and splits(source) == {'a.jpg': 'validation', 'b.jpg': None}
    assert source.counts['rejected'] == {'bad_json': 3, 'no_label': 1}


def test_tabs_are_read_without_quoting(tmp_path):
    source = load_source(table(photos(tmp_path, 'a.jpg'), 'identifier\tscientificName\tnote\na.jpg\tLynx lynx\t5" paw\nb.jpg\t"Lynx lynx"\tx\n', 't.tsv'))
    assert labels(source) == {'a.jpg': 'Lynx lynx', 'b.jpg': 'Lynx lynx'}


def test_photos_of_one_occurrence_get_ids_of_their_own_and_stay_together(tmp_path):
    text = 'occurrenceID,associatedMedia,scientificName\nA,a.jpg | b.jpg,lynx\nA,c.jpg,lynx\nB,d.jpg,lynx\n'
    records = load_source(table(photos(tmp_path, 'a.jpg'), text)).records.to_pylist()
    assert len({r['occurrenceID'] for r in records}) == 4 and [r['eventID'] for r in records] == ['A', 'A', 'A', None]


@pytest.mark.parametrize('where, written', [('photos/a.jpg', 'a.jpg'), ('images/lynx/a.jpg', 'lynx\\a.jpg'), ('a.jpg', 'file://{root}/a.jpg')])
def test_photos_are_found_from_where_paths_count(tmp_path, where, written):
    source = load_source(table(photos(tmp_path, where), f'file,label\n{written.format(root=tmp_path)},lynx\n'))
    assert (source.photo_root / source.records['associatedMedia'][0].as_py()).is_file()


def test_rejects_hold_what_was_read_of_the_row(tmp_path):
    source = load_source(table(photos(tmp_path, 'a.jpg'), 'file,label,camera,tag\na.jpg,lynx,7,x\nb.jpg,,7,x\n'))
    assert json.loads(source.rejects['record'][0].as_py()) == {'file': 'b.jpg', 'label': '', 'camera': '7'}
    assert 't.csv line 3' in source.rejects['detail'][0].as_py()


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_rows_and_bad_lines_and_never_an_exception(data):
    text = decode(data)
    for read in (read_delimited, read_jsonl):
        try: rows = read(text)
        except Problem: continue
        assert len(rows.rows) == len(rows.lines)


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text('ab",;\n ', max_size=6), st.text('xyz"\n', max_size=6)), min_size=1, max_size=8))
def test_what_the_standard_writer_writes_is_read_back(rows):
    import csv, io
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([('p', 'q'), *rows])
    read = read_delimited(out.getvalue(), ',')
    assert [(r['p'], r['q']) for r in read.rows] == rows and not read.bad


@pytest.mark.parametrize('folder, photos_, species, given_splits', [
    ('caltech101_animals', 2399, 39, {}), ('monkeys10', 1368, 10, {'train': 1096, 'validation': 272})])
def test_real_photos(folder, photos_, species, given_splits):
    if not (SHARED / 'photos' / folder).is_dir(): pytest.skip('real photos are not here (MLPROJECT_SHARED_DATA)')
    source = load_source(SHARED / 'photos' / folder)
    assert (source.counts['photos'], source.counts['species'], source.counts['given_splits']) == (photos_, species, given_splits)
    assert pa.compute.count_distinct(source.records['occurrenceID']).as_py() == photos_
