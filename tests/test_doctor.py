"""Every rule of the notebook doctor: broken once, it is found; the healthy project has no finding."""
import json, re
from pathlib import Path

import pytest

pytest.importorskip('nbdev', reason='needs the extra `dev`')
from miniature import export, make_project
from mlproject import pages
from mlproject.core import Problem
from mlproject.doctor import checkup

SHOWS = dict(output_type='execute_result', metadata={}, execution_count=None, data={'text/plain': '[1]'})

@pytest.fixture
def root(tmp_path, monkeypatch):
    root = make_project(tmp_path/'sprout_project')
    monkeypatch.syspath_prepend(root)
    for path in (root/'nbs').rglob('*.ipynb'): change(path, lambda nb: [c.update(id=f'{c["id"]}x') for c in nb['cells']])
    export(root)
    return root

def change(path, f):
    nb = json.loads(Path(path).read_text())
    f(nb)
    Path(path).write_text(json.dumps(nb))

def shows(output): return lambda nb: nb['cells'][-1].update(source='1, 2', outputs=[output])

def stream(name, text): return dict(output_type='stream', name=name, text=text)

def value(text): return SHOWS | dict(data={'text/plain': text})

BREAKS = {  # rule: (notebook, what is done to it)
    'outputs': ('10_clean', lambda nb: nb['cells'][-1].update(source='1, 2')),
    'count': ('10_clean', lambda nb: nb['cells'][-1].update(execution_count=4)),
    'timestamp': ('10_clean', shows(stream('stdout', '2026-01-05 10:11:12,345 done'))),
    'path': ('10_clean', shows(value("PosixPath('/tmp/tmpab12/photo.jpg')"))),
    'address': ('10_clean', shows(value('<generator at 0x7f43a1b2c3d0>'))),
    'warning': ('10_clean', shows(stream('stderr', 'a word'))),
    'progress': ('10_clean', shows(stream('stdout', '50%|#####     | 5/10'))),
    'error': ('10_clean', shows(dict(output_type='error', ename='ValueError', evalue='x', traceback=[]))),
    'size': ('10_clean', shows(value('x' * 1_000_000))),
    'id': ('10_clean', lambda nb: nb['cells'][1].update(id='two words')),
    'length': ('10_clean', lambda nb: nb['cells'][2].update(source='#| export\n' + 'x = 1\n' * 61)),
    'import': ('10_clean', lambda nb: nb['cells'][-1].update(source='from .fit import fit')),
    'syntax': ('10_clean', lambda nb: nb['cells'][-1].update(source='def')),
    'in step': ('10_clean', lambda nb: nb['cells'][2].update(source='#| export\ndef clean(rows): return rows')),
    'parameters': ('reports/summary', lambda nb: nb['cells'][1].update(metadata={}))}

@pytest.mark.parametrize('rule', BREAKS)
def test_each_rule_finds_what_breaks_it(root, rule):
    notebook, breaks = BREAKS[rule]
    before = [str(f) for f in checkup(root)]
    change(root/f'nbs/{notebook}.ipynb', breaks)
    found = [f for f in checkup(root) if str(f) not in before]
    assert rule in [f.rule for f in found] and all(re.fullmatch(r'\S+: [\w ]+: .+', str(f)) for f in found), found

def test_healthy_project_has_no_finding(root):
    assert checkup(root) == []

def test_modules_together(root):
    def add(notebook, line):
        change(root/f'nbs/{notebook}.ipynb', lambda nb: [c for c in nb['cells'] if 'export\n' in c['source']][0].update(source=f'#| export\n{line}'))
        export(root)
        found = {(f.place, f.rule): f.detail for f in checkup(root)}
        return found
    found = add('20_scale', 'def scale(x, by):\n    from sprout.models.fit import fit\n    return x')
    assert 'sprout.models.fit (30), allowed: below 20' in found['nbs/20_scale.ipynb', 'uphill']
    assert found['sprout.models.fit', 'circle'] == 'sprout.models.fit -> sprout.models.scale -> sprout.models.fit'
    (root/'nbs/10_clean.ipynb').rename(root/'nbs/09_clean.ipynb')
    found = add('09_clean', 'def clean(rows):\n    import torch.nn')
    assert 'sprout.clean must be free of torch' in found['nbs/09_clean.ipynb', 'torch']
    change(root/'nbs/20_scale.ipynb', lambda nb: nb['cells'][1].update(source='#| default_exp clean'))
    assert any('both write the module clean' in str(f) for f in checkup(root))

def test_tags_survive_cleaning_and_the_doctor_says_when_they_would_not(root, monkeypatch):
    import subprocess, sys
    report = root/'nbs/reports/summary.ipynb'
    clean = [str(Path(sys.executable).parent/'nbdev-clean'), '--fname', str(report)]
    subprocess.run(clean, cwd=root, check=True)
    assert [f.rule for f in checkup(root)] == []
    toml = root/'pyproject.toml'
    toml.write_text(toml.read_text().replace('allowed_cell_metadata_keys = ["tags"]', ''))
    assert [f.rule for f in checkup(root)] == ['tags']
    subprocess.run(clean, cwd=root, check=True)
    assert [f.rule for f in checkup(root)] == ['parameters', 'tags']

def test_lessons_run_against_the_package_and_are_counted(root):
    paths = sorted((root/'nbs').glob('*.ipynb'))
    change(paths[0], lambda nb: nb['cells'][-1].update(source='assert clean([1, 0, 2]) == [1, 2]'))
    assert pages.run_lesson(paths[0]) == ''
    module = root/'sprout/clean.py'
    module.write_text(module.read_text().replace('r > 0', 'r > 10'))  # only the package is broken, not the notebook
    import importlib, sprout.clean
    importlib.reload(sprout.clean)
    assert 'AssertionError' in pages.run_lesson(paths[0])
    with pytest.raises(Problem, match='no notebook'): pages.run_lessons([])

def test_readme_is_compared_with_its_notebook(root):
    index = root/'nbs/index.ipynb'
    picture = dict(output_type='display_data', metadata={}, data={'image/png': 'iVBORw0KGgo=', 'text/plain': '<Figure>'})
    cells = [dict(cell_type='markdown', id='a', metadata={}, source='# Sprout\n\n[Clean](10_clean.ipynb), [licence](../LICENSE)\n\n```sh\nls [a](b)\n```'),
             dict(cell_type='code', id='b', metadata={}, execution_count=None, source='#| hide\nsecret = 1', outputs=[]),
             dict(cell_type='code', id='c', metadata={}, execution_count=None, source='#| echo: true\nplot()', outputs=[picture])]
    index.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))
    (root/'LICENSE').touch()
    pages.make_readme(root)
    text = (root/'README.md').read_text()
    assert '[Clean](nbs/10_clean.ipynb), [licence](LICENSE)' in text and 'secret' not in text and '#|' not in text
    name = re.search(r'!\[.*?\]\((.*?)\)', text)[1]
    assert (root/name).read_bytes() == b'\x89PNG\r\n\x1a\n' and name.startswith('nbs/images/')
    assert pages.readme_in_step(root) == []
    (root/'README.md').write_text(text + 'By hand.')
    assert [f.place for f in pages.readme_in_step(root)] == ['README.md']
    (root/'LICENSE').unlink()
    assert [f.detail for f in pages.readme_in_step(root)][1:] == ['links to LICENSE, which is not there']

def test_readme_command_that_runs_until_stopped_is_probed_and_leaves_nothing(tmp_path):
    import socket, urllib.error, urllib.request
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    page = tmp_path/'README.md'
    page.write_text(f'<!-- probe: http://127.0.0.1:{port}/ -->\n```sh\npython3 -m http.server --bind 127.0.0.1 {port} &\nwait\n```\n\n```sh\ntrue\nfalse\n```\n\n<!-- prob: x -->\n')
    server, failing = pages.commands(page)
    pages.run_command(server, tmp_path, timeout=30)
    with pytest.raises(urllib.error.URLError): urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=2)
    with pytest.raises(Problem, match='exit 1'): pages.run_command(failing, tmp_path)
    page.write_text('<!-- prob: x -->\n```sh\nls\n```\n')
    with pytest.raises(Problem, match="did you mean 'probe'"): pages.commands(page)
