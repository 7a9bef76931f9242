"""Builds of a miniature project: what runs again after which change, what is refused, what a killed build leaves behind."""
import importlib, json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest

pytest.importorskip('ploomber', reason='needs the extra `train`')
from mlproject.builds import load, ran, record_of
from mlproject.core import Problem
from ploomber.constants import TaskStatus
from ploomber.exceptions import DAGBuildError, DAGSpecInitializationError
sys.path.insert(0, str(Path(__file__).parent))
from miniature import edit, export, make_project

ALL = ['collect', 'curate', 'summary', 'train']
COMMAND = str(Path(sys.executable).parent/'ploomber')
QUIET = dict(os.environ, PLOOMBER_STATS_ENABLED='false')

def forget_modules():
    "The package of another test, or of before an edit, must not stay imported."
    for name in [m for m in sys.modules if m.split('.')[0] == 'sprout']: del sys.modules[name]
    importlib.invalidate_caches()

@pytest.fixture
def root(tmp_path, monkeypatch):
    root = make_project(tmp_path/'sprout_project')
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root)
    monkeypatch.setattr(sys, 'argv', ['ploomber', 'build'])
    yield root
    forget_modules()

def build(**env):
    forget_modules()
    return ran(load(**env).build(show_progress=False))

def outdated(**env):
    forget_modules()
    dag = load(**env)
    dag.render(show_progress=False)
    return sorted(t.name for t in dag.values() if t.exec_status != TaskStatus.Skipped)

def contents(root):
    "Every visible file of the products but the report, whose pages hold the times of its cells."
    files = [p for d in ('raw', 'curated', 'network') for p in (root/'build/main'/d).rglob('*') if not p.name.startswith('.')]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files if p.is_file()}

def ploomber(*args, **kw):
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, env=QUIET, timeout=120, **kw)

@pytest.fixture
def built(root):
    assert build() == ALL
    return root

def test_edits_and_parameters_run_what_reaches_them_and_no_more(built):
    assert build() == []
    train = ['summary', 'train']
    edits = {  # (notebook, old, new): tasks
        ('20_scale', 'x * by', 'x * by + 1'): train,
        ('10_clean', 'r > 0', 'r > 1'): ['curate'] + train,
        ('90_tasks', "['curate'])", "['curate'])[:]"): train,
        ('90_tasks', 'def _read(folder): return', 'def _read(folder): return 0 or'): ['curate'] + train,
        ('reports/summary', 'title, json', 'title.upper(), json'): ['summary'],
        ('reports/summary', '# Summary', '# A summary'): ['summary'],  # its text is part of the page
        ('10_clean', '> Take out what is empty', '> Keep what is there'): [],
        ('10_clean', 'clean([1, 0])', 'clean([1, 0, 2])'): [],  # a lesson, not exported
        ('10_clean', 'def clean(rows): return', 'def clean(rows):\n    "Drop empty rows."\n    # zero is empty\n    return'): [],
        ('90_tasks', '"Fit."', '"Fit the model."'): []}
    for (name, old, new), want in edits.items():
        edit(built, name, old, new)
        assert outdated() == want, (name, new)
        edit(built, name, new, old)
    assert outdated() == []
    assert outdated(lr=0.25) == train and outdated(title='x') == ['summary'] and outdated(rows=6) == ALL
    edit(built, '20_scale', 'x * by', 'x * by + 1')
    before = contents(built)
    assert build() == train
    changed = {k for k, v in contents(built).items() if before[k] != v}
    assert changed == {'build/main/network/rows.json', 'build/main/network/manifest.json'}
    assert build() == []

def test_mistyped_parameters_are_refused(root, monkeypatch):
    for env, text in ((dict(epochs='abc'), 'epochs must be int'), (dict(epochs=0), 'from 1 to 100'), (dict(lr='high'), 'lr must be float'),
                      (dict(rows=2.5), 'rows must be int'), (dict(executor='fast'), 'serial, parallel')):
        with pytest.raises(DAGSpecInitializationError, match=text): load(**env)
    with pytest.raises(Problem, match="did you mean 'epochs'"): load(epoch=3)
    monkeypatch.setattr(sys, 'argv', ['ploomber', 'build', '--env--epo=3'])
    with pytest.raises(DAGSpecInitializationError, match="unknown parameter 'epo': did you mean 'epochs'"): load()
    monkeypatch.setattr(sys, 'argv', ['ploomber', 'build'])
    (root/'env.yaml').write_text((root/'env.yaml').read_text() + 'epoch: 3\n')
    with pytest.raises(DAGSpecInitializationError, match="unknown parameter 'epoch' in env.yaml: did you mean 'epochs'"): load()

def test_pipeline_that_would_not_notice_its_code_is_refused(root):
    text = (root/'pipeline.yaml').read_text()
    for old, new in (('of: sprout.tasks.train', 'of: sprout.tasks.curate'), ('mlproject.code::digest', 'mlproject.code.digest')):
        (root/'pipeline.yaml').write_text(text.replace(old, new))
        with pytest.raises(DAGSpecInitializationError, match='must have `code'): load()
    (root/'pipeline.yaml').write_text(text.replace("lr: '{{lr}}'", "lrr: '{{lr}}'"))
    with pytest.raises(DAGSpecInitializationError, match="no parameter 'lrr': did you mean 'lr'"): load()

def test_package_out_of_step_is_refused(root):
    edit(root, '10_clean', 'r > 0', 'r > 1', exported=False)
    with pytest.raises(DAGSpecInitializationError, match='10_clean.ipynb and sprout/clean.py differ'): load()
    export(root)
    load()
    (root/'nbs/20_scale.ipynb').rename(root/'nbs/25_scale.ipynb')
    with pytest.raises(DAGSpecInitializationError, match='25_scale.ipynb and sprout/models/scale.py differ'): load()
    (root/'nbs/25_scale.ipynb').unlink()
    with pytest.raises(DAGSpecInitializationError, match='sprout/models/scale.py has no notebook'): load()

def test_report_without_its_tag_is_refused_and_left_alone(root):
    path = root/'nbs/reports/summary.ipynb'
    path.write_text(path.read_text().replace('"parameters"', '"parametres"'))
    before = path.read_bytes()
    with pytest.raises(DAGSpecInitializationError, match='no cell tagged `parameters`'): load()
    assert path.read_bytes() == before

def test_papermill_alone_refuses_unknown_parameters(root, tmp_path):
    import papermill
    def run(**params): return papermill.execute_notebook(str(root/'nbs/reports/summary.ipynb'), str(tmp_path/'out.ipynb'), params, progress_bar=False)
    out = run(title='mine')
    assert "('mine', [1])" in json.dumps(out)
    with pytest.raises(papermill.PapermillExecutionError, match="unknown parameter 'titel': did you mean 'title'"): run(titel='mine')

@pytest.mark.slow
def test_command_line_one_line_errors_parallel_build_and_plot(root):
    out = ploomber('build', '--env--l', '2')
    assert out.returncode == 1 and out.stderr.strip().splitlines()[-1].startswith("Error: unknown parameter 'l': did you mean 'lr'")
    assert 'Traceback' not in out.stderr
    with pytest.raises(DAGBuildError) as error: build(rows=99)
    assert str(error.value) == 'collect: there are only 50 rows, not 99'
    out = ploomber('build', '--env--executor', 'parallel')
    assert out.returncode == 0, out.stderr
    parallel = contents(root)
    assert len(parallel) == 7 and build() == []
    out = ploomber('plot')
    assert out.returncode == 0, out.stderr
    page = (root/'pipeline.html').read_text().replace('http://www.w3.org/2000/svg', '')
    assert '<svg' in page and 'train' in page and 'http' not in page and '<script' not in page

def start_and_stop(root, where, stop, *args):
    "Start a build, wait until it is at a known place, end it with a signal."
    flag = root.parent/'flag'
    flag.unlink(missing_ok=True)
    child = subprocess.Popen([COMMAND, 'build', *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=QUIET | dict(SPROUT_PAUSE=where, SPROUT_FLAG=str(flag)))
    limit = time.time() + 90
    while not flag.exists() and child.poll() is None and time.time() < limit: time.sleep(.05)
    assert flag.exists(), child.communicate()
    child.send_signal(stop)
    return child.communicate(timeout=30)[1], child.returncode

def test_killed_build_ends_with_the_same_products(built):
    whole = contents(built)
    network = built/'build/main/network'
    edit(built, '20_scale', 'x * by', '(x * by)  # same value')
    start_and_stop(built, 'middle', signal.SIGKILL, '--force')
    assert not (network/'manifest.json').exists()
    record_of(built/'build/main/raw/manifest.json').write_text('{"params": {"ro')
    assert 'collect' in build() and contents(built) == whole and build() == []
    # killed after the product, before its record, then the parameter is changed back: the product is of the other value
    start_and_stop(built, 'end', signal.SIGKILL, '--env--lr', '0.25')
    assert contents(built) != whole
    assert build() == ['summary', 'train'] and contents(built) == whole

def test_interrupted_build_says_so_and_goes_on(root):
    error, status = start_and_stop(root, 'middle', signal.SIGINT)
    assert status == 130 and 'goes on where this one stopped' in error and 'Traceback' not in error
    assert build() == ['summary', 'train']
