"""Heavier checks, run by `make test-all`: kills, real photos, the wheel alone, edits, README commands, tutorials."""
import json, os, re, signal, subprocess, sys, time, venv
from pathlib import Path

import pytest
from conftest import ROOT, SHARED, TINY, copy_repository, environment
from mlproject.core import read_json, read_manifest
from mlproject.data.passes import KEY
from mlproject.export.extended import ExtendedModel
from mlproject.pages import commands, run_command

pytestmark = pytest.mark.slow
real_photos = pytest.mark.skipif(not (SHARED/'photos').is_dir(), reason='the real photos are not here (MLPROJECT_SHARED_DATA)')
PRODUCTS = ('records', 'curated', 'splits', 'network', 'calibration', 'evaluation', 'extended')

@pytest.fixture(scope='module')
def copy(tmp_path_factory): return copy_repository(tmp_path_factory.mktemp('copy'))

def keyed(copy) -> dict:
    "Pseudonyms are keyed, and each folder makes a key of its own: builds are compared under one key."
    return environment(copy) | {KEY: 'the key of all builds of these tests'}

def words(**chosen): return [w for k, v in (TINY | chosen).items() for w in (f"--{k.replace('_', '-')}", str(v))]

def run(copy, *more, **chosen):
    return subprocess.run([sys.executable, '-m', 'mlproject.cli', 'run', *words(**chosen), *more], cwd=copy, env=keyed(copy),
                          capture_output=True, text=True)

def ran(done): return re.findall(r'^\[\d+/\d+\] (\w+)', done.stderr, flags=re.M)

@pytest.fixture(scope='module')
def undisturbed(copy):
    done = run(copy, out='build/calm')
    assert done.returncode == 0, done.stderr
    return {name: read_manifest(copy/'build'/'calm'/name)['digest'] for name in PRODUCTS}

def test_a_build_killed_again_and_again_ends_with_the_same_products(copy, undisturbed):
    killed = 0
    for seconds in (7, 9, 11, 14, 18, 23):
        child = subprocess.Popen([sys.executable, '-m', 'mlproject.cli', 'run', *words(out='build/storm')], cwd=copy, env=keyed(copy),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(seconds)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            killed += 1
        child.wait()
    assert killed >= 3 and run(copy, out='build/storm').returncode == 0
    assert {name: read_manifest(copy/'build'/'storm'/name)['digest'] for name in PRODUCTS} == undisturbed

def test_the_parallel_executor_makes_the_same_products(copy, undisturbed):
    done = run(copy, out='build/parallel', executor='parallel')
    assert done.returncode == 0, done.stderr
    assert {name: read_manifest(copy/'build'/'parallel'/name)['digest'] for name in PRODUCTS} == undisturbed

@pytest.mark.parametrize('notebook, old, new, expected', [
    ('evaluation/400_calibration.ipynb', 'least: float = .1', 'least: float = .2', {'calibrate', 'evaluate', 'evaluation_report', 'export', 'register'}),
    ('export/530_registry.ipynb', '.-]{0,100}', '.-]{0,90}', {'export', 'register'}),
    ('data/290_splits.ipynb', 'min_groups_per_species: int = 1', 'min_groups_per_species: int = 0', {'split', 'data_card', 'data_report', 'train', 'calibrate', 'evaluate', 'evaluation_report', 'export', 'register'})])
def test_editing_a_notebook_runs_exactly_the_tasks_that_reach_it(copy, undisturbed, notebook, old, new, expected):
    path, package = copy/'nbs'/notebook, keyed(copy)
    before = path.read_text()
    assert old in before
    try:
        path.write_text(before.replace(old, new))
        refused = run(copy, out='build/calm')
        assert refused.returncode == 2 and 'nbdev-export' in refused.stderr
        subprocess.run(['nbdev-export'], cwd=copy, env=package, check=True)
        done = run(copy, out='build/calm')
        assert done.returncode == 0 and set(ran(done)) == expected, done.stderr
    finally:
        path.write_text(before)
        subprocess.run(['nbdev-export'], cwd=copy, env=package, check=True)
        assert run(copy, out='build/calm').returncode == 0

def test_a_report_runs_by_itself_and_refuses_a_mistyped_parameter(copy, undisturbed, tmp_path):
    def papermill(*parameters):
        return subprocess.run([sys.executable, '-m', 'papermill', 'nbs/reports/data.ipynb', tmp_path/'report.ipynb', '--no-progress-bar', *parameters],
                              cwd=copy, env=keyed(copy), capture_output=True, text=True)
    assert papermill('-p', 'out', 'build/calm').returncode == 0
    wrong = papermill('-p', 'uot', 'build/calm')
    assert wrong.returncode and 'uot' in wrong.stderr

def test_the_wheel_alone_predicts_in_a_fresh_environment_without_torch(copy, undisturbed, tmp_path):
    wheel = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', tmp_path, '.'], cwd=copy, capture_output=True, text=True)
    assert wheel.returncode == 0, wheel.stderr
    venv.create(tmp_path/'env', with_pip=True)
    python = tmp_path/'env'/'bin'/'python'
    pins = tmp_path/'pins.txt'
    pins.write_text((ROOT/'requirements.lock').read_text())
    subprocess.run([python, '-m', 'pip', 'install', '-q', '-c', pins, next(tmp_path.glob('*.whl'))], check=True)
    assert subprocess.run([python, '-c', 'import torch'], capture_output=True).returncode
    model = copy/'build'/'calm'/'extended'
    done = subprocess.run([tmp_path/'env'/'bin'/'mlproject', 'predict', '--json', '-m', model, model/'golden.jpg'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here = ExtendedModel.load(model).predict([model/'golden.jpg'])[0]
    assert json.loads(done.stdout)['label'] == here.label

@real_photos
def test_real_photos_with_given_weights_are_fine_tuned(copy):
    "Two splits as the source laid them out, its duplicates across them removed, the backbone found from the file."
    done = subprocess.run([sys.executable, '-m', 'mlproject.cli', 'run', '--data', SHARED/'photos'/'monkeys10', '--weights',
                           SHARED/'weights'/'mobilenet_v2_imagenet.safetensors', '--epochs', '1', '--image-size', '96', '--out', 'build/monkeys'],
                          cwd=copy, env=keyed(copy), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config, made = read_json(copy/'build/monkeys/network/config.json'), read_json(copy/'build/monkeys/evaluation/evaluation.json')
    assert config['backbone'] == 'mobilenet_v2' and made['photos'] > 200 and made['top1']['value'] > .6
    assert read_manifest(copy/'build/monkeys/curated')['meta']['rules']['duplicate'] >= 60

@pytest.mark.parametrize('command', commands(ROOT/'README.md'), ids=lambda c: c.text.splitlines()[0][:40])
def test_every_command_of_the_readme_works(copy, command, tmp_path_factory):
    "At tiny size: the parameters' file is replaced by one with small numbers, and the environment is the one that is there."
    if not (copy/'.venv').exists():
        (copy/'.venv').mkdir()
        (copy/'.venv'/'bin').symlink_to(Path(sys.executable).parent)
        (copy/'.venv'/'.installed').touch()  # newer than the lock files: nothing is installed
        (copy/'env.tiny.yaml').write_text(tiny_env((copy/'env.yaml').read_text()))
        photos = copy/'path'/'to'/'photos'
        from mlproject.data.survey import make_survey
        photos.parent.mkdir(parents=True)
        import csv, shutil
        survey = make_survey(copy/'survey', species=4, photos=16)
        for r in csv.DictReader(open(survey/'occurrences.csv', newline='')):
            (photos/r['scientificName']).mkdir(parents=True, exist_ok=True)
            shutil.copy(survey/r['associatedMedia'], photos/r['scientificName']/f"{r['occurrenceID']}.jpg")
    if 'WEIGHTS=' in command.text and not SHARED.is_dir(): pytest.skip('the real weights are not here')
    if SHARED.is_dir() and not (copy/'path/to/mobilenet_v2.safetensors').exists():
        (copy/'path/to/mobilenet_v2.safetensors').symlink_to(SHARED/'weights'/'mobilenet_v2_imagenet.safetensors')
    if command.text == 'make test': pytest.skip('`make test` is what runs this')
    if 'skip' in command.notes: pytest.skip(command.notes['skip'])
    run_command(command, copy, keyed(copy) | dict(PLOOMBER_ENV_FILENAME='env.tiny.yaml'), timeout=400)

def tiny_env(text: str) -> str:
    for k, v in dict(TINY, backbone='auto').items(): text = re.sub(rf'^{k}:\s*\S+', f'{k}: {v}', text, flags=re.M)
    return text

@pytest.mark.parametrize('notebook', sorted((ROOT/'nbs'/'tutorials').glob('*.ipynb')), ids=lambda p: p.stem)
def test_every_tutorial_runs(copy, notebook):
    done = subprocess.run(['nbdev-test', '--n-workers', '0', f'nbs/tutorials/{notebook.name}'], cwd=copy, env=keyed(copy), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
