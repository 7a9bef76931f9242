"""Sources of all kinds in one run: HTTP and S3 from local servers, hostile archives and XML, only what is new is read again."""
import csv, gzip, http.server, io, json, os, signal, socket, sqlite3, subprocess, sys, tarfile, threading, time, zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, SHARED
from hypothesis import example, given, settings, strategies as st
from PIL import Image

from mlproject.core import Problem
from mlproject.data import streams
from mlproject.data.archives import ArchiveConfig, TooMuch, safe_name, unpack
from mlproject.data.databases import shown
from mlproject.data.loading import LoadConfig, iter_sources, load_source, load_sources
from mlproject.data.records import SCHEMA
from mlproject.data.remote import RemoteConfig
from mlproject.data.streams import cut_lines, parse_jsonl
from mlproject.data.tables import read_delimited, read_jsonl

settings.register_profile('patient', deadline=None, derandomize=True, max_examples=40)
settings.load_profile('patient')
QUICK = LoadConfig(remote=RemoteConfig(timeout=30, tries=2, backoff=.01, private=True))


def photo(path: Path, hue='tan') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (40, 30), hue).save(path)
    return path


def found(source) -> bool: return all((source.photo_root / m).is_file() for m in source.records['associatedMedia'].drop_null().to_pylist())


def ledger(source) -> list[tuple[str, str]]: return list(zip(source.rejects['rule'].to_pylist(), source.rejects['detail'].to_pylist()))


@pytest.fixture
def web(tmp_path):
    "A web server for the folder tmp_path/web: (address, requests)."
    folder, asked = tmp_path / 'web', []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a, **k): super().__init__(*a, directory=str(folder), **k)
        def log_message(self, *_): pass
        def do_GET(self):
            asked.append(self.path)
            if self.path == '/hangs.csv': self.rfile.read(1)  # until the client has gone
            else: super().do_GET()

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', asked
    server.shutdown()
    server.server_close()


@pytest.fixture(scope='module')
def s3():
    "An S3-compatible server: (endpoint, a function that puts an object)."
    moto = pytest.importorskip('moto.server')
    server = moto.ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    from pyarrow.fs import S3FileSystem
    keys = dict(AWS_ACCESS_KEY_ID='test', AWS_SECRET_ACCESS_KEY='test', AWS_DEFAULT_REGION='us-east-1', AWS_EC2_METADATA_DISABLED='true')
    before = dict(os.environ)
    os.environ.update(keys)
    fs = S3FileSystem(endpoint_override=f'{host}:{port}', scheme='http', allow_bucket_creation=True)

    def put(key: str, data: bytes):
        fs.create_dir(key.split('/')[0])
        with fs.open_output_stream(key) as f: f.write(data)

    yield f'http://{host}:{port}', put
    os.environ.clear()
    os.environ.update(before)
    server.stop()


def test_eight_kinds_from_disk_web_bucket_and_database_in_one_run(tmp_path, web, s3):
    address, _ = web
    endpoint, put = s3
    photo(tmp_path / 'station/Lynx lynx/1.jpg'); photo(tmp_path / 'station/Lutra lutra/1.jpg', 'brown')
    photo(tmp_path / 'web/pictures/a b.jpg', 'grey')
    (tmp_path / 'web/list.csv').write_text('file,species\npictures/a b.jpg,Meles meles\npictures/gone.jpg,Meles meles\n../../etc/passwd,Meles meles\n')
    (tmp_path / 'notes.jsonl').write_text('{"text": "Otter tracks."}\n{"text": "cut\n')
    pq.write_table(pa.table(dict(remarks=['A sett.', None], month=[3, 4])), tmp_path / 'notes.parquet')
    with sqlite3.connect(tmp_path / 'field.db') as db:
        db.execute('create table seen (species text, note text)')
        db.execute("insert into seen values ('Lynx lynx', 'at the ford')")
    with zipfile.ZipFile(tmp_path / 'traps.zip', 'w') as z:
        z.write(photo(tmp_path / 'p.jpg', 'navy'), 'set/7.jpg')
        z.writestr('set/all.json', json.dumps(dict(images=[dict(id=7, file_name='7.jpg')], annotations=[dict(image_id=7, category_id=1)], categories=[dict(id=1, name='Canis lupus')])))
    with tarfile.open(tmp_path / 'photos.tgz', 'w:gz') as t: t.add(tmp_path / 'station', 'station')
    (tmp_path / 'cut.jsonl.gz').write_bytes(gzip.compress(b''.join(b'{"text": "visit %d %s"}\n' % (i, os.urandom(40).hex().encode()) for i in range(30_000)))[:600_000])
    put('bucket/notes/de.csv', b'text\nEin Luchs.\n'); put('bucket/notes/fr.tsv', b'text\nUn lynx.\n'); put('bucket/one.jsonl', b'{"note": "seen"}\n')
    sources = [str(tmp_path / 'station'), f'{address}/list.csv', f'{address}/nothing.csv', str(tmp_path / 'notes.jsonl'), str(tmp_path / 'notes.parquet'),
               dict(path=str(tmp_path / 'field.db'), table='seen'), str(tmp_path / 'traps.zip'), str(tmp_path / 'photos.tgz'), str(tmp_path / 'cut.jsonl.gz'),
               dict(url='s3://bucket/notes/', endpoint=endpoint, name='bucket'), dict(url='s3://bucket/one.jsonl', endpoint=endpoint), dict(url='s3://bucket/none.csv', endpoint=endpoint)]
    source = load_sources(sources, tmp_path / 'cache', config=QUICK)
    assert found(source) and source.records.schema == SCHEMA
    rows = source.records.to_pylist()
    assert sorted((r['scientificName'], r['datasetName']) for r in rows if r['associatedMedia']) == sorted([
        ('Lynx lynx', 'station'), ('Lutra lutra', 'station'), ('Meles meles', 'list'), ('Canis lupus', 'traps'), ('Lynx lynx', 'photos'), ('Lutra lutra', 'photos')])
    texts = {r['occurrenceRemarks'] for r in rows if r['type'] == 'Text'}
    assert {'Otter tracks.', 'A sett.', 'at the ford', 'Ein Luchs.', 'Un lynx.', 'seen'} <= texts and sum(t.startswith('visit') for t in texts) > 1000
    rules = ledger(source)
    for rule, told in [('dead_url', f'{address}/nothing.csv: HTTP 404'), ('dead_url', 'pictures/gone.jpg: HTTP 404'), ('bad_json', 'notes.jsonl line 2'), ('no_text', 'notes.parquet line 2'),
                       ('truncated', 'cut.jsonl.gz line'), ('dead_url', 's3://bucket/none.csv')]:
        assert any(r == rule and told in d for r, d in rules), (rule, told, rules)
    assert not any('passwd' in (r['associatedMedia'] or '') for r in rows)
    again = load_sources(sources, tmp_path / 'cache', config=QUICK)
    assert again.counts['rows_read'] == 1 and again.records.equals(source.records)  # the list with the dead photo is tried again


# --- incremental ---------------------------------------------------------------------------------------------------

def notes(path: Path, texts: list[str]) -> Path:
    path.write_text(''.join(json.dumps(dict(text=t)) + '\n' for t in texts))
    return path


SMALL = LoadConfig(rows=1000)


@pytest.mark.parametrize('where', [0, 2500, 5000])
def test_one_line_inserted_anywhere_is_one_part_read_or_its_neighbour_too(tmp_path, where):
    texts = [f'visit {i} at the ford' for i in range(5000)]
    first = load_sources(notes(tmp_path / 'n.jsonl', texts), tmp_path / 'cache', config=SMALL)
    grown = load_sources(notes(tmp_path / 'n.jsonl', texts[:where] + ['a new line'] + texts[where:]), tmp_path / 'cache', config=SMALL)
    assert first.counts['read'] >= 5 and grown.counts['read'] <= 2 and grown.counts['rows_read'] <= 2000
    assert grown.records['occurrenceRemarks'].to_pylist() == texts[:where] + ['a new line'] + texts[where:]
    fresh = load_sources(tmp_path / 'n.jsonl', tmp_path / 'other', config=SMALL)
    assert fresh.records.equals(grown.records) and fresh.counts['read'] == fresh.counts['parts']


def test_lines_in_the_ledger_are_those_of_today(tmp_path):
    lines = [json.dumps(dict(text=f'visit {i}')) for i in range(4000)] + ['{broken']
    (tmp_path / 'n.jsonl').write_text('\n'.join(lines))
    load_sources(tmp_path / 'n.jsonl', tmp_path / 'cache', config=SMALL)
    (tmp_path / 'n.jsonl').write_text('\n'.join(['{"text": "first"}', *lines]))
    source = load_sources(tmp_path / 'n.jsonl', tmp_path / 'cache', config=SMALL)
    assert source.counts['read'] == 1 and ledger(source)[0][1].startswith('n: n.jsonl line 4002:')


def test_an_unchanged_file_is_not_even_opened_and_a_changed_one_is(tmp_path, monkeypatch):
    path = notes(tmp_path / 'n.jsonl', [f'visit {i}' for i in range(3000)])
    os.utime(path, (1, 1))
    load_sources(path, tmp_path / 'cache', config=SMALL)
    opened = []
    real = streams.read_chunks
    monkeypatch.setattr(streams, 'read_chunks', lambda p, *a: opened.append(p) or real(p, *a))
    assert load_sources(path, tmp_path / 'cache', config=SMALL).counts['read'] == 0 and not opened
    os.utime(path, (2, 2))
    assert load_sources(path, tmp_path / 'cache', config=SMALL).counts['read'] == 0 and opened
    assert load_sources([dict(path=str(path), type='Event')], tmp_path / 'cache', config=SMALL).counts['read'] > 0  # understood differently


def test_parquet_row_groups_and_photos_and_databases_are_read_once(tmp_path):
    table = pa.table(dict(text=[f'visit {i}' for i in range(3000)], embedding=[[.1]] * 3000))
    with pq.ParquetWriter(tmp_path / 't.parquet', table.schema) as w:
        for i in range(3): w.write_table(table.slice(i * 1000, 1000))
    photo(tmp_path / 'p/lynx/1.jpg')
    with sqlite3.connect(tmp_path / 'f.db') as db:
        db.execute('create table t (id integer primary key, note text)')
        db.executemany('insert into t values (?, ?)', [(i, f'n{i}') for i in range(1500)])
    sources = [str(tmp_path / n) for n in ('t.parquet', 'p', 'f.db')]
    assert load_sources(sources, tmp_path / 'cache', config=SMALL).counts['read'] == 6
    assert load_sources(sources, tmp_path / 'cache', config=SMALL).counts['read'] == 0
    with pq.ParquetWriter(tmp_path / 't.parquet', table.schema) as w:
        for i in range(3): w.write_table(table.slice(i * 1000, 1000))
        w.write_table(pa.table(dict(text=['new'], embedding=[[.2]])))
    photo(tmp_path / 'p/otter/1.jpg')
    with sqlite3.connect(tmp_path / 'f.db') as db: db.execute("insert into t values (9999, 'new')")
    source = load_sources(sources, tmp_path / 'cache', config=SMALL)
    assert source.counts['read'] == 3 and source.records.num_rows == 4504 and found(source)
    moved = load_sources(sources, tmp_path / 'elsewhere', tmp_path / 'cache', config=SMALL)
    assert moved.counts['read'] == 0 and moved.records.equals(source.records)


def test_killed_in_the_middle_the_next_run_reads_the_rest_and_gives_the_same(tmp_path):
    notes(tmp_path / 'n.jsonl', [f'visit {i} ' + 'x' * 200 for i in range(20_000)])
    code = ('import sys, os, signal\nfrom mlproject.data import loading\nput, done = loading._Store.put, []\n'
            'def dies(self, key, made):\n    put(self, key, made); done.append(1)\n    if len(done) == 5: os.kill(os.getpid(), signal.SIGKILL)\n'
            'loading._Store.put = dies\nloading.load_sources(sys.argv[1], sys.argv[2], config=loading.LoadConfig(rows=2000))')
    killed = subprocess.run([sys.executable, '-c', code, str(tmp_path / 'n.jsonl'), str(tmp_path / 'cache')], env=os.environ | dict(PYTHONPATH=str(ROOT)))
    assert killed.returncode == -signal.SIGKILL
    config = LoadConfig(rows=2000)
    rest = load_sources(tmp_path / 'n.jsonl', tmp_path / 'cache', config=config)
    whole = load_sources(tmp_path / 'n.jsonl', tmp_path / 'other', config=config)
    assert rest.counts['read'] == whole.counts['read'] - 5 and rest.records.equals(whole.records)


def test_known_parts_come_without_records_and_parts_are_bounded(tmp_path):
    notes(tmp_path / 'n.jsonl', [f'visit {i}' for i in range(5000)])
    parts = list(iter_sources(tmp_path / 'n.jsonl', tmp_path / 'cache', config=SMALL))
    assert max(p.rows for p in parts) <= 1000 and sum(p.rows for p in parts) == 5000
    known = {p.key for p in parts[:3]}
    again = list(iter_sources(tmp_path / 'n.jsonl', tmp_path / 'cache', known, SMALL))
    assert [p.key for p in again] == [p.key for p in parts] and [p.records is None for p in again] == [True] * 3 + [False] * (len(parts) - 3)


# --- what is wrong -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('sources, told', [
    ([], 'no sources'), (dict(path='.', lable_column='x'), "no key 'lable_column'.*did you mean label_column"), (dict(path='.', kind='jsonlines'), "no kind 'jsonlines'.*allowed: folder, csv"),
    ('no/such/place', 'no/such/place does not exist'), (dict(path='.', url='http://x'), 'not both'), (dict(name='x'), 'needs a path or a url'), (3, 'is a int|needed|not iterable'),
    (dict(path='.', anonymous='yes'), 'true or false'), (dict(path='.', type='Photo'), "no type 'Photo'")])
def test_a_wrong_entry_is_one_line(sources, told, tmp_path):
    with pytest.raises((Problem, TypeError), match=told): load_sources([sources] if isinstance(sources, int) else sources, tmp_path)


def test_a_column_that_is_not_there_is_an_error_and_nothing_usable_too(tmp_path):
    notes(tmp_path / 'n.jsonl', ['a'])
    with pytest.raises(Problem, match="no column 'txt' for the text"): load_sources(dict(path=str(tmp_path / 'n.jsonl'), text_column='txt'), tmp_path / 'c')
    (tmp_path / 'm.csv').write_text('a,b\n1,2\n')
    with pytest.raises(Problem, match='no label, photo or text column'): load_sources(tmp_path / 'm.csv', tmp_path / 'c')
    (tmp_path / 'e.jsonl').write_text('{}\n[1]\n\n')
    with pytest.raises(Problem, match='no usable record'): load_sources(tmp_path / 'e.jsonl', tmp_path / 'c')


def test_a_server_that_hangs_or_is_not_there_costs_its_source(tmp_path, web):
    address, _ = web
    notes(tmp_path / 'n.jsonl', ['a'])
    (tmp_path / 'web/hangs.csv').write_text('text\nx\n')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        closed = s.getsockname()[1]
    config = LoadConfig(remote=RemoteConfig(timeout=.5, tries=1, private=True))
    source = load_sources([f'{address}/hangs.csv', f'http://127.0.0.1:{closed}/x.csv', str(tmp_path / 'n.jsonl')], tmp_path / 'c', config=config)
    assert source.records.num_rows == 1 and [r for r, _ in ledger(source)] == ['dead_url', 'dead_url'] and 'Errno' in ledger(source)[1][1]


def test_an_unchanged_download_is_asked_after_and_a_changed_one_is_read(tmp_path, web):
    address, asked = web
    notes(tmp_path / 'web/n.jsonl', ['a'])
    os.utime(tmp_path / 'web/n.jsonl', (1, 1))
    assert load_sources(f'{address}/n.jsonl', tmp_path / 'c', config=QUICK).counts['read'] == 1
    assert load_sources(f'{address}/n.jsonl', tmp_path / 'c', config=QUICK).counts['read'] == 0 and len(asked) == 2
    notes(tmp_path / 'web/n.jsonl', ['a', 'b'])
    assert load_sources(f'{address}/n.jsonl', tmp_path / 'c', config=QUICK).counts['rows_read'] == 2


def test_photos_named_by_a_stranger_do_not_lead_into_this_network(tmp_path, web):
    address, asked = web
    photo(tmp_path / 'web/a.jpg')
    (tmp_path / 't.csv').write_text(f'file,species,note\n{address}/a.jpg,Lynx lynx,\n,,kept\n')
    source = load_sources(tmp_path / 't.csv', tmp_path / 'c', config=LoadConfig(remote=RemoteConfig(tries=1)))
    assert ledger(source)[0][0] == 'private_url' and not asked
    assert found(load_sources(tmp_path / 't.csv', tmp_path / 'd', config=QUICK)) and asked
    with pytest.raises(Problem, match='no label in 1 records .*rejected: 1 private_url'): load_source(tmp_path / 't.csv', tmp_path / 'e')


def test_a_password_is_in_no_ledger(tmp_path):
    notes(tmp_path / 'n.jsonl', ['a'])
    source = load_sources([str(tmp_path / 'n.jsonl'), 'postgresql://reader:hush@127.0.0.1:9/field'], tmp_path / 'c')
    assert 'hush' not in str(source.rejects.to_pylist()) and ledger(source)[0][0] == 'unreadable'
    assert shown('postgresql://r:p@h/d') == 'postgresql://r:***@h/d'


# --- archives ------------------------------------------------------------------------------------------------------

def tar_of(path: Path, *members) -> Path:
    with tarfile.open(path, 'w') as t:
        for name, data, kind in members:
            m = tarfile.TarInfo(name)
            m.size, m.type, m.linkname = len(data), kind, '/etc/passwd' if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ''
            t.addfile(m, io.BytesIO(data))
    return path


def test_nothing_of_an_archive_lands_outside_and_links_and_devices_are_refused(tmp_path):
    bad = [('../up', b'x', tarfile.REGTYPE), ('/abs', b'x', tarfile.REGTYPE), ('a/../../up', b'x', tarfile.REGTYPE), ('link', b'', tarfile.SYMTYPE), ('hard', b'', tarfile.LNKTYPE),
           ('dev', b'', tarfile.CHRTYPE), ('fifo', b'', tarfile.FIFOTYPE), ('C:\\x', b'x', tarfile.REGTYPE), ('ok/1.txt', b'x', tarfile.REGTYPE), ('ok', b'x', tarfile.REGTYPE), ('ok/1.txt/2', b'x', tarfile.REGTYPE)]
    made = unpack(tar_of(tmp_path / 'a.tar', *bad), tmp_path / 'box/cache')
    assert [p.relative_to(made.folder).as_posix() for p in made.folder.rglob('*') if p.is_file() or p.is_symlink()] == ['ok/1.txt']
    assert len(made.refused) == len(bad) - 1 and sorted(p.name for p in (tmp_path / 'box').iterdir()) == ['cache'] and sorted(p.name for p in tmp_path.iterdir()) == ['a.tar', 'box']


@pytest.mark.parametrize('config, told', [(dict(ratio=10, free=1000), '10 times'), (dict(total=5000), '5,000 bytes'), (dict(member=5000), 'a file of more'), (dict(members=2), '2 files')])
def test_an_archive_beyond_a_limit_leaves_nothing(tmp_path, config, told):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w', zipfile.ZIP_DEFLATED) as z:
        for i in range(3): z.writestr(f'{i}.csv', bytes(9000))
    with pytest.raises(TooMuch, match=told): unpack(tmp_path / 'a.zip', tmp_path / 'cache', ArchiveConfig(**config))
    assert not any(p for p in (tmp_path / 'cache').rglob('*') if p.is_file())


def test_a_damaged_member_costs_itself(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        z.writestr('a.jsonl', '{"text": "the first one"}\n'); z.writestr('b.jsonl', '{"text": "the second one"}\n')
    (tmp_path / 'a.zip').write_bytes((tmp_path / 'a.zip').read_bytes().replace(b'the first', b'the wrong', 1))
    source = load_sources(tmp_path / 'a.zip', tmp_path / 'cache')
    assert source.records['occurrenceRemarks'].to_pylist() == ['the second one'] and ledger(source)[0][0] == 'damaged_member'


@given(st.text(max_size=60))
def test_a_safe_name_stays_inside(name):
    safe = safe_name(name)
    assert safe is None or os.path.normpath(os.path.join('/box', safe)).startswith('/box/')


def test_a_table_in_an_archive_names_no_file_outside(tmp_path):
    photo(tmp_path / 'secret.jpg')
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        z.write(tmp_path / 'secret.jpg', 'in.jpg')
        z.writestr('t.csv', f'file,species\nin.jpg,lynx\n../../../secret.jpg,lynx\n{tmp_path}/secret.jpg,lynx\n')
    source = load_sources(tmp_path / 'a.zip', tmp_path / 'cache')
    assert source.records.num_rows == 1 and [r for r, _ in ledger(source)] == ['unsafe_path'] * 2 and found(source)


# --- tables --------------------------------------------------------------------------------------------------------

json_lines = st.lists(st.one_of(
    st.dictionaries(st.text(max_size=4), st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.lists(st.integers(), max_size=2)), max_size=4).map(lambda d: json.dumps(d)),
    st.dictionaries(st.sampled_from(['text', 'a/b', "q'q", '~', '']), st.text(max_size=8), max_size=3).map(lambda d: json.dumps(d, ensure_ascii=False)),
    st.text(st.characters(exclude_characters='\n\r', exclude_categories=['Cs']), max_size=12), st.just('{"text": "\\ud83d"}'), st.just('{"x": NaN}'), st.just('[1]'), st.just('')), max_size=12)


@given(json_lines)
def test_blocks_of_jsonl_say_what_the_reader_of_small_tables_says(lines):
    text = ''.join(l + '\n' for l in lines)
    raw, rows = parse_jsonl(text.encode()), read_jsonl(text)
    assert raw.lines.tolist() == rows.lines and [(b.line, b.rule) for b in raw.bad] == [(b.line, b.rule) for b in rows.bad]
    assert set(raw.table.column_names) == set(rows.columns)
    for got, row in zip(raw.table.to_pylist(), rows.rows):
        for k, v in row.items():
            if isinstance(v, str): assert got[k] == v.encode('utf-8', 'backslashreplace').decode()
            elif v is None: assert got[k] is None
            elif isinstance(v, (list, dict)): assert json.loads(got[k]) == v


cells = st.text('ab",;\t \r\x0b\x85é', max_size=5)


@given(st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6), st.sampled_from([',', ';', '\t']), st.booleans())
@example([['', '', '"']], ',', False)
def test_the_swift_reader_of_csv_says_what_the_tolerant_one_says(rows, delimiter, quote):
    write = (lambda c: '"' + c.replace('"', '""') + '"' if any(x in c for x in '",;\r') else c) if quote and delimiter != '\t' else (lambda c: c)
    text = ''.join(delimiter.join(map(write, r)) + '\n' for r in [['one', 'two', 'three'], *rows])
    head = f'one{delimiter}two{delimiter}three\n'
    raw, slow = streams.parse_delimited(text[len(head):].encode(), head.encode(), delimiter), read_delimited(text, delimiter)
    assert raw.table.to_pylist() == slow.rows and (raw.lines + 1).tolist() == slow.lines and len(raw.bad) == len(slow.bad)


@given(st.binary(max_size=400), st.integers(1, 5), st.integers(8, 60), st.integers(1, 50))
def test_cutting_loses_nothing_but_lines_that_are_too_long(data, rows, size, chunk):
    pieces = list(cut_lines([data[i:i + chunk] for i in range(0, len(data), chunk)], rows, size))
    whole = data if data.endswith(b'\n') or not data else data + b'\n'
    lines = whole.split(b'\n')[:-1]
    assert b''.join(d for d, n in pieces if n) == b''.join(l + b'\n' for l in lines if len(l) < size)
    assert sum(n == 0 for _, n in pieces) == sum(len(l) >= size for l in lines) and all(n <= rows for _, n in pieces)


@pytest.mark.parametrize('data', [b'\x00\x01\x02', b'\xff\xfe{\x00', b'"' * 5000, b'{"a":' * 3000, b'text\n"' + b'x' * 5000, b'text\x00\n\x00\n', 'text\n\u202e\U0001f98a\n'.encode(), b'text\r1\r2\r', b'\xef\xbb\xbftext\nx\n'])
@pytest.mark.parametrize('name', ['t.csv', 't.tsv', 't.jsonl', 't.parquet', 't.json', 't.zip', 't.tar', 't.db', 't.jsonl.gz', 't'])
def test_hostile_bytes_are_a_problem_or_a_ledger_and_nothing_else(tmp_path, data, name):
    (tmp_path / name).write_bytes(data)
    try: load_sources(tmp_path / name, tmp_path / 'cache', config=LoadConfig(size=2048))
    except Problem as e: assert '\n' not in str(e)


def test_a_line_longer_than_a_block_goes_to_the_ledger(tmp_path):
    (tmp_path / 'n.jsonl').write_text('{"text": "a"}\n{"text": "' + 'x' * 9000 + '"}\n{"text": "b"}\n')
    source = load_sources(tmp_path / 'n.jsonl', tmp_path / 'c', config=LoadConfig(size=4096))
    assert source.records['occurrenceRemarks'].to_pylist() == ['a', 'b'] and ledger(source) == [('too_long', 'n: n.jsonl line 2: a line of more than 4,096 bytes')]


def test_a_bomb_of_a_table_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, 'FREE', 1 << 20)
    (tmp_path / 'n.jsonl.gz').write_bytes(gzip.compress(b'{"text": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}\n' * 60_000))
    source = load_sources(tmp_path / 'n.jsonl.gz', tmp_path / 'c')
    assert 'bomb' in dict(ledger(source)) and source.records.num_rows == 1


def test_ids_do_not_depend_on_format_or_order_of_columns(tmp_path):
    rows = [dict(text=f'visit {i}', species='Lynx lynx', lat=str(40 + i)) for i in range(5)]
    (tmp_path / 'a.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows).select(['lat', 'text', 'species']), tmp_path / 'b.parquet')
    (tmp_path / 'c.csv').write_text('species,text,lat\n' + ''.join(f"{r['species']},{r['text']},{r['lat']}\n" for r in rows))
    ids = [load_sources(dict(path=str(tmp_path / n), name='x'), tmp_path / f'cache{n}').records['occurrenceID'].to_pylist() for n in ('a.jsonl', 'b.parquet', 'c.csv')]
    assert ids[0] == ids[1] == ids[2] and len(set(ids[0])) == 5


def test_same_ids_in_two_sources_lose_no_record(tmp_path):
    for name, text in (('a', 'one'), ('b', 'two')): (tmp_path / f'{name}.csv').write_text(f'occurrenceID,text\n1,{text}\n2,{text}\n2,{text}\n')
    source = load_sources([str(tmp_path / 'a.csv'), str(tmp_path / 'b.csv')], tmp_path / 'c')
    assert sorted(source.records['occurrenceRemarks'].to_pylist()) == ['one', 'one', 'two', 'two'] and len(set(source.records['occurrenceID'].to_pylist())) == 4
    assert [r for r, _ in ledger(source)] == ['duplicate_row'] * 2


# --- packages ------------------------------------------------------------------------------------------------------

OFF = LoadConfig(fetch=False)


def test_the_real_camtrap_package(tmp_path):
    folder = SHARED / 'notes/camtrap_dp_example/example'
    if not folder.exists(): pytest.skip(f'{folder} is not here')
    source = load_sources(folder, tmp_path / 'c', config=OFF)
    assert source.counts['types']['Event'] == 4 and found(source)
    photos = [r for r in source.records.to_pylist() if r['type'] == 'StillImage']
    assert photos and all(r['associatedMedia'].startswith('example/media/') and r['locationID'] and r['decimalLatitude'] for r in photos)
    rules = source.rejects['rule'].value_counts().to_pylist()
    assert {r['values'] for r in rules} <= {'no_animal', 'no_label', 'remote_photo', 'several_labels'}
    lines = sum(1 for _ in open(folder / 'media.csv')) - 1
    assert len(photos) + source.rejects.num_rows == lines


def test_the_real_darwin_core_tables_as_an_archive(tmp_path):
    folder = SHARED / 'notes/mica/tests/testthat/_snaps/write_dwc'
    if not folder.exists(): pytest.skip(f'{folder} is not here')
    terms = lambda name: next(csv.reader(open(folder / name)))
    def table(tag, kind, name, key): return (
        f'<{tag} rowType="http://x/{kind}" fieldsTerminatedBy="," fieldsEnclosedBy="&quot;" ignoreHeaderLines="1"><files><location>{name}</location></files><{key} index="{terms(name).index("occurrenceID")}"/>'
        + ''.join(f'<field index="{i}" term="http://x/{t.split(":")[-1]}"/>' for i, t in enumerate(terms(name))) + f'</{tag}>')
    meta = f'<archive xmlns="http://rs.tdwg.org/dwc/text/">{table("core", "Occurrence", "occurrence.csv", "id")}{table("extension", "Multimedia", "multimedia.csv", "coreid")}</archive>'
    with zipfile.ZipFile(tmp_path / 'mica.zip', 'w') as z:
        for name in ('occurrence.csv', 'multimedia.csv'): z.write(folder / name, name)
        z.writestr('meta.xml', meta)
    parts = list(iter_sources(tmp_path / 'mica.zip', tmp_path / 'c', config=OFF))
    rejects = pa.concat_tables([p.rejects for p in parts])
    named = {(json.loads(r)['scientificName'], json.loads(r)['associatedMedia'][:34]) for r in rejects.filter(pa.compute.equal(rejects['rule'], 'remote_photo'))['record'].to_pylist()}
    assert ('Anas platyrhynchos', 'https://multimedia.agouti.eu/asset') in named
    photos = sum('image' in (r['dc:format'] or 'image').lower() for r in csv.DictReader(open(folder / 'multimedia.csv')))
    assert rejects.num_rows == photos and set(rejects['rule'].to_pylist()) == {'remote_photo', 'missing_photo'}


BILLION = '<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "' + '&a;' * 10 + '">]><archive>&b;</archive>'


@pytest.mark.parametrize('meta', [BILLION, '<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd"><archive/>', '<archive', '', '<archive/>', '<archive><core rowType="Occurrence"/></archive>',
    '<archive><core rowType="Occurrence"><files><location>../../etc/passwd</location></files></core></archive>', '<archive><core rowType="Taxon"><files><location>a</location></files></core></archive>',
    '<archive><core rowType="Occurrence"><files><location>a.csv</location></files><id index="-1"/></core></archive>',
    '<archive><core rowType="Occurrence"><files><location>a.csv</location></files><field index="999999999" term="x"/></core></archive>'])
def test_a_hostile_meta_xml_is_one_line_in_the_ledger(tmp_path, meta):
    (tmp_path / 'd').mkdir()
    (tmp_path / 'd/meta.xml').write_text(meta)
    (tmp_path / 'd/a.csv').write_text('x\n')
    notes(tmp_path / 'n.jsonl', ['a'])
    source = load_sources([str(tmp_path / 'd'), str(tmp_path / 'n.jsonl')], tmp_path / 'c')
    assert source.records.num_rows == 1 and [r for r, _ in ledger(source)] == ['unreadable'] and 'meta.xml' in ledger(source)[0][1]
    assert ('DTDForbidden' in ledger(source)[0][1]) == ('DOCTYPE' in meta)


def test_an_inaturalist_export(tmp_path):
    photo(tmp_path / 'a.jpg')
    (tmp_path / 'observations.csv').write_text(
        'id,uuid,observed_on,user_login,license,url,image_url,description,latitude,longitude,positional_accuracy,scientific_name,common_name,taxon_id\n'
        '7,0b-7,2024-05-01,ana,CC-BY,https://www.inaturalist.org/observations/7,a.jpg,"at dusk, near the ford",46.5,7.5,12,Lynx lynx,Eurasian Lynx,41976\n')
    row = load_sources(tmp_path / 'observations.csv', tmp_path / 'c').records.to_pylist()[0]
    assert {k: row[k] for k in ('occurrenceID', 'eventDate', 'recordedBy', 'scientificName', 'vernacularName', 'decimalLatitude', 'coordinateUncertaintyInMeters', 'occurrenceRemarks')} == dict(
        occurrenceID='0b-7', eventDate='2024-05-01', recordedBy='ana', scientificName='Lynx lynx', vernacularName='Eurasian Lynx', decimalLatitude=46.5, coordinateUncertaintyInMeters=12, occurrenceRemarks='at dusk, near the ford')


# --- databases -----------------------------------------------------------------------------------------------------

def test_a_real_postgresql_is_streamed_read_only_and_once(tmp_path, postgres):
    import psycopg
    with psycopg.connect(postgres) as db:
        db.execute('create schema station')
        db.execute('create table station.seen (id serial primary key, species text, note text, seen timestamptz, weight numeric, tags jsonb)')
        db.execute("""insert into station.seen (species, note, seen, weight, tags) select 'Lynx lynx', 'visit ' || i, '2024-03-01 10:00+01', 18.50, '{"a": 1}' from generate_series(1, 2500) i""")
    sources = [dict(url=postgres, table='station.seen', name='pg')]
    source = load_sources(sources, tmp_path / 'c', config=SMALL)
    assert source.records.num_rows == 2500 and source.counts['read'] == 3
    assert source.records['occurrenceRemarks'].to_pylist()[:2] == ['visit 1', 'visit 2']
    assert load_sources(sources, tmp_path / 'c', config=SMALL).counts['read'] == 0
    query = [dict(url=postgres, query='select note, seen as "eventDate" from station.seen where id <= 3 order by id', name='pg')]
    assert load_sources(query, tmp_path / 'c').records['eventDate'].to_pylist()[0].startswith('2024-03-01T')
    for bad in (dict(query='delete from station.seen returning note'), dict(query="select nextval('station.seen_id_seq') as note"), dict(table='nothing'), dict(query='select')):
        notes(tmp_path / 'n.jsonl', ['a'])
        gone = ledger(load_sources([dict(url=postgres, **bad), str(tmp_path / 'n.jsonl')], tmp_path / 'c'))
        assert gone[0][0] in ('unreadable', 'no_columns') and 'secret' not in str(gone)
    with psycopg.connect(postgres) as db: assert db.execute('select count(*) from station.seen').fetchone() == (2500,)


# --- the pipeline's one path ---------------------------------------------------------------------------------------

def test_one_path_may_be_a_folder_a_table_an_archive_or_a_url(tmp_path, web):
    address, _ = web
    photo(tmp_path / 'p/lynx/1.jpg'); photo(tmp_path / 'p/otter/1.jpg', 'navy')
    (tmp_path / 't.csv').write_text('file,species\np/lynx/1.jpg,lynx\n')
    with tarfile.open(tmp_path / 'web/p.tar', 'w') as t: t.add(tmp_path / 'p', 'p')
    for data, n in ((tmp_path / 'p', 2), (tmp_path / 't.csv', 1), (tmp_path / 'web/p.tar', 2), (f'{address}/p.tar', 2)):
        source = load_source(data, tmp_path / 'c')
        assert source.records.num_rows == n and found(source) and 'warnings' in source.counts
    with pytest.raises(Problem, match="no column 'genus'"): load_source(tmp_path / 't.csv', tmp_path / 'c', label_column='genus')
