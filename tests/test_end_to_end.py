"""The whole pipeline at tiny size: what a run makes, says, skips, and refuses."""
import csv, json, re, shutil, subprocess, sys

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, TINY, environment, run_here, set_aside
from mlproject.builds import load
from mlproject.core import read_manifest, verify_folder
from mlproject.data.records import load_step
from mlproject.data.survey import make_survey
from mlproject.export.extended import ExtendedModel

def cli(*words, cwd=ROOT):
    return subprocess.run([sys.executable, '-m', 'mlproject.cli', *map(str, words)], cwd=cwd, env=environment(ROOT), capture_output=True, text=True)

def outdated(out, **changed):
    "Names of the tasks that a build with these parameters would run."
    from ploomber.constants import TaskStatus
    with set_aside():
        dag = load(ROOT/'pipeline.yaml', **{k: json.loads(v) if v[0] in '0123456789' else v for k, v in TINY.items()} | dict(out=str(out)) | changed)
        dag.render(show_progress=False)
    return {name for name, task in dag.items() if task.exec_status != TaskStatus.Skipped}

def test_a_run_ends_by_saying_how_good_the_model_is_and_where_everything_lies(built):
    out, told = built
    assert re.search(r'top-1 +\d+\.\d % \(\d+\.\d to \d+\.\d\) over 6 species', told)
    assert f'{out}/reports/evaluation.html' in told and f'{out}/reports/data.html' in told
    assert [w for w in ('mlproject predict', 'make run DATA=', 'make lab') if w not in told] == []

def test_every_product_is_complete_and_as_written(built):
    out, _ = built
    for name in ('records', 'curated', 'splits'): load_step(out/name)
    for name in ('network', 'calibration', 'evaluation', 'extended', 'registered'): verify_folder(out/name)

def test_the_reports_have_pictures_and_load_nothing_from_elsewhere(built):
    out, _ = built
    for name in ('data', 'evaluation'):
        page = (out/'reports'/f'{name}.html').read_text()
        assert len(re.findall('data:image/(?:png|jpeg);base64', page)) >= 4
        assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?:', page)

def test_a_second_build_with_nothing_changed_runs_nothing(built):
    out, _ = built
    assert outdated(out) == set()

def test_a_data_card_that_is_gone_is_made_again_and_nothing_else(built):
    out, _ = built
    card, aside = out/'reports'/'datacard.md', {p: p.read_bytes() for p in (out/'reports').iterdir() if p.is_file()}
    card.unlink()
    try: assert outdated(out) == {'data_card'}
    finally:
        for path, data in aside.items(): path.write_bytes(data)
    assert outdated(out) == set()

@pytest.mark.parametrize('changed, first, untouched', [
    (dict(target_accuracy=.9), 'calibrate', {'ingest', 'curate', 'split', 'train', 'data_card', 'data_report'}),
    (dict(bootstrap=50), 'evaluate', {'ingest', 'curate', 'split', 'train', 'calibrate'}),
    (dict(variants='int8'), 'export', {'ingest', 'curate', 'split', 'train', 'calibrate', 'evaluate', 'evaluation_report'}),
    (dict(near_threshold=7), 'curate', {'ingest'}),
    (dict(epochs=3), 'train', {'ingest', 'curate', 'split', 'data_card', 'data_report'})])
def test_a_changed_parameter_runs_its_task_and_what_comes_after(built, changed, first, untouched):
    would_run = outdated(built[0], **changed)
    assert first in would_run and not would_run & untouched and 'register' in would_run

def test_photos_answer_through_the_model_as_they_were_evaluated(built):
    "The train/serve skew test: from the file on disk to the same top-1 and the same probabilities."
    out, _ = built
    model, curated = ExtendedModel.load(out/'extended'), load_step(out/'curated')
    where = dict(zip(curated.records['occurrenceID'].to_pylist(), curated.records['associatedMedia'].to_pylist()))
    rows = pq.read_table(out/'evaluation'/'predictions.parquet').to_pylist()
    for row, answer in zip(rows, model.predict([curated.photo_root/where[r['occurrenceID']] for r in rows])):
        assert answer.species[0][0] == row['predicted'] and abs(answer.confidence - row['confidence']) <= 1e-4

def test_no_group_straddles_two_splits(built):
    splits = load_step(built[0]/'splits').records.to_pandas()
    assert (splits.groupby('group')['split'].nunique() == 1).all() and splits['group'].nunique() < len(splits)

def test_rejected_records_stand_in_the_ledger_with_their_reason(built):
    out, _ = built
    raw, curated = load_step(out/'records'), load_step(out/'curated')
    assert raw.records.num_rows == curated.records.num_rows + curated.rejects.num_rows + curated.meta['merged']
    assert curated.meta['merged'] > 0  # notes that came alone found their photos
    truth = pq.read_table(out/'survey'/'truth.parquet').to_pandas()
    gone = dict(zip(curated.rejects['occurrenceID'].to_pylist(), curated.rejects['rule'].to_pylist()))
    for fault in ('truncated', 'black'):
        assert {gone.get(i) for i in truth[truth.fault == fault]['occurrenceID']} <= {fault}

def test_the_registered_version_knows_where_it_comes_from(built):
    from mlproject.export.registry import list_versions
    out, _ = built
    version = list_versions('mlproject', f'sqlite:///{out.parent}/mlflow.db')[-1]
    assert version.digest == read_manifest(out/'extended')['digest'] and 'candidate' in version.aliases
    tags = ' '.join(version.tags)
    assert [w for w in ('curate', 'code.train', 'git_commit', 'parameters.lr', 'report.digest', 'metrics.top1') if w not in tags] == []
    assert version.tags['curate'] == read_manifest(out/'curated')['digest']

def test_predict_answers_photos_and_folders_as_a_table_and_as_json(built):
    out, _ = built
    golden = out/'extended'/'golden.jpg'
    table = cli('predict', '--model', out/'extended', golden)
    assert table.returncode == 0 and 'golden.jpg' in table.stdout and '%' in table.stdout
    found = cli('predict', '--model', out/'extended', '--json', '-k', 2, golden, out/'extended'/'extended.json')
    good, bad = map(json.loads, found.stdout.splitlines())
    assert found.returncode == 1 and len(good['species']) == 2 and bad['reason'] == 'not_an_image'

def test_what_is_typed_wrong_is_one_line(tmp_path):
    for words, said in [(('run', '--data', tmp_path/'nothing', '--out', tmp_path/'o'), 'nothing does not exist'),
                        (('run', '--epochs', 'many', '--out', tmp_path/'o'), 'parameter epochs must be'),
                        (('predict', '--model', tmp_path, 'x.jpg'), 'not an extended model')]:
        done = cli(*words)
        lines = [l for l in done.stderr.splitlines() if l.startswith('mlproject:')]
        assert done.returncode == 2 and len(lines) == 1 and said in lines[0] and 'Traceback' not in done.stderr, done.stderr

def test_own_photos_with_the_habits_of_real_folders(tmp_path):
    "Odd names, an empty class, a class of one photo, broken and foreign files: used or in the ledger, never in the way."
    survey, photos = make_survey(tmp_path/'survey', species=4, photos=20, seed=3), tmp_path/'my photos'
    odd, names = iter(['Rød ræv', "d'Orbigny's cat (2)", '大熊猫', 'plain']), {}
    with open(survey/'occurrences.csv', newline='') as f:
        for r in csv.DictReader(f):
            if r['scientificName'] not in names: names[r['scientificName']] = next(odd)
            species = names[r['scientificName']]
            (photos/species).mkdir(parents=True, exist_ok=True)
            shutil.copy(survey/r['associatedMedia'], photos/species/f"{r['occurrenceID']} ü{r['associatedMedia'][-4:]}")
    (photos/'empty').mkdir(); (photos/'single').mkdir()
    shutil.copy(next((photos/'plain').iterdir()), photos/'single'/'only one.jpg')
    (photos/'plain'/'notes.txt').write_text('not a photo')
    (photos/'plain'/'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 this is no photo')
    out = tmp_path/'build'
    run_here(out, data=str(photos), epochs='1')
    labels = set(ExtendedModel.load(out/'extended').labels)
    assert set(names.values()) <= labels
    rules = {r for step in ('records', 'curated') for r in load_step(out/step).rejects['rule'].to_pylist()}
    assert {'not_a_photo'} <= rules and len(rules & {'truncated', 'not_an_image', 'conflicting_labels'}) >= 2
