"`mlproject serve` and `mlproject keys` as typed, and the section [serving] of settings.ini."
import subprocess, sys

import pytest
from typer.testing import CliRunner

from mlproject.cli import app
from mlproject.servers import served_model, served_settings
from mlproject.core import Problem
from mlproject.serving.guarding import Guard, read_keys
from mlproject.settings import Serving, load_serving, project_root


def test_the_settings_file_of_the_repository_holds_the_defaults():
    found = load_serving(project_root(__file__), environ={})
    assert found == Serving(keys=found.keys, photo_store=found.photo_store, runs=found.runs)   # these three become absolute


def test_wrong_settings_are_errors_that_name_them(tmp_path):
    with pytest.raises(Problem, match='did you mean queue_ms'): served_settings({}, ['queue_m=1'])
    with pytest.raises(Problem, match='KEY=VALUE'): served_settings({}, ['queue_ms'])
    with pytest.raises(Problem, match='log_level'): served_settings({}, ['log_level=loud'])
    (tmp_path/'settings.ini').write_text('[mlproject]\n[servin]\nport = 1\n')
    with pytest.raises(Problem, match=r'no section \[servin\]'): load_serving(tmp_path, environ={})
    with pytest.raises(Problem, match='MLPROJECT_SERVING_WORKER'): load_serving(tmp_path/'..', environ={'MLPROJECT_SERVING_WORKER': '1'})


def test_keys_are_made_shown_once_and_revoked(tmp_path):
    file, run = str(tmp_path/'keys.json'), lambda *words: CliRunner().invoke(app, ['keys', *words, '--file', str(tmp_path/'keys.json')])
    made = run('create', 'camera 7', '--scopes', 'predict,metrics', '--rate', '5')
    token = next(l for l in made.output.splitlines() if l.startswith('mlp_'))
    key = Guard(file).admit(token, 'metrics')
    shown = run('list').output
    assert key.id in shown and 'camera 7' in shown and 'valid' in shown and token.split('_')[2] not in shown
    assert run('revoke', key.id).exit_code == 0 and read_keys(file)[0].revoked and 'revoked' in run('list').output
    assert isinstance(run('revoke', 'nobody').exception, Problem) and isinstance(run('create', 'x', '--scopes', 'root').exception, Problem)


def test_no_model_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Problem, match='make run'): served_model(None)


def test_the_registry_is_asked_by_a_process_that_ends(tmp_path, monkeypatch):
    "A version by alias: its folder and number, and no registry client in this process."
    from mlproject.export.registry import register
    from small_model import small_extended
    uri = f'sqlite:///{tmp_path}/mlruns/mlflow.db'
    (tmp_path/'mlruns').mkdir()
    made = register(small_extended(tmp_path/'model'), name='small', tracking_uri=uri, aliases=('steady',))
    monkeypatch.setenv('MLPROJECT_TRACKING_URI', uri)
    code = """
import sys
from mlproject.core import Problem
from mlproject.servers import served_model
print(*served_model('models:/small@steady'))
for uri in ('models:/small@nobody', 'models:small'):
    try: served_model(uri)
    except Problem as e: print(e)
print([m for m in ('mlflow', 'sqlalchemy', 'numpy') if m in sys.modules])
"""
    lines = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == f'{made.path} {made.version}' and 'aliases steady' in lines[1] and 'allowed: models:/NAME/VERSION' in lines[2] and lines[3] == '[]'
