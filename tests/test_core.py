"""Products survive SIGKILL, a full disk and a second writer."""
import errno, multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path

import pyarrow as pa
import pytest

from mlproject import core
from mlproject.core import (Problem, fingerprint, progress, read_manifest, read_shards, verify_folder, walk, write_atomic,
                            write_folder, write_shards)

ROWS = pa.table({'id': list(range(3000)), 'name': [f'photo {i}' for i in range(3000)]})
REWRITE = """
import sys, pyarrow as pa
from mlproject.core import write_shards
folder, n = sys.argv[1], 0
while True:
    n += 1
    write_shards(folder, pa.table({'run': [n] * 3000}), kind='rows', rows_per_shard=300)
    print(n, flush=True)
"""
FOLDER = """
import sys
from mlproject.core import write_folder
n = 0
while True:
    n += 1
    with write_folder(sys.argv[1], kind='network') as out:
        for i in range(n % 5 + 1): (out / f'{i}.bin').write_bytes(bytes([n % 256]) * 20_000)
    print(n, flush=True)
"""


def killed(code: str, folder: Path, delay: float) -> None:
    "Run `code` on `folder`, kill it `delay` seconds after its first finished product."
    process = subprocess.Popen([sys.executable, '-c', code, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize('delay', [0, .003, .007, .011, .02])
def test_a_killed_shard_writer_leaves_a_whole_set_or_an_incomplete_one(tmp_path, delay):
    killed(REWRITE, tmp_path / 'set', delay)
    if (tmp_path / 'set' / 'manifest.json').exists(): assert len(set(read_shards(tmp_path / 'set')['run'].to_pylist())) == 1
    else:
        with pytest.raises(Problem, match='not complete'): read_shards(tmp_path / 'set')


def test_after_a_kill_the_same_product_comes_out_as_undisturbed(tmp_path):
    killed(REWRITE, tmp_path / 'set', .004)
    (tmp_path / 'set' / f'.part-00000.parquet.1-aa{core.TEMPORARY}').write_bytes(b'half')
    write_shards(tmp_path / 'set', ROWS, kind='rows', rows_per_shard=2000)
    write_shards(tmp_path / 'clean', ROWS, kind='rows', rows_per_shard=2000)
    content = lambda folder: {p.name: p.read_bytes() for p in folder.iterdir()}
    assert content(tmp_path / 'set') == content(tmp_path / 'clean')


@pytest.mark.parametrize('delay', [0, .002, .005])
def test_a_killed_folder_is_made_again_without_leftovers(tmp_path, delay):
    killed(FOLDER, tmp_path / 'network', delay)
    if (tmp_path / 'network' / 'manifest.json').exists(): verify_folder(tmp_path / 'network')
    with write_folder(tmp_path / 'network', kind='network') as out: (out / 'only.bin').write_bytes(b'1')
    assert [f['name'] for f in verify_folder(tmp_path / 'network')['files']] == ['only.bin']
    assert sorted(p.name for p in (tmp_path / 'network').iterdir() if p.name[0] != '.') == ['manifest.json', 'only.bin']


def test_a_shard_changed_truncated_or_deleted_later_is_noticed(tmp_path):
    part = tmp_path / 'part-00001.parquet'
    for harm in (lambda d: part.write_bytes(d[:-10]), lambda d: part.write_bytes(d[:100] + b'x' + d[101:]), lambda d: part.unlink()):
        write_shards(tmp_path, ROWS, kind='rows', rows_per_shard=1000)
        harm(part.read_bytes())
        with pytest.raises(Problem, match='part-00001.parquet'): read_shards(tmp_path)


def test_a_truncated_manifest_is_a_problem_in_one_line(tmp_path):
    write_shards(tmp_path, ROWS, kind='rows')
    (tmp_path / 'manifest.json').write_text('{"kind": ')
    with pytest.raises(Problem, match='manifest.json') as caught: read_manifest(tmp_path)
    assert '\n' not in str(caught.value)


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    write_atomic(tmp_path / 'a.txt', 'old')
    def full(fd): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(Problem, match='No space left'): write_atomic(tmp_path / 'a.txt', 'new')
    assert (tmp_path / 'a.txt').read_text() == 'old' and os.listdir(tmp_path) == ['a.txt']


def test_a_failing_source_of_rows_leaves_no_manifest(tmp_path):
    write_shards(tmp_path, ROWS, kind='rows')
    def rows():
        yield ROWS
        raise RuntimeError('the camera went off')
    with pytest.raises(RuntimeError): write_shards(tmp_path, rows(), kind='rows', rows_per_shard=1000)
    with pytest.raises(Problem, match='not complete'): read_shards(tmp_path)


def write_often(path: str, text: str) -> None:
    for _ in range(100): write_atomic(path, text * 50_000)


def test_two_processes_writing_one_file_do_not_mix(tmp_path):
    context = multiprocessing.get_context('spawn')
    both = [context.Process(target=write_often, args=(str(tmp_path / 'a.txt'), c)) for c in 'ab']
    for p in both: p.start()
    for p in both: p.join()
    assert [p.exitcode for p in both] == [0, 0]
    assert (tmp_path / 'a.txt').read_text() in ('a' * 50_000, 'b' * 50_000) and os.listdir(tmp_path) == ['a.txt']


def test_a_second_writer_of_a_product_is_refused_and_the_first_one_s_death_frees_it(tmp_path):
    code = 'import sys, time; from mlproject.core import locked\nwith locked(sys.argv[1]): print(1, flush=True); time.sleep(60)'
    first = subprocess.Popen([sys.executable, '-c', code, str(tmp_path)], stdout=subprocess.PIPE)
    first.stdout.readline()
    with pytest.raises(Problem, match='another process'): write_shards(tmp_path, ROWS, kind='rows')
    first.kill()
    first.wait()
    first.stdout.close()
    assert write_shards(tmp_path, ROWS, kind='rows')['rows'] == 3000


def test_metadata_of_other_tools_beside_the_product_survives(tmp_path):
    (tmp_path / '.manifest.json.metadata').write_text('{}')
    write_shards(tmp_path, ROWS, kind='rows')
    with write_folder(tmp_path, kind='network') as out: (out / 'a.bin').write_bytes(b'1')
    assert (tmp_path / '.manifest.json.metadata').exists()


def test_an_empty_table_keeps_its_columns(tmp_path):
    write_shards(tmp_path, ROWS.slice(0, 0), kind='rows')
    assert read_shards(tmp_path).schema.names == ['id', 'name'] and read_manifest(tmp_path)['rows'] == 0


def test_the_fingerprint_sees_new_changed_and_renamed_photos(tmp_path):
    (tmp_path / 'lynx').mkdir()
    seen = {fingerprint(tmp_path)}
    for change in (lambda: (tmp_path / 'lynx' / 'a.jpg').write_bytes(b'1'), lambda: (tmp_path / 'lynx' / 'a.jpg').write_bytes(b'12'),
                   lambda: os.utime(tmp_path / 'lynx' / 'a.jpg', (1, 1)), lambda: (tmp_path / 'lynx').rename(tmp_path / 'otter')):
        change()
        seen.add(fingerprint(tmp_path))
    assert len(seen) == 5 and fingerprint(tmp_path) in seen


def test_links_lead_outside_once_and_loops_end(tmp_path):
    (tmp_path / 'archive' / 'lynx').mkdir(parents=True)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'archive' / 'lynx' / 'a.jpg').write_bytes(b'1')
    (tmp_path / 'photos' / 'lynx').symlink_to(tmp_path / 'archive' / 'lynx')
    (tmp_path / 'archive' / 'lynx' / 'back').symlink_to(tmp_path / 'photos')
    (tmp_path / 'photos' / 'up').symlink_to(tmp_path)
    (tmp_path / 'photos' / 'nowhere.jpg').symlink_to(tmp_path / 'gone')
    assert sorted(n for n, _ in walk(tmp_path / 'photos')) == ['lynx/a.jpg', 'nowhere.jpg']
    assert len(fingerprint(tmp_path / 'photos')) == 32


def test_core_and_settings_import_nothing_heavy():
    code = 'import sys, mlproject.core, mlproject.settings; print([m for m in ("torch", "pyarrow", "numpy", "pandas") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == '[]'


def test_progress_is_silent_without_a_terminal(capfd):
    assert list(progress(range(3))) == [0, 1, 2]
    assert capfd.readouterr().err == ''


def test_the_settings_file_of_the_repository_holds_the_defaults():
    from mlproject.settings import Settings, load_settings, project_root
    root = project_root(Path(__file__).parent)
    found = load_settings(root, environ={})
    assert found == Settings(tracking_uri=f'sqlite:///{root}/mlruns/mlflow.db', cache_dir=str(Path('~/.cache/mlproject').expanduser()))
