"Offline prediction: one row for whatever is given, the same bytes after every accident, from wherever the photos are."
import json, os, signal, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa, pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colours import pack_colours, photo
from conftest import environment
from mlproject.core import MANIFEST, Problem, read_manifest, read_shards, write_atomic
from mlproject.export.extended import ExtendedModel
from mlproject.serving.batch import BatchConfig, predict_batch
from mlproject.serving.listing import Entry, _cuts


@pytest.fixture(scope='module')
def model(tmp_path_factory): return pack_colours(tmp_path_factory.mktemp('batch')/'model', threshold=.6)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp('photos')
    for i in range(90): write_atomic(root/f'site {i % 3}'/f'löwe {i:03d}.{"png" if i % 4 == 0 else "jpg"}', photo(i, 40 + i, 150 - i))
    write_atomic(root/'site 0'/'löwe 003.jpg', photo(3)[:200])
    write_atomic(root/'site 1'/'löwe 004.png', b'')
    write_atomic(root/'.hidden.jpg', photo(1))
    write_atomic(root/'notes.txt', 'no photo')
    return root


def bytes_of(out): return {p.name: p.read_bytes() for p in sorted(out.glob('*')) if p.is_file()}


def test_rows_are_the_models_answers_in_the_order_of_names(model, photos, tmp_path):
    made = predict_batch(model, photos, tmp_path/'out', BatchConfig(top_k=2, logits=True, embedding=True), rows=40)
    rows, extended = read_shards(tmp_path/'out').to_pylist(), ExtendedModel.load(model, threads=1)
    paths = sorted(p for p in photos.rglob('*/*') if p.is_file())
    assert [r['photo'] for r in rows] == [str(p) for p in paths] and made['rows'] == 90 and len(made['shards']) > 1
    want = extended.predict(paths, top_k=2)
    assert [(r['label'], r['reason'], r['error'], r['abstained']) for r in rows] == [(p.label, p.reason, p.error, None if p.error else p.abstained) for p in want]
    good = [i for i, p in enumerate(want) if not p.error]
    assert len(good) == 88 and {r['label'] for r in rows} >= {'unknown', None}
    logits, embedding = extended.numbers([paths[i] for i in good])
    np.testing.assert_allclose([rows[i]['logits'] for i in good], logits, atol=1e-4)
    np.testing.assert_allclose([rows[i]['embedding'] for i in good], embedding, atol=1e-5)
    np.testing.assert_allclose([[s['score'] for s in rows[i]['species']] for i in good], [[s for _, s in want[i].species] for i in good], atol=1e-5)
    assert [[s['scientificName'] for s in rows[i]['species']] for i in good] == [[n for n, _ in want[i].species] for i in good]
    counts = made['meta']['steps'][0]['counts']
    assert counts['errors'] == dict(truncated=1, empty=1) and counts['photos'] == 90 and counts['modelDigest'] == extended.digest
    assert counts['unknown'] == sum(p.abstained for p in want)


def test_what_is_done_is_not_done_again_and_another_model_or_option_is(model, photos, tmp_path):
    out = tmp_path/'out'
    first = predict_batch(model, photos, out, rows=40)
    times = lambda: {p.name: p.stat().st_mtime_ns for p in out.glob('part-*')}
    before = times()
    assert predict_batch(model, photos, out, rows=40) == first and times() == before
    assert predict_batch(model, photos, out, BatchConfig(top_k=1), rows=40)['digest'] != first['digest'] and not set(before.values()) & set(times().values())
    other = pack_colours(tmp_path/'other', size=48)
    assert predict_batch(other, photos, out, BatchConfig(top_k=1), rows=40)['meta']['steps'][0]['counts']['modelDigest'] == read_manifest(other)['digest']


def test_a_photo_that_changes_costs_its_shard(model, photos, tmp_path):
    import shutil
    copy, out = Path(shutil.copytree(photos, tmp_path/'copy')), tmp_path/'out'
    predict_batch(model, copy, out, rows=20)
    before = {p.name: p.stat().st_mtime_ns for p in out.glob('part-*')}
    write_atomic(copy/'site 1'/'löwe 004.png', photo(4))
    assert 'empty' not in predict_batch(model, copy, out, rows=20)['meta']['steps'][0]['counts']['errors']
    assert sum(p.stat().st_mtime_ns != before[p.name] for p in out.glob('part-*')) == 1


KILLED = '''
import sys
from mlproject.serving.batch import predict_batch
if __name__ == '__main__': predict_batch(sys.argv[1], sys.argv[2], sys.argv[3], rows=4, workers=int(sys.argv[4]))
'''


@pytest.mark.parametrize('workers', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_any_time_and_started_again_it_gives_the_same_bytes(model, photos, tmp_path, workers):
    want, out, killed = tmp_path/'want', tmp_path/'out', 0
    predict_batch(model, photos, want, rows=4)
    script = write_atomic(tmp_path/'run.py', KILLED)
    for shards in (1, 9):  # killed when so many shards are there
        run = subprocess.Popen([sys.executable, script, model, photos, out, str(workers)], env=environment(Path(__file__).parent.parent), start_new_session=True)
        while run.poll() is None and len(list(out.glob('part-*'))) < shards: time.sleep(.002)
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            killed += 1
        run.wait()
        if killed: assert not (out/MANIFEST).exists()
    assert killed
    predict_batch(model, photos, out, rows=4)
    assert bytes_of(out) == bytes_of(want)


def test_threads_and_processes_do_not_change_the_bytes(model, photos, tmp_path, monkeypatch):
    from mlproject.serving import batch
    calls, answer = {1: [], 7: []}, batch.answer_group
    for threads, name in ((1, 'one'), (7, 'seven')):
        monkeypatch.setattr(batch, 'cores', lambda: threads)
        monkeypatch.setattr(batch, 'answer_group', lambda net, group, top_k: calls[threads].append([p if isinstance(p, bytes) else b'' for p in group]) or answer(net, group, top_k))
        predict_batch(model, photos, tmp_path/name, rows=40)
    assert sorted(calls[1]) == sorted(calls[7])  # the same photos share a network call
    assert bytes_of(tmp_path/'one') == bytes_of(tmp_path/'seven')


TABLES = {'csv': lambda rows, path: path.write_text('photo,site\n' + ''.join(f'{p},{s}\n' for p, s in rows)),
          'tsv': lambda rows, path: path.write_text('photo\tsite\n' + ''.join(f'{p}\t{s}\n' for p, s in rows)),
          'jsonl': lambda rows, path: path.write_text(''.join(json.dumps(dict(photo=p, site=s)) + '\n' for p, s in rows)),
          'parquet': lambda rows, path: pq.write_table(pa.table(dict(photo=[p for p, _ in rows], site=[s for _, s in rows])), path)}


@pytest.mark.parametrize('kind', TABLES)
def test_tables_of_every_kind_name_photos(model, photos, tmp_path, kind):
    names = [str(p.relative_to(photos)) for p in sorted(photos.glob('*/*.jpg'))]
    TABLES[kind]([(n, f's{i % 2}') for i, n in enumerate(names)] + [('site 0/none.jpg', 's9'), ('', 's8')], path := photos/f'visits.{kind}')
    try: predict_batch(model, path, tmp_path/'out', BatchConfig(keep=('site',)))
    finally: path.unlink()
    rows = read_shards(tmp_path/'out', ['photo', 'site', 'label', 'reason']).to_pylist()
    assert [r['photo'] for r in rows[:-1]] == [*names, 'site 0/none.jpg'] and rows[-1]['photo'].startswith(str(path))
    assert [r['site'] for r in rows] == [f's{i % 2}' for i in range(len(names))] + ['s9', 's8']
    assert [r['reason'] for r in rows[-2:]] == ['missing', 'missing'] and sum(r['label'] is not None for r in rows) == len(names) - 1


def test_bad_lines_and_wrong_columns(model, photos, tmp_path):
    (tmp_path/'t.jsonl').write_text(json.dumps(dict(image=str(next(photos.glob('*/*.jpg'))))) + '\n{"image": \n[1]\n')
    predict_batch(model, tmp_path/'t.jsonl', tmp_path/'out')
    assert [r['reason'] for r in read_shards(tmp_path/'out').to_pylist()] == [None, 'bad_row', 'bad_row']
    (tmp_path/'t.csv').write_text('a,b\n1,2\n')
    with pytest.raises(Problem, match='no photo column'): predict_batch(model, tmp_path/'t.csv', tmp_path/'x')
    with pytest.raises(Problem, match="no column 'site'"): predict_batch(model, tmp_path/'t.jsonl', tmp_path/'x', BatchConfig(keep=('site',)))
    with pytest.raises(Problem, match='results have one of that name'): predict_batch(model, tmp_path/'t.jsonl', tmp_path/'x', BatchConfig(keep=('label',)))
    (tmp_path/'bare').mkdir()
    with pytest.raises(Problem, match='no photo found'): predict_batch(model, tmp_path/'bare', tmp_path/'x')
    with pytest.raises(Problem, match='top_k=0'): BatchConfig(top_k=0)


class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        body = photo(5) if self.path == '/fox.jpg' else b''
        self.send_response(200 if body else 404)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass


def test_photos_on_the_web_but_not_on_this_network_unless_allowed(model, tmp_path):
    web = ThreadingHTTPServer(('127.0.0.1', 0), Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    base = f'http://127.0.0.1:{web.server_port}'
    (tmp_path/'t.csv').write_text(f'url\n{base}/fox.jpg\n{base}/gone.jpg\n')
    try:
        predict_batch(model, tmp_path/'t.csv', tmp_path/'out')
        assert [r['reason'] for r in read_shards(tmp_path/'out').to_pylist()] == ['unreadable']*2 and 'on this network' in read_shards(tmp_path/'out')['error'][0].as_py()
        predict_batch(model, tmp_path/'t.csv', tmp_path/'out', BatchConfig(private=True))
    finally: web.shutdown(); web.server_close()
    rows = read_shards(tmp_path/'out').to_pylist()
    assert rows[0]['label'] and rows[1]['error'] == 'unreadable: dead_url: HTTP 404'
    assert not [p for p in (tmp_path/'out'/'.downloads').rglob('*') if p.is_file() and p.suffix == '.jpg']


def test_a_bucket_is_listed_and_read_by_s3(model, tmp_path, monkeypatch):
    boto3, moto = pytest.importorskip('boto3'), pytest.importorskip('moto.server')
    server = moto.ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        for k, v in dict(AWS_ACCESS_KEY_ID='x', AWS_SECRET_ACCESS_KEY='x', AWS_ENDPOINT_URL=f'http://127.0.0.1:{port}', AWS_REGION='us-east-1').items(): monkeypatch.setenv(k, v)
        s3 = boto3.client('s3', endpoint_url=f'http://127.0.0.1:{port}', region_name='us-east-1')
        s3.create_bucket(Bucket='traps')
        for i, name in enumerate(['w/b/2.jpg', 'w/a/löwe 1.jpg', 'w/a/notes.txt', 'other/3.jpg']): s3.put_object(Bucket='traps', Key=name, Body=photo(i))
        s3.put_object(Bucket='traps', Key='w/t.csv', Body=b'photo\ns3://traps/w/b/2.jpg\ns3://traps/w/nothing.jpg\n')
        predict_batch(model, 's3://traps/w', tmp_path/'out')
        rows = read_shards(tmp_path/'out').to_pylist()
        assert [r['photo'] for r in rows] == ['s3://traps/w/a/l%C3%B6we%201.jpg', 's3://traps/w/b/2.jpg'] and all(r['label'] for r in rows)
        predict_batch(model, 's3://traps/w/t.csv', tmp_path/'table')
        assert [r['reason'] for r in read_shards(tmp_path/'table').to_pylist()] == [None, 'missing']
    finally: server.stop()


@pytest.mark.slow
def test_ray_gives_the_same_bytes(model, photos, tmp_path):
    pytest.importorskip('ray')
    predict_batch(model, photos, tmp_path/'here', rows=20)
    code = f"from mlproject.serving.batch import predict_batch; predict_batch({str(model)!r}, {str(photos)!r}, {str(tmp_path/'ray')!r}, rows=20, workers=2, ray=True)"
    subprocess.run([sys.executable, '-c', code], env=environment(Path(__file__).parent.parent), check=True, timeout=400)
    assert bytes_of(tmp_path/'ray') == bytes_of(tmp_path/'here')


settings.register_profile('batch', deadline=None, derandomize=True, max_examples=60)
settings.load_profile('batch')


@given(st.lists(st.text('ab01', min_size=1, max_size=6), unique=True, max_size=120), st.integers(1, 20))
def test_runs_hold_every_entry_once_and_are_bounded(names, most):
    runs = list(_cuts([Entry(n) for n in names], most))
    assert [e.photo for r in runs for e in r] == names and all(len(r) <= most for r in runs) and all(len(r) >= most*3//4 for r in runs[:-1])


def test_the_command(model, photos, tmp_path):
    run = lambda *words: subprocess.run([sys.executable, '-m', 'mlproject.cli', 'predict', *map(str, words)], capture_output=True, text=True, env=environment(Path(__file__).parent.parent), cwd=tmp_path)
    done = run(photos, '--model', model, '--batch', 'out', '--top-k', '2')
    assert done.returncode == 0 and '90 photos' in done.stdout and '1 truncated' in done.stdout, done.stderr
    assert read_manifest(tmp_path/'out')['rows'] == 90
    wrong = run('nowhere', '--model', model, '--batch', 'out2')
    assert wrong.returncode == 2 and 'nowhere does not exist' in wrong.stderr and 'Traceback' not in wrong.stderr
