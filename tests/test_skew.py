"Train/serve skew: what was evaluated is what is served, for every photo of the test split and through every door."
import os
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from colours import Process
from conftest import ROOT
from mlproject.core import read_shards
from mlproject.data.records import load_step
from mlproject.export.extended import ExtendedModel
from mlproject.metrics import softmax
from mlproject.serving.batch import BatchConfig, predict_batch

BUILD = Path(os.environ.get('MLPROJECT_BUILD') or ROOT/'build'/'survey')
CLOSE = 1e-4


@pytest.fixture(scope='module', params=['a tiny build', 'the build of the main job'])
def product(request):
    "Folder of products, paths of the test split's photos, their evaluated species and probabilities."
    out = request.getfixturevalue('built')[0] if request.param == 'a tiny build' else BUILD
    if not (out/'extended'/'manifest.json').exists(): pytest.skip(f'no finished build in {out} (MLPROJECT_BUILD names another)')
    table = pq.read_table(out/'evaluation'/'predictions.parquet', columns=['split', 'associatedMedia', 'logits', 'predicted'])
    table = table.filter(np.array(table['split'].to_pylist()) == 'test')
    model, root = ExtendedModel.load(out/'extended', threads=1), load_step(out/'curated').photo_root
    paths = [root/m for m in table['associatedMedia'].to_pylist()]
    if out == BUILD and not all(p.is_file() for p in paths): pytest.skip(f'the photos that {out} was made from are gone')
    assert len(paths) >= 5 and all(p.is_file() for p in paths)
    return out/'extended', paths, table['predicted'].to_pylist(), softmax(np.array(table['logits'].to_pylist(), np.float32), model.temperature), model.labels


@pytest.fixture(scope='module')
def server(product):
    process = Process(product[0], queue_ms=60_000, deadline_ms=60_000, queue=10_000)
    yield process
    process.stop()


def compare(found, product):
    "`found`: one dict species -> probability a photo."
    _, paths, species, want, labels = product
    assert len(found) == len(paths)
    got = np.array([[f[n] for n in labels] for f in found])
    assert [labels[i] for i in got.argmax(1)] == species
    assert np.abs(got - want).max() <= CLOSE


@pytest.mark.slow
def test_rest(product, server):
    _, paths, _, _, labels = product
    found = []
    with httpx.Client(base_url=f'http://127.0.0.1:{server.rest}', timeout=60) as client:
        for i in range(0, len(paths), 16):
            files = [('photos', (p.name, p.read_bytes(), 'application/octet-stream')) for p in paths[i:i + 16]]
            answer = client.post(f'/v1/predict?top_k={len(labels)}', files=files)
            assert answer.status_code == 200, answer.text
            found += [{s['scientificName']: s['score'] for s in p['species']} for p in answer.json()['predictions']]
    compare(found, product)


@pytest.mark.slow
@pytest.mark.parametrize('door', ['http', 'grpc'])
def test_open_inference_protocol(product, server, door):
    triton = pytest.importorskip(f'tritonclient.{door}')
    extended, paths, species, want, labels = product
    name, rows = ExtendedModel.load(extended, threads=1).signature['name'], []
    with triton.InferenceServerClient(f'127.0.0.1:{server.rest if door == "http" else server.grpc}') as client:
        for i in range(0, len(paths), 16):
            data = np.array([p.read_bytes() for p in paths[i:i + 16]], object)
            x = triton.InferInput('photo', [len(data)], 'BYTES')
            x.set_data_from_numpy(data)
            rows.append(client.infer(name, [x]).as_numpy('probabilities'))
    compare([dict(zip(labels, r)) for r in np.concatenate(rows)], product)


@pytest.mark.slow
def test_batch(product, tmp_path):
    extended, paths, _, _, labels = product
    (tmp_path/'photos.csv').write_text('photo\n' + ''.join(f'"{p}"\n' for p in paths))
    predict_batch(extended, tmp_path/'photos.csv', tmp_path/'out', BatchConfig(top_k=len(labels)))
    compare([{s['scientificName']: s['score'] for s in species} for species in read_shards(tmp_path/'out')['species'].to_pylist()], product)
