"The registry under crashes, two writers, and a project that moves."
import os, shutil, subprocess, sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from carded import toy_files

from mlproject.core import Problem

pytest.importorskip('mlflow')
onnx = pytest.importorskip('onnx')
from mlproject.export import registry  # noqa: E402
from mlproject.export.extended import ExtendedModel, Preprocess, pack  # noqa: E402
from mlproject.export.registry import client, find_version, list_versions, register, resolve, set_alias  # noqa: E402


def tiny(folder, label='a', lineage=None):
    "An extended model that answers with the mean colour."
    h, f = onnx.helper, onnx.TensorProto.FLOAT
    io = [h.make_tensor_value_info(n, f, ['batch', *s]) for n, s in (('pixels', (3, 16, 16)), ('logits', (3,)), ('embedding', (3,)))]
    nodes = [h.make_node('GlobalAveragePool', ['pixels'], ['p']), h.make_node('Flatten', ['p'], ['logits']), h.make_node('Identity', ['logits'], ['embedding'])]
    model = h.make_model(h.make_graph(nodes, 'tiny', io[:1], io[1:]), opset_imports=[h.make_opsetid('', 20)], ir_version=10)
    photo = cv2.imencode('.png', np.full((20, 20, 3), 90, np.uint8))[1].tobytes()
    return pack(folder, model.SerializeToString(), [label, 'b', 'c'], Preprocess(16, 18, (.5,) * 3, (.25,) * 3), golden=photo, lineage=lineage, files=toy_files([label, 'b', 'c'], lineage))


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A project with an empty registry (making the tables takes MLflow seconds, so the tests share it)."
    root = tmp_path_factory.mktemp('project')
    client(f'sqlite:///{root}/mlruns/mlflow.db')
    return root


@pytest.fixture
def uri(home): return f'sqlite:///{home}/mlruns/mlflow.db'


def test_a_registration_killed_before_the_entry_or_before_the_alias_is_completed_by_the_next(home, uri, tmp_path, monkeypatch):
    extended = tiny(tmp_path / 'e')
    real = client(uri)
    for broken in ('create_model_version', 'set_registered_model_alias'):
        def killed(*a, **k): raise KeyboardInterrupt
        with monkeypatch.context() as m:
            m.setattr(type(real), broken, killed)
            with pytest.raises(KeyboardInterrupt): register(extended, name='killed', tracking_uri=uri)
    v = register(extended, name='killed', tracking_uri=uri)
    assert (v.version, v.aliases) == (1, ('candidate',)) and len(list_versions('killed', uri)) == 1


def test_a_copy_cut_short_is_made_again(home, uri, tmp_path, monkeypatch):
    extended, copies = tiny(tmp_path / 'e'), []
    def cut(a, b):
        copies.append(b)
        if len(copies) == 2: raise OSError('disk full')
        Path(b).write_bytes(Path(a).read_bytes())
    with monkeypatch.context() as m:
        m.setattr(registry.shutil, 'copyfile', cut)
        with pytest.raises(Problem, match='disk full'): register(extended, name='cut', tracking_uri=uri)
    assert ExtendedModel.load(register(extended, name='cut', tracking_uri=uri).path).check() < 1e-6
    assert [p.name for p in (home / 'mlruns/models/cut').iterdir()] == [list_versions('cut', uri)[0].digest]


def test_processes_that_register_together_into_a_new_database_make_one_version_of_each_content(tmp_path):
    uri = f'sqlite:///{tmp_path}/mlruns/mlflow.db'
    code = 'import sys\nfrom mlproject.export.registry import register\nfor f in sys.argv[2:]: register(f, name="crowd", tracking_uri=sys.argv[1])'
    folders = [str(tiny(tmp_path / n, label=n)) for n in 'xyz']
    running = [subprocess.Popen([sys.executable, '-c', code, uri, *order], stderr=subprocess.PIPE, text=True) for order in (folders, folders[::-1])]
    assert [(p.communicate()[1], p.returncode) for p in running] == [('', 0)] * 2      # quiet, too
    found = list_versions('crowd', uri)
    assert [v.version for v in found] == [1, 2, 3] and len({v.digest for v in found}) == 3
    assert sorted(ExtendedModel.load(v.path).labels[0] for v in found) == ['x', 'y', 'z']


def test_a_registered_version_outlives_the_build_folder_and_cannot_be_written_to(home, uri, tmp_path):
    v = register(tiny(tmp_path / 'e', lineage=dict(commit='1', parameters=dict(lr=.1))), name='kept', tracking_uri=uri, lineage=dict(report='r.html'))
    shutil.rmtree(tmp_path / 'e')
    assert ExtendedModel.load(resolve('models:/kept/1', uri)).check() < 1e-6
    assert not (v.path / 'model.onnx').stat().st_mode & 0o222
    assert {k: v.tags[k] for k in ('commit', 'parameters.lr', 'report')} == {'commit': '1', 'parameters.lr': '0.1', 'report': 'r.html'}


def test_a_stored_model_that_was_exchanged_is_refused(home, uri, tmp_path):
    v = register(tiny(tmp_path / 'e'), name='swapped', tracking_uri=uri)
    shutil.rmtree(v.path)
    shutil.copytree(tiny(tmp_path / 'other', label='z'), v.path)
    with pytest.raises(Problem, match='not the model that was registered'): resolve('models:/swapped/1', uri)


def test_a_project_that_moved_still_finds_its_models(home, uri, tmp_path):
    register(tiny(tmp_path / 'e'), name='moving', tracking_uri=uri)
    shutil.copytree(home, tmp_path / 'moved')
    there = f'sqlite:///{tmp_path}/moved/mlruns/mlflow.db'
    assert resolve('models:/moving@candidate', there).is_relative_to(tmp_path / 'moved')


def test_aliases_move_and_wrong_names_are_one_line(home, uri, tmp_path):
    one, two = (register(tiny(tmp_path / n, label=n), name='two', tracking_uri=uri) for n in 'az')
    set_alias('two', 'champion', 1, uri)
    assert find_version('models:/two@champion', uri).version == 1 and find_version('models:/two@candidate', uri).version == 2
    set_alias('two', 'champion', 2, uri)
    assert find_version('models:/two/2', uri).aliases == ('candidate', 'champion')
    for bad in ('models:/two/9', 'models:/two@nobody', 'models:/nothing/1', 'models:/two', "models:/o'clock/1"):
        with pytest.raises(Problem): find_version(bad, uri)
    with pytest.raises(Problem): set_alias('two', 'champion', 9, uri)


def test_looking_for_a_model_makes_no_database(tmp_path):
    with pytest.raises(Problem, match='there is no registry'): resolve('models:/x/1', f'sqlite:///{tmp_path}/mlruns/mlflow.db')
    assert not list(tmp_path.iterdir())


def test_the_registry_needs_no_torch():
    code = 'import sys; import mlproject.export.registry, mlproject.mlflow_client as m; m._quiet(); print([m for m in ("torch", "torchvision") if m in sys.modules])'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=os.environ).stdout.strip() == '[]'
