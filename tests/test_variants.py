"Cheaper variants of a network: taken only when as right and faster, kept with what was measured; JPEGs decoded small alike everywhere."
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem, read_json
from mlproject.export.extended import ExtendedModel, Preprocess
from mlproject.photos import fit_photo, read_photo

torch = pytest.importorskip('torch')
from mlproject.export import variants  # noqa: E402
from mlproject.export.formats import preprocess_of, write_extended  # noqa: E402
from mlproject.export.variants import PLAIN, Trial, Variant, candidates, choose, optimise, paired_loss, wished  # noqa: E402
from mlproject.training.checkpoints import load_network, save_network  # noqa: E402
from mlproject.training.datasets import Shape, decode  # noqa: E402
from mlproject.training.networks import NetworkConfig, make_network  # noqa: E402

LABELS = ['red', 'green', 'blue']
PREP = Preprocess(32, 36, (.5, .5, .5), (.25, .25, .25))
FASTER = lambda sessions, x: {name: 4. if name == 'float32' else 1. for name in sessions}


class Colours(torch.nn.Module):
    "Answers which colour is strongest: right by construction, through a convolution that int8 rounds."
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3))
        self.net[0].weight.data = torch.eye(3)[:, :, None, None].clone()
        self.net[0].bias.data = torch.full((3,), 2.)
        self.net[4].weight.data, self.net[4].bias.data = 20 * torch.eye(3), torch.zeros(3)

    def forward(self, x): return self.net(x)


@pytest.fixture(scope='module')
def photos():
    "300 noisy squares of one colour each, and their names."
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    base = np.full((300, 1, 1, 3), 60) + 90 * np.eye(3, dtype=int)[y][:, None, None]
    return list(np.clip(base + rng.normal(0, 40, (300, 40, 40, 3)), 0, 255).astype(np.uint8)), [LABELS[i] for i in y]


@pytest.fixture(scope='module')
def plain(tmp_path_factory, photos):
    golden = cv2.imencode('.png', photos[0][0][..., ::-1])[1].tobytes()
    return write_extended(tmp_path_factory.mktemp('variants') / 'plain', Colours(), LABELS, PREP, golden=golden,
                          calibration=dict(temperature=1., threshold=.2), lineage=dict(commit='abc'))


@pytest.mark.parametrize('variant', candidates(), ids=lambda v: v.name)
def test_a_variant_that_is_faster_and_as_right_answers_from_then_on(plain, photos, tmp_path, variant):
    made = optimise(plain, tmp_path / 'made', photos[0][:60], *photos, variants=[variant], timer=FASTER)
    kept = read_json(made / 'extended.json')
    assert kept['lineage']['variants']['chosen'] == variant.name and kept['lineage']['commit'] == 'abc'
    assert (kept['network']['file'], kept['network']['runtime']) == (variant.file, variant.runtime)
    model, before = ExtendedModel.load(made, threads=1), ExtendedModel.load(plain, threads=1)
    assert type(model.session).__name__ == ('OpenVinoSession' if variant.runtime == 'openvino' else 'InferenceSession')
    assert model.check() <= .05
    assert [p.label for p in model.predict(photos[0])] == photos[1]
    off = np.abs(model.probabilities(photos[0][:30]) - before.probabilities(photos[0][:30])).max()
    assert 0 < off < .05, 'the variant answers, not float32, and nearly the same'
    same = ExtendedModel.load(made, threads=1, plain=True).logits(photos[0][:8])
    np.testing.assert_array_equal(same, before.logits(photos[0][:8]))


def test_what_is_not_faster_or_less_right_is_not_taken_and_says_so(plain, photos, tmp_path, monkeypatch):
    def broken(network, pixels, preprocess):   # a network whose colours are exchanged
        swapped = Colours()
        swapped.net[4].weight.data = swapped.net[4].weight.data[[1, 2, 0]]
        other = write_extended(tmp_path / 'swapped', swapped, LABELS, PREP, golden=(plain / 'golden.jpg').read_bytes())
        return (other / 'model.onnx').read_bytes()
    slow = optimise(plain, tmp_path / 'slow', photos[0][:60], *photos, timer=lambda s, x: dict.fromkeys(s, 1.))
    monkeypatch.setattr(variants, 'quantise', broken)
    wrong = optimise(plain, tmp_path / 'wrong', photos[0][:60], *photos, variants=candidates()[:1], timer=FASTER)
    for folder in (slow, wrong):
        kept = read_json(folder / 'extended.json')
        assert kept['lineage']['variants']['chosen'] == 'float32' and not (folder / variants.INT8).exists()
        assert kept['network'] == read_json(plain / 'extended.json')['network'] and ExtendedModel.load(folder, threads=1).check() < 1e-6
    measured = {m['name']: m for m in read_json(wrong / 'extended.json')['lineage']['variants']['measured']}
    assert measured['int8']['loss'] == 1. and measured['int8']['low'] > .9 and measured['float32']['top1'] == 1.


def test_too_few_photos_or_wrong_ones_choose_nothing(plain, photos, tmp_path):
    few = optimise(plain, tmp_path / 'few', photos[0][:20], photos[0][:100], photos[1][:100], timer=FASTER)
    assert read_json(few / 'extended.json')['lineage']['variants']['chosen'] == 'float32'
    with pytest.raises(Problem, match='no species of this model'): optimise(plain, tmp_path / 'x', photos[0][:9], photos[0][:1], ['Nessie'])
    with pytest.raises(Problem, match='as many of each'): optimise(plain, tmp_path / 'x', photos[0][:9], [], [])
    with pytest.raises(Problem, match='calibrate'): variants.quantise(plain / 'model.onnx', np.zeros((0, 32, 32, 3), np.uint8), PREP)


def test_a_runtime_that_is_missing_is_reported_and_never_fatal(plain, photos, tmp_path, monkeypatch):
    from mlproject.export import runtimes
    def gone(path, precision, threads, calls): raise Problem('OpenVINO is not here')
    monkeypatch.setattr(runtimes, '_compiled', gone)
    made = optimise(plain, tmp_path / 'made', photos[0][:30], *photos, variants=[Variant('bfloat16', 'model.onnx', 'openvino', 'bfloat16')], timer=FASTER)
    assert read_json(made / 'extended.json')['lineage']['variants'] | dict(measured=0, told=0) == dict(
        told=0, 
        chosen='float32', bound=.005, doubt=.015, margin=1.1, photos=300, calibration=30, measured=0, failed=dict(bfloat16='OpenVINO is not here'))


def test_a_word_says_what_may_be_tried(monkeypatch):
    assert [v.name for v in wished('auto')] == [v.name for v in candidates()] and wished('float32') == []
    assert {v.file for v in wished('int8')} == {'model.int8.onnx'}
    with pytest.raises(Problem, match='allowed: auto, int8, bf16, float32'): wished('fp16')
    monkeypatch.setattr(variants, 'has_openvino', lambda: False)
    with pytest.raises(Problem, match='openvino'): wished('bf16')


@pytest.mark.slow
def test_the_export_task_makes_the_variant_that_was_asked_for(built, tmp_path):
    "Of a tiny build: chosen within a bound as wide as the photos are few; evidence in lineage and card; publishable; float32 beside it."
    from mlproject.core import verify_folder
    from mlproject.export.cards import require_card
    from mlproject.tasks import export
    upstream = {name: built[0]/folder/'manifest.json' for name, folder in dict(curate='curated', split='splits', train='network', calibrate='calibration', evaluate='evaluation').items()}
    made = tmp_path/'extended'
    export(made/'manifest.json', upstream, {}, None, variants='int8', variant_loss=.5)
    verify_folder(made)
    kept = read_json(made/'extended.json')['lineage']['variants']
    assert kept['chosen'].startswith('int8') and kept['told'].startswith(kept['chosen']) and kept['bound'] == .5 and not (tmp_path/'.float32').exists()
    assert {'loss', 'low', 'high', 'ms', 'top1'} <= kept['measured'][1].keys()
    assert require_card(made)['lineage']['variants'] == kept and '## Variants' in (made/'card.md').read_text()
    model, before = ExtendedModel.load(made, threads=1), ExtendedModel.load(built[0]/'extended', threads=1)
    golden = made/'golden.jpg'
    assert model.check() <= .05 and (made/'model.int8.onnx').exists()
    np.testing.assert_allclose(ExtendedModel.load(made, threads=1, plain=True).logits(golden), before.logits(golden), atol=1e-5)


def test_a_model_cannot_name_a_network_outside_its_folder(plain, photos, tmp_path):
    from mlproject.core import write_folder, write_json
    (tmp_path / 'foreign.onnx').write_bytes((plain / 'model.onnx').read_bytes())
    for network in (dict(file='../foreign.onnx'), dict(file='nowhere.onnx'), dict(runtime='python')):
        with write_folder(tmp_path / 'bad', kind='extended') as out:
            for name in ('model.onnx', 'golden.jpg'): (out / name).write_bytes((plain / name).read_bytes())
            write_json(out / 'extended.json', read_json(plain / 'extended.json') | dict(network=network))
        with pytest.raises(Problem, match='has no|allowed: onnxruntime'): ExtendedModel.load(tmp_path / 'bad')


@settings(deadline=None)
@given(st.integers(1, 400), st.randoms(use_true_random=False))
def test_the_interval_holds_the_loss_and_is_symmetric(n, random):
    before, after = (np.array([random.random() < .8 for _ in range(n)]) for _ in range(2))
    loss, low, high = paired_loss(before, after)
    assert -1.1 <= low < high <= 1.1 and loss == pytest.approx(before.mean() - after.mean())
    assert low <= loss * n / (n + 2) <= high
    assert paired_loss(after, before) == pytest.approx((-loss, -high, -low))


def test_the_interval_covers_the_truth():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        before = rng.random(300) < .9
        after = np.where(rng.random(300) < .04, ~before, before)     # 4 % change: loss .9 x .04 - .1 x .04
        _, low, high = paired_loss(before, after)
        inside += low <= .032 <= high
    assert .93 <= inside / 2000 <= .985


def test_luck_is_not_enough():
    plain, lucky = Trial('float32', .9, 0, 0, 0, 1, 3.), Trial('int8', .9, 0., -.03, .03, .3, 1.)
    assert choose([plain, lucky], 500) == 'float32' and choose([plain, lucky], 500, doubt=.05) == 'int8' and PLAIN.name == 'float32'


# --- decoded small, alike in judging and serving ---------------------------------------------------------------------

@pytest.fixture(scope='module')
def jpeg():
    rgb = cv2.resize(np.random.default_rng(1).integers(90, 170, (30, 40, 3), dtype=np.uint8), (500, 375), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode('.jpg', rgb)[1].tobytes()


def test_judged_and_served_pixels_are_the_same_and_small(jpeg, tmp_path):
    config = NetworkConfig('mobilenet_v3_small', ('a', 'b'), image_size=160)
    save_network(tmp_path / 'network', make_network(config))
    _, meta = load_network(tmp_path / 'network')
    assert meta['min_side_hint'] == meta['resize'] == 182
    judged = decode(jpeg, Shape(fit=(meta['image_size'], meta['resize']), hint=meta['min_side_hint']))
    served = preprocess_of(meta).pixels(jpeg)
    np.testing.assert_array_equal(judged, served)
    full = fit_photo(read_photo(jpeg), 160, 182)
    assert 0 < np.abs(full.astype(int) - served).mean() < 4, 'a photo decoded at half its size, hardly another picture'


def test_networks_from_before_the_hint_are_judged_and_served_in_full(jpeg, tmp_path):
    from mlproject.core import write_folder
    save_network(tmp_path / 'new', make_network(NetworkConfig('mobilenet_v3_small', ('a', 'b'), image_size=160)))
    with write_folder(tmp_path / 'old', kind='network') as old:
        for f in (tmp_path / 'new').glob('*.*'):
            if f.name == 'config.json': (old / f.name).write_text(json.dumps({k: v for k, v in read_json(f).items() if k != 'min_side_hint'}))
            elif f.name != 'manifest.json': (old / f.name).write_bytes(f.read_bytes())
    network, meta = load_network(tmp_path / 'old')
    assert network.config.min_side_hint == meta['min_side_hint'] == 0 and preprocess_of(meta).min_side_hint is None
    np.testing.assert_array_equal(preprocess_of(meta).pixels(jpeg), fit_photo(read_photo(jpeg), 160, 182))


@pytest.mark.parametrize('hint', (100, -2, 181))
def test_a_hint_that_would_blur_is_refused(hint):
    with pytest.raises(Problem, match='must be 0 or at least resize 182'): NetworkConfig('resnet18', ('a', 'b'), 160, min_side_hint=hint)
