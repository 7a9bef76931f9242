"""Training as a whole: it can be killed, repeated, misused and left without a network."""
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from mlproject.core import Problem
from mlproject.training import fitting, networks
from mlproject.training.checkpoints import load_network, weights_digest
from mlproject.training.datasets import epoch_batches, photos_of
from mlproject.training.fitting import fit
from mlproject.training.jobs import prepare
from mlproject.training.networks import backbones, find_weights
from mlproject.training.recipes import FINETUNE, SCRATCH, Recipe
from mlproject.training.transforms import N_DRAWS, Augment, crop_boxes

EPOCHS = 6
OPTIONS = dict(backbone='shufflenet_v2_x0_5', weights='none', threads=1, device='cpu', downloads=False, checkpoint_every=0,
               overrides=dict(epochs=EPOCHS, batch_size=8, image_size=32, average=.9, precision='float32', mixup=.2, jitter=.3, erase=.3))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp('photos'), np.random.default_rng(0)
    kinds = np.arange(32) % 2
    for i, kind in enumerate(kinds):
        rgb = rng.integers(0, 120, (40, 50, 3), dtype=np.uint8)
        rgb[..., kind] += 100
        Image.fromarray(rgb).save(folder / f'{i}.png')
    return photos_of([folder / f'{i}.png' for i in range(32)], kinds)


def train(photos, out, cache, **changes):
    changes = {'quiet': True} | changes
    return fit(photos.take(range(24)), photos.take(range(24, 32)), ('red', 'green'), out, cache_dir=cache, **OPTIONS | changes)


def test_killed_training_ends_like_an_undisturbed_one(photos, tmp_path):
    """SIGKILL after the third epoch, in a process of its own; the next call continues and ends with the same weights."""
    script = f'''
import sys, time, torch
sys.path.insert(0, {os.path.dirname(__file__)!r})
import numpy as np
from mlproject.training.datasets import photos_of
from mlproject.training.tracking import NullTracker
from test_training import train

class Slow(NullTracker):
    def metrics(self, values, step):
        print("epoch", step, flush=True)
        if step == 4: time.sleep(60)

if __name__ == "__main__":
    train(photos_of({list(photos.paths)!r}, {photos.y.tolist()!r}), {str(tmp_path / "killed")!r}, {str(tmp_path)!r}, tracker=Slow())
'''
    child = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if line.strip() == 'epoch 4': break
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    killed = train(photos, tmp_path / 'killed', tmp_path)
    whole = train(photos, tmp_path / 'whole', tmp_path)
    assert (killed.resumed, whole.resumed) == (3, 0)
    assert killed.digest == whole.digest and killed.history == whole.history
    for name in ('model.safetensors', 'config.json', 'history.json', 'manifest.json'):
        assert (tmp_path / 'killed' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_a_truncated_checkpoint_costs_time_not_the_result(photos, tmp_path, capsys):
    class Stop(fitting.NullTracker):
        def metrics(self, values, step):
            if step == 3: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): train(photos, tmp_path / 'a', tmp_path, tracker=Stop())
    checkpoint = tmp_path / 'a' / '.resume' / 'checkpoint.safetensors'
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    result = train(photos, tmp_path / 'a', tmp_path)
    assert result.resumed == 0 and 'damaged and ignored' in capsys.readouterr().err
    assert result.digest == train(photos, tmp_path / 'b', tmp_path).digest
    assert not checkpoint.exists()


def test_stored_network_is_the_one_that_was_judged(photos, tmp_path):
    result = train(photos, tmp_path / 'n', tmp_path, overrides=OPTIONS['overrides'] | dict(patience=2))
    network, meta = load_network(tmp_path / 'n')
    assert weights_digest(network) == result.digest == meta['weights_digest']
    job = prepare(photos.take(range(24)), photos.take(range(24, 32)), ('red', 'green'), cache_dir=tmp_path,
                  **{k: v for k, v in OPTIONS.items() if k != 'checkpoint_every'})
    assert fitting.judge(network, job.validation, job.validation_y) == result.validation == meta['validation']


def test_global_state_of_torch_is_left_alone(photos, tmp_path):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.random.get_rng_state()
    train(photos, tmp_path / 'n', tmp_path, overrides=OPTIONS['overrides'] | dict(epochs=1))
    assert before[:2] == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    assert torch.equal(before[2], torch.random.get_rng_state())


@pytest.mark.parametrize('changes, said', [
    (dict(backbone='resnet81'), 'did you mean resnet18'),
    (dict(weights='/nowhere.pth'), 'does not exist'),
    (dict(recipe='fast'), 'allowed: auto, scratch, finetune'),
    (dict(overrides=dict(learning_rate=.1)), 'a recipe has no'),
    (dict(overrides=dict(lr='high')), "lr = 'high' does not fit"),
    (dict(overrides=dict(freeze=7)), 'number from 0 to 1'),
    (dict(device='tpu'), 'allowed: auto, cpu'),
    (dict(overrides=dict(image_size=32, resize=20)), 'at least image_size'),
])
def test_mistakes_are_one_line(photos, tmp_path, changes, said):
    with pytest.raises(Problem, match=said) as e:
        train(photos, tmp_path / 'n', tmp_path, **changes)
    assert '\n' not in str(e.value) and not (tmp_path / 'n').exists()


@pytest.mark.parametrize('trouble', ['silent server', 'silent name server', 'no network'])
def test_offline_machine_goes_on_within_seconds(trouble, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    with socket.create_server(('127.0.0.1', 0)) as silent:
        port = silent.getsockname()[1] if trouble == 'silent server' else 9
        monkeypatch.setattr(networks, 'hub_url', lambda name: f'http://127.0.0.1:{port}/resnet18-0000000000.pth')
        if trouble == 'silent name server': monkeypatch.setattr(socket, 'getaddrinfo', lambda *a, **k: time.sleep(60))
        start = time.monotonic()
        assert not find_weights('auto', 'resnet18', tmp_path, timeout=.5).pretrained
    assert time.monotonic() - start < 20
    assert 'from scratch' in (said := capsys.readouterr().err) and said.count('\n') == 1


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32), st.floats(.01, 1))
@settings(max_examples=60, deadline=None)
def test_crops_lie_within_the_photo(h, w, seed, small):
    u = np.random.default_rng(seed).random((20, N_DRAWS))
    top, left, height, width = crop_boxes(u, np.full(20, h), np.full(20, w), Augment(scale=(small, 1))).T
    assert (top >= 0).all() and (left >= 0).all() and (height >= 1).all() and (width >= 1).all()
    assert (top + height <= h).all() and (left + width <= w).all()


@given(st.integers(2, 200), st.integers(2, 64), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_an_epoch_takes_each_photo_at_most_once_and_nearly_all(n, size, epoch):
    batches = epoch_batches(n, size, 0, epoch)
    assert len(batches) >= 1 and len(np.unique(batches)) == batches.size
    assert n - batches.size < min(n, size)


@pytest.mark.parametrize('recipe', [SCRATCH, FINETUNE])
def test_recipe_survives_a_command_line(recipe):
    text = {k: ','.join(map(str, v)) if isinstance(v, tuple) else str(v) for k, v in asdict(recipe).items()}
    assert Recipe(**text) == recipe


@pytest.mark.slow
@pytest.mark.parametrize('name', [b for b in backbones() if not b.endswith(('_128gf', '_32gf', 'h_14', 'l_16', 'l_32', '_l', 'b7', 'b6'))])
def test_every_backbone_splits_into_body_and_head(name):
    size = 224 if name.startswith(('vit', 'maxvit', 'swin')) else 96
    network = networks.make_network(networks.NetworkConfig(name, ('a', 'b', 'c'), size))
    with torch.no_grad():
        x = torch.zeros(2, 3, size, size)
        assert network.embed(x).shape == (2, network.embedding_size) and network(x).shape == (2, 3)
