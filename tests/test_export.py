"The extended model: same answers as the network, without torch, safe against bad photos and altered files."
import json, os, shutil, subprocess, sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mlproject.core import Problem, digest_file, read_json, read_manifest, write_json
from mlproject.export.extended import ExtendedModel, Preprocess, format_predictions, predict_paths

torch = pytest.importorskip('torch')
from mlproject.export.formats import parity, torch_logits, two_outputs, write_extended  # noqa: E402

SHARED = Path(os.environ.get('MLPROJECT_SHARED_DATA') or Path(__file__).resolve().parents[2] / 'shared' / 'data')
LABELS = ['Vulpes vulpes', 'Canis lupus', 'Lynx lynx', 'Ursus arctos', 'Meles meles']
PREP = Preprocess(32, 36, (.485, .456, .406), (.229, .224, .225))


def make_network(classes=5):
    "Batch normalisation with statistics of its own and dropout: what conversions get wrong."
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.BatchNorm2d(8), torch.nn.Hardswish(), torch.nn.Conv2d(8, 16, 3, 2),
                              torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                              torch.nn.Dropout(.5), torch.nn.Linear(16, classes))
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d): m.running_mean.uniform_(-1, 1); m.running_var.uniform_(.5, 2)
    net[-1].weight.data *= 8
    return net          # in training mode on purpose


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "Twelve JPEG and PNG photos of different shapes in nested folders, one hidden file, one text file."
    root, rng = tmp_path_factory.mktemp('photos'), np.random.default_rng(0)
    for i in range(12):
        rgb = cv2.resize(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8), (60 + 13 * i, 150 - 7 * i), interpolation=cv2.INTER_CUBIC)
        path = root / f'site {i % 3}' / f'löwe {i:02d}.{"png" if i % 4 == 0 else "jpg"}'
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, rgb)[1].tobytes())
    (root / '.hidden.jpg').write_bytes(b'x')
    (root / 'notes.txt').write_text('no photo')
    return sorted(root.glob('*/*'))


@pytest.fixture(scope='module')
def extended(tmp_path_factory, photos):
    return write_extended(tmp_path_factory.mktemp('export') / 'extended', make_network(), LABELS, PREP, golden=photos[0].read_bytes(),
                          calibration=dict(temperature=1.3, threshold=.3), lineage=dict(commit='abc'))


def altered(extended, tmp_path):
    return Path(shutil.copytree(extended, tmp_path / 'copy'))


def test_answers_equal_the_networks(extended, photos):
    pixels = np.stack([PREP.pixels(p) for p in photos])
    found = parity(ExtendedModel.load(extended, threads=1), photos, torch_logits(make_network(), pixels, PREP))
    assert found.ok and found.photos == 12 and found.worst < 1e-5


def test_a_network_in_training_mode_or_with_other_weights_is_caught(extended, photos):
    pixels, model = np.stack([PREP.pixels(p) for p in photos]), ExtendedModel.load(extended, threads=1)
    net = make_network().train()
    with torch.no_grad(): dropped = net(torch.from_numpy(PREP.tensor(pixels))).numpy()
    with pytest.raises(Problem, match='does not answer as the network does'): parity(model, photos, dropped)
    own = torch_logits(make_network(), pixels, PREP)
    own[5, 2] += .01      # one probability of one photo, a little
    with pytest.raises(Problem, match='12 of 12 photos'): parity(model, photos, own)


def test_the_same_network_gives_the_same_bytes_and_no_path_of_this_machine(extended, photos, tmp_path):
    again = write_extended(tmp_path / 'again', make_network(), LABELS, PREP, golden=photos[0].read_bytes(),
                           calibration=dict(temperature=1.3, threshold=.3), lineage=dict(commit='abc'))
    assert {f['name']: f['digest'] for f in read_manifest(again)['files']} == {f['name']: f['digest'] for f in read_manifest(extended)['files']}
    for name in ('model.onnx', 'model.pt2', 'extended.json'):
        data = (again / name).read_bytes()
        assert not [s for s in (b'site-packages', str(Path(__file__).parent).encode(), b'.py"') if s in data], name


def test_any_batch_size_gives_the_same_answer(extended, photos):
    model = ExtendedModel.load(extended, threads=1)
    together = model.logits(photos)
    alone = np.concatenate([model.logits(p) for p in photos])
    assert together.shape == (12, 5) and model.embed(photos).shape == (12, 16) and model.logits([]).shape == (0, 5)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_torch_export_file_answers_alike(extended, photos):
    pixels = PREP.tensor(np.stack([PREP.pixels(p) for p in photos]))
    logits, embedding = torch.export.load(extended / 'model.pt2').module()(torch.from_numpy(pixels))
    model = ExtendedModel.load(extended, threads=1)
    np.testing.assert_allclose(logits.detach().numpy(), model.logits(photos), atol=1e-4)
    np.testing.assert_allclose(embedding.detach().numpy(), model.embed(photos), atol=1e-4)


def test_it_predicts_where_torch_pandas_pyarrow_and_mlflow_are_not_installed(extended, photos):
    code = '''
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'torchvision', 'pandas', 'pyarrow', 'mlflow', 'scipy', 'sklearn', 'matplotlib', 'onnx', 'fastcore'):
            raise ImportError(name + ' is not here')
sys.meta_path.insert(0, Blocked())
from mlproject.export.extended import ExtendedModel
model = ExtendedModel.load(sys.argv[1])
model.check()
p = model.predict(sys.argv[2:])
print(len(p), p[0].label, round(p[0].confidence, 4))
'''
    out = subprocess.run([sys.executable, '-c', code, str(extended), *map(str, photos)], capture_output=True, text=True, cwd=extended)
    want = ExtendedModel.load(extended).predict(photos)[0]
    assert out.stdout.strip() == f'12 {want.label} {round(want.confidence, 4)}', out.stderr


@pytest.mark.parametrize('name', ['model.onnx', 'extended.json', 'golden.jpg', 'manifest.json'])
def test_an_altered_file_is_noticed(extended, tmp_path, name):
    folder = altered(extended, tmp_path)
    if name == 'manifest.json':
        m = read_json(folder / name)
        (folder / 'model.onnx').write_bytes(b'other')     # and the manifest made to fit
        for f in m['files']:
            if f['name'] == 'model.onnx': f.update(bytes=5, digest=digest_file(folder / 'model.onnx'))
        write_json(folder / name, m)
    else:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
    with pytest.raises(Problem, match='not the (file|one) that was written'): ExtendedModel.load(folder).check()


def test_an_incomplete_or_newer_folder_is_one_line(extended, tmp_path):
    with pytest.raises(Problem, match='not complete'): ExtendedModel.load(tmp_path)
    folder = altered(extended, tmp_path)
    (folder / 'model.onnx').unlink()
    with pytest.raises(Problem, match='missing'): ExtendedModel.load(folder)
    from mlproject.core import write_folder
    about = read_json(extended / 'extended.json')
    with write_folder(tmp_path / 'newer', kind='extended') as out:
        shutil.copy(extended / 'model.onnx', out)
        write_json(out / 'extended.json', about | dict(version=2))
    with pytest.raises(Problem, match='format version 2'): ExtendedModel.load(tmp_path / 'newer')


def test_an_export_that_fails_leaves_nothing_that_looks_complete(photos, tmp_path):
    with pytest.raises(Problem): write_extended(tmp_path / 'x', make_network(), LABELS, PREP, golden=b'not a photo')
    with pytest.raises(Problem, match='not complete'): ExtendedModel.load(tmp_path / 'x')


def test_a_bad_photo_fails_alone(extended, photos):
    model, good = ExtendedModel.load(extended, threads=2), photos[1].read_bytes()
    bad = [b'', b'text', good[:-len(good) // 2], None, 7, '/nowhere/x.jpg', '\0', photos[1].parent, np.zeros((40, 40), np.uint8),
           np.zeros((0, 5, 3), np.uint8), np.zeros((40, 40, 3), np.float32), b'\xff\xd8\xff' + os.urandom(300)]
    mixed = [x for b in bad for x in (b, good)]
    found = model.predict(mixed)
    assert all(p.error and p.label is None and not p.species for p in found[::2])
    assert len({(p.label, round(p.confidence, 5)) for p in found[1::2]}) == 1 and not any(p.error for p in found[1::2])
    assert all('\n' not in p.error for p in found[::2])


def test_folders_are_searched_in_order_and_lines_are_valid(extended, photos):
    model, root = ExtendedModel.load(extended), photos[0].parents[1]
    failed = []
    found = list(predict_paths(model, [root, root / 'notes.txt', root / 'nowhere'], top_k=2, batch=5, failed=failed))
    assert [p.source for p in found[:12]] == [str(p) for p in photos] and len(found) == 14
    assert [p.reason for p in failed] == ['not_an_image', 'missing']
    rows = [json.loads(line) for line in format_predictions(found, 'json')]
    assert rows[0]['species'][0]['scientificName'] in LABELS and len(rows[0]['species']) == 2 and rows[-1]['error']
    table = list(format_predictions(found))
    assert len(table) == 15 and 'löwe 00.png' in table[1]


def test_abstaining_says_unknown_but_names_candidates(extended, photos):
    model = ExtendedModel.load(extended, threads=1)
    model.threshold = 1.1
    p = model.predict(photos[0])[0]
    assert p.abstained and p.label == 'unknown' and p.species[0][1] == p.confidence > 0


def test_logits_that_are_not_finite_are_an_error_not_an_answer(extended):
    p = ExtendedModel.load(extended, threads=1).answer(np.array([1, np.nan, 0, 0, 0], np.float32))
    assert p.reason == 'network' and p.label is None


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['resnet18', 'mobilenet_v2', 'mobilenet_v3_small', 'efficientnet_b0', 'shufflenet_v2_x1_0'])
def test_torchvision_backbones_keep_parity_on_real_photos(backbone, tmp_path):
    real = sorted((SHARED / 'photos/monkeys10').glob('validation/*/*'))[::12]
    if not real: pytest.skip(f'no photos in {SHARED}')
    from mlproject.training.networks import NetworkConfig, make_network
    prep = Preprocess(96, 110, PREP.mean, PREP.std)
    net = make_network(NetworkConfig(backbone, tuple(LABELS), image_size=96))
    net.head.weight.data *= 30
    write_extended(tmp_path / 'e', net, LABELS, prep, golden=real[0].read_bytes())
    own = torch_logits(net, np.stack([prep.pixels(p) for p in real]), prep)
    assert parity(ExtendedModel.load(tmp_path / 'e'), real, own).ok
