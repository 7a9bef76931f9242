"Faster forms of a network: measured, kept within a bound, opened by servers, refused when they answer differently."
import numpy as np
import pytest
from small_model import photo, small_extended

from mlproject.core import Problem, read_json
from mlproject.export.extended import ExtendedModel, pack
from mlproject.export.variants import Measured, OpenVinoSession, int8_bytes, worth, write_variants
from mlproject.serving.jobs import EngineConfig
from mlproject.serving.rollout import Fleet
from mlproject.serving.sessions import load_model

PHOTOS = [photo(i) for i in range(24)]

def conv_extended(folder, seed=0):
    "Two convolutions with random weights."
    from onnx import TensorProto, helper, numpy_helper
    rng, make = np.random.default_rng(seed), helper.make_node
    v = dict(w0=rng.normal(0, .3, (24, 3, 3, 3)), w1=rng.normal(0, .1, (32, 24, 3, 3)), w=rng.normal(0, 1, (32, 5)), b=np.zeros(5))
    nodes = [make('Conv', ['pixels', 'w0'], ['c0'], pads=[1] * 4), make('Relu', ['c0'], ['r0']), make('Conv', ['r0', 'w1'], ['c1'], pads=[1] * 4),
             make('Relu', ['c1'], ['r1']), make('GlobalAveragePool', ['r1'], ['g']), make('Flatten', ['g'], ['embedding']),
             make('Gemm', ['embedding', 'w', 'b'], ['logits'])]
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ['batch', *s]) for n, s in (('pixels', (3, 32, 32)), ('logits', (5,)), ('embedding', (32,)))]
    graph = helper.make_graph(nodes, 'conv', io[:1], io[1:], [numpy_helper.from_array(x.astype(np.float32), n) for n, x in v.items()])
    plain = ExtendedModel.load(small_extended(folder.with_name('other')))
    onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 20)], ir_version=10).SerializeToString()
    return pack(folder, onnx, list(plain.labels), plain.preprocess, golden=PHOTOS[0], name='animals')

@pytest.fixture(scope='module')
def both(tmp_path_factory):
    "An extended model, and the same with int8 (and bf16 where OpenVINO is) as variants."
    root = tmp_path_factory.mktemp('variants')
    model = ExtendedModel.load(conv_extended(root / 'plain'), threads=1)
    truth = [model.labels[i] for i in model.logits(PHOTOS[8:]).argmax(1)]
    tried = write_variants(root / 'plain', root / 'faster', PHOTOS[8:], truth, calibration=PHOTOS[:8], loss=1., speedup=0.)
    return root / 'plain', root / 'faster', tried

def test_the_loss_is_measured_against_float32(both):
    plain, faster, tried = both
    assert {m.name for m in tried} >= {'int8'} and all(m.photos == 16 and m.loss == pytest.approx(1 - m.accuracy) and m.accuracy == m.same for m in tried)

def test_float32_stays_what_it_was(both):
    plain, faster, _ = both
    assert (plain / 'model.onnx').read_bytes() == (faster / 'model.onnx').read_bytes()
    assert np.array_equal(ExtendedModel.load(plain).logits(PHOTOS[:3]), ExtendedModel.load(faster).logits(PHOTOS[:3]))

def test_servers_take_the_first_within_their_bound(both):
    plain, faster, tried = both
    assert load_model(plain).about['variant'] == 'float32' and load_model(faster, -1).about['variant'] == 'float32'
    first = read_json(faster / 'extended.json')['variants'][0]
    model = load_model(faster, 1.)
    assert model.about['variant'] == first['name'] and model.check() <= first['tolerance']
    assert np.abs(model.probabilities(PHOTOS) - ExtendedModel.load(plain).probabilities(PHOTOS)).max() < .1

def test_a_variant_serves_through_the_fleet(both):
    plain, faster, _ = both
    fleet = Fleet(EngineConfig(threads=2, queue_ms=600_000.), loss=1.)
    loaded = fleet.load(faster)
    assert loaded.about['variant'] != 'float32' and loaded.engine.submit(PHOTOS[1]).result(30).prediction.label
    fleet.close()

def test_a_variant_that_answers_differently_here_is_left_for_float32(both, tmp_path, caplog):
    plain, faster, _ = both
    m = ExtendedModel.load(plain)
    bad = dict(name='int8', runtime='onnxruntime', file='model.int8.onnx', loss=0., golden=list(range(5)), tolerance=.02)
    pack(tmp_path / 'x', (plain / 'model.onnx').read_bytes(), list(m.labels), m.preprocess, golden=PHOTOS[0], variants=[bad],
         files={'model.int8.onnx': int8_bytes(m, np.stack([m.preprocess.pixels(p) for p in PHOTOS[:8]]))})
    assert load_model(tmp_path / 'x').about['variant'] == 'float32' and 'int8 cannot be used' in caplog.text

def test_the_same_photos_give_the_same_bytes(both):
    m = ExtendedModel.load(both[0])
    pixels = np.stack([m.preprocess.pixels(p) for p in PHOTOS[:8]])
    assert int8_bytes(m, pixels) == int8_bytes(m, pixels) and len(int8_bytes(m, pixels)) < len((both[0] / 'model.onnx').read_bytes())

def test_what_loses_too_much_or_wins_too_little_is_not_kept():
    def m(name, loss, speedup): return Measured(name, 'onnxruntime', 'x', 900, .9, loss, .99, speedup)
    found = [m('slow', 0., 1.05), m('fast', .004, 3.), m('lossy', .006, 4.), m('better', -.001, 2.)]
    assert [x.name for x in worth(found)] == ['fast', 'better'] and worth(found, loss=-1.) == []

def test_several_threads_share_an_openvino_session(both):
    pytest.importorskip('openvino')
    from concurrent.futures import ThreadPoolExecutor
    m = ExtendedModel.load(both[0])
    session, x = OpenVinoSession(m.folder / 'model.onnx', precision='f32'), m.preprocess.tensor(np.stack([m.preprocess.pixels(p) for p in PHOTOS]))
    want = m.logits(PHOTOS)
    def one(i): return session.run(['logits', 'embedding'], {'pixels': x[i % 24:i % 24 + 1]})[0][0]
    with ThreadPoolExecutor(4) as pool:
        for i, row in enumerate(pool.map(one, range(200))): assert np.abs(row - want[i % 24]).max() < 1e-3
