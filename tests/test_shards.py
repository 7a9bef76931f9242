"The engine: every record accounted for, the same bytes whoever made them, and a killed run that goes on."
import os, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path

import brake
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from toy_steps import SieveConfig

from mlproject.core import MANIFEST, Problem, digest_file, read_manifest, read_shards, walk, write_shards
from mlproject.data.records import records_table
from mlproject.data.shards import NOTES, Link, Stage, costs, function_of, note_of, run_stage, steps_of, through

HERE = Path(__file__).parent

def table(n, start=0): return records_table(dict(occurrenceID=f'r{i:04d}', occurrenceRemarks=f'note {i} ' + 'x' * (i % 7)) for i in range(start, start + n))

def sieve(**words): return Link('sieve' + words.get('salt', ''), 'toy_steps.sieve', SieveConfig(**words))

CHAIN = (sieve(salt='a'), Link('shout', 'toy_steps.shout'), sieve(salt='b', reject=.1, merge=.1))

@pytest.fixture
def stage(tmp_path):
    write_shards(tmp_path/'raw', table(200), kind='records', rows_per_shard=30)
    return Stage(tmp_path/'raw', tmp_path/'made', CHAIN)

def files(folder): return {n: digest_file(e.path) for n, e in walk(folder)}

configs = st.builds(SieveConfig, reject=st.floats(0, 1), merge=st.floats(0, .5), salt=st.sampled_from('abc'))

@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.lists(configs, max_size=4), st.integers(1, 70))
def test_whatever_the_steps_do_every_record_is_accounted_for_and_shards_say_what_the_whole_says(n, steps, cut):
    chain = [Link(f's{i}', 'toy_steps.sieve', c) for i, c in enumerate(steps)]
    whole, _, told = through(chain, table(n))
    assert n == whole.records.num_rows + whole.rejects.num_rows + whole.merged
    parts = [through(chain, table(n).slice(i, cut)) for i in range(0, max(n, 1), cut)]
    assert pa.concat_tables([p[0].records for p in parts]).equals(whole.records)
    ids = lambda t: sorted(t['occurrenceID'].to_pylist())
    assert ids(pa.concat_tables([p[0].rejects for p in parts])) == ids(whole.rejects)
    summed = steps_of(dict(steps=p[2]) for p in parts)
    assert summed == [{k: v for k, v in t.items() if k != 'cpu'} for t in told]

def test_a_step_that_loses_records_without_a_word_is_found(stage):
    with pytest.raises(AssertionError, match='sieve: 30 rows in') as e: run_stage(replace(stage, chain=(sieve(leak=1),)), workers=1)
    assert "in step 'sieve'" in e.value.__notes__[0] if hasattr(e.value, '__notes__') else True

def test_products_are_shard_sets_and_the_account_balances(stage):
    made = run_stage(stage, workers=1)
    kept, gone, lengths = (read_shards(stage.out/f) for f in ('', 'rejects', 'lengths'))
    merged = sum(s['merged'] for s in made['meta']['steps'])
    assert 200 == kept.num_rows + gone.num_rows + merged and merged > 0
    assert made['meta']['steps'][0]['counts'] == dict(seen=200) and lengths.num_rows == made['meta']['steps'][1]['rows']
    assert [c['step'] for c in costs(stage)] == ['read', 'sievea', 'shout', 'sieveb', 'write']

def test_one_and_two_processes_write_the_same_bytes(stage):
    one = run_stage(stage, workers=1)
    two = run_stage(replace(stage, out=stage.out.parent/'two'), workers=2)
    assert one == two and files(stage.out) == files(stage.out.parent/'two')

def test_a_finished_stage_does_nothing(stage):
    run_stage(stage, workers=1)
    before = {n: e.stat().st_mtime_ns for n, e in walk(stage.out, hidden=True) if MANIFEST not in n}
    run_stage(stage, workers=1)
    assert {n: e.stat().st_mtime_ns for n, e in walk(stage.out, hidden=True) if MANIFEST not in n} == before

def made_again(stage):
    before = {n: e.stat().st_mtime_ns for n, e in walk(stage.out/NOTES)}
    run_stage(stage, workers=1)
    return [n for n, e in walk(stage.out/NOTES) if e.stat().st_mtime_ns != before.get(n)]

def test_only_what_is_stale_is_made_again(stage):
    first = run_stage(stage, workers=1)
    (stage.out/'rejects'/'part-00002.parquet').unlink()
    assert made_again(stage) == ['part-00002.parquet.json']
    write_shards(stage.source, pa.concat_tables([table(180), table(20, 500)]), kind='records', rows_per_shard=30)
    assert made_again(stage) == ['part-00006.parquet.json']
    assert len(made_again(replace(stage, chain=(*CHAIN[:2], sieve(salt='b', reject=.3))))) == 7
    write_shards(stage.source, table(200), kind='records', rows_per_shard=30)
    assert run_stage(stage, workers=1) == first

def test_shards_that_the_source_lost_leave_too(stage):
    run_stage(stage, workers=1)
    write_shards(stage.source, table(60), kind='records', rows_per_shard=30)
    assert len(run_stage(stage, workers=1)['shards']) == 2
    assert {p.name for p in stage.out.rglob('part*.parquet')} == {'part-00000.parquet', 'part-00001.parquet'}

def test_an_edited_step_is_run_again(stage, tmp_path, monkeypatch):
    (tmp_path/'edited.py').write_text('from mlproject.data.records import Outcome\ndef step(records): return Outcome(records)\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = replace(stage, chain=(Link('mine', 'edited.step'),))
    before = mine.marks(mine.parts()[0])
    (tmp_path/'edited.py').write_text('from mlproject.data.records import Outcome\ndef step(records): return Outcome(records) # faster\n')
    after = replace(mine).marks(mine.parts()[0])
    assert [k for k in before if before[k] != after[k]] == ['code']

def test_a_damaged_shard_is_refused(stage):
    path = stage.source/'part-00003.parquet'
    path.write_bytes(path.read_bytes()[:-1] + b'x')
    with pytest.raises(Problem, match='part-00003.parquet is not the file that was written'): run_stage(stage, workers=2)
    assert not (stage.out/MANIFEST).exists()

def test_side_tables_come_shard_by_shard(stage, tmp_path):
    weights = pa.table(dict(weight=list(range(200))))
    with pytest.raises(Problem): run_stage(replace(stage, chain=(Link('weigh', 'toy_steps.weigh', sides=(('weights', str(tmp_path/'w')),)),)), workers=1)
    write_shards(tmp_path/'w', weights, kind='weights', rows_per_shard=30)
    weighed = replace(stage, chain=(Link('weigh', 'toy_steps.weigh', sides=(('weights', str(tmp_path/'w')),)),))
    assert run_stage(weighed, workers=1)['meta']['steps'][0]['counts'] == dict(weight=sum(range(200)))
    write_shards(tmp_path/'w', pa.table(dict(weight=[*range(199), 1000])), kind='weights', rows_per_shard=30)
    assert made_again(weighed) == ['part-00006.parquet.json']

def test_sources_are_deleted_on_the_way_and_made_again_when_needed(stage):
    second = Stage(stage.out, stage.out.parent/'second', (sieve(salt='c'),))
    plain = (run_stage(stage, workers=1), run_stage(second, workers=1))
    assert run_stage(second, workers=1, keep_source=False) == plain[1] and not list(stage.out.glob('part*'))
    assert note_of(stage, stage.parts()[0]) is None and note_of(stage, stage.parts()[0], second) is not None
    (second.out/'part-00004.parquet').unlink()
    run_stage(stage, workers=1, after=second)
    assert [p.name for p in stage.out.glob('part*')] == ['part-00004.parquet']
    assert run_stage(second, workers=1, keep_source=False) == plain[1]

@pytest.mark.parametrize('workers', [1, 2])
def test_faults_name_the_step_and_the_shard(stage, workers):
    with pytest.raises(KeyError) as e: run_stage(replace(stage, chain=(sieve(poison='r0070'),)), workers=workers)
    assert any("in step 'sieve' on shard part-00002.parquet" in n for n in e.value.__notes__)
    with pytest.raises(Problem, match='this cannot be done'): run_stage(replace(stage, chain=(Link('no', 'toy_steps.refuses'),)), workers=workers)

def test_a_process_that_dies_is_one_line(stage):
    with pytest.raises(Problem, match='a process was killed'): run_stage(replace(stage, chain=(Link('dies', 'toy_steps.dies'),)), workers=2)

def test_unknown_steps_are_one_line():
    for name in ('toy_steps.nothing', 'nowhere.step', 'step'):
        with pytest.raises(Problem, match='there is no step'): function_of(name)

RUN = '''
import sys
from pathlib import Path
import brake
from toy_steps import SieveConfig
from mlproject.data.shards import Link, Stage, run_stage
brake.put_on()
if __name__ == '__main__':
    out, workers = Path(sys.argv[1]), int(sys.argv[2])
    chain = (Link('sieve', 'toy_steps.sieve', SieveConfig(pause=.05)), Link('shout', 'toy_steps.shout'))
    second = Stage(out/'first', out/'second', (Link('again', 'toy_steps.sieve', SieveConfig(salt='z', pause=.03)),))
    run_stage(Stage(out/'raw', out/'first', chain), workers=workers, after=second)
    print('first', flush=True)
    run_stage(second, workers=workers, keep_source=False)
'''

def start(tmp_path, out, workers=2, more={}):
    (tmp_path/'run.py').write_text(RUN)
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(HERE), str(HERE.parent)])) | more
    return subprocess.Popen([sys.executable, str(tmp_path/'run.py'), str(out), str(workers)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background jobs ignore Ctrl-C

@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_and_ends_with_the_same_bytes(tmp_path):
    import random
    for out in ('whole', 'killed'): write_shards(tmp_path/out/'raw', table(800), kind='records', rows_per_shard=20)
    assert start(tmp_path, tmp_path/'whole').wait() == 0
    rng, kills, done = random.Random(0), 0, lambda: brake.notes(tmp_path/'killed')
    for _ in range(6):  # each one somewhere in the work: a random moment after a random number of shards
        more = rng.randint(1, 8)
        kills += brake.kill_in_the_middle(lambda env: start(tmp_path, tmp_path/'killed', more=env), tmp_path/'killed', done, done() + more, more + 3, rng.uniform(0, .06))
    assert kills == 6 and start(tmp_path, tmp_path/'killed').wait() == 0
    for out in ('first', 'second'): assert files(tmp_path/'whole'/out) == files(tmp_path/'killed'/out)

@pytest.mark.slow
def test_processes_do_not_outlive_a_killed_parent_and_ctrl_c_leaves_no_traceback_of_theirs(tmp_path):
    import psutil
    write_shards(tmp_path/'out'/'raw', table(4000), kind='records', rows_per_shard=10)
    for sign in (signal.SIGKILL, signal.SIGINT):
        brake.standing(tmp_path/'out').unlink(missing_ok=True)
        p = start(tmp_path, tmp_path/'out', more=dict(MLPROJECT_BRAKE=f"{tmp_path/'out'}:{brake.notes(tmp_path/'out') + 20}"))
        while not brake.standing(tmp_path/'out').exists() and p.poll() is None: time.sleep(.02)
        children = psutil.Process(p.pid).children(recursive=True)
        assert len(children) >= 2
        p.send_signal(sign)
        told = p.communicate(timeout=300)[1]
        gone, alive = psutil.wait_procs(children, timeout=300)
        assert not alive
        if sign == signal.SIGINT: assert told.count('Traceback') == 1 and told.strip().endswith('KeyboardInterrupt')

@pytest.mark.slow
def test_ray_writes_the_same_bytes(stage):
    pytest.importorskip('ray')
    one = run_stage(stage, workers=1)
    code = f'''
from pathlib import Path
from dataclasses import replace
from toy_steps import SieveConfig
from test_shards import CHAIN
from mlproject.core import Problem
from mlproject.data.shards import Link, Stage, run_stage
stage = Stage(Path({str(stage.source)!r}), Path({str(stage.out.parent/'ray')!r}), CHAIN)
run_stage(stage, workers=2, ray=True)
try: run_stage(replace(stage, out=stage.out.parent/'bad', chain=(Link('sieve', 'toy_steps.sieve', SieveConfig(poison='r0070')),)), workers=2, ray=True)
except Problem as e: print(e)
'''
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(HERE), str(HERE.parent)]))
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "KeyError: 'poisoned' in step 'sieve' on shard part-00002" in done.stdout
    assert read_manifest(stage.out.parent/'ray') == one and files(stage.out) == files(stage.out.parent/'ray')
