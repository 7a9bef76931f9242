"API keys: what lies on disk, what opens, and what happens when the file changes under a running server."
import stat

import pytest
from hypothesis import given, settings, strategies as st

from mlproject.core import Problem
from mlproject.serving.guarding import Guard, check_listening, create_key, is_loopback, needs, read_keys, revoke_key, take, token_of
from mlproject.serving.schemas import ServingError


def refused(guard, token, scope='predict'):
    with pytest.raises(ServingError) as e: guard.admit(token, scope)
    return e.value.code


def test_the_file_holds_no_secret_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path/'keys.json'
    token, key = create_key(path, 'a person', ('predict', 'viewer'))
    secret = token.split('_', 2)[2]
    assert secret not in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key in read_keys(path) and len(secret) == 43
    assert not [p for p in tmp_path.iterdir() if p != path and p.is_file()]


def test_every_wrong_token_looks_the_same(tmp_path):
    path = tmp_path/'keys.json'
    token, key = create_key(path, 'one')
    expired, _ = create_key(path, 'two', days=1e-9)
    revoked, gone = create_key(path, 'three')
    revoke_key(path, gone.id)
    guard = Guard(path)
    said = set()
    for wrong in (token[:-1] + ('A' if token[-1] != 'A' else 'B'), 'mlp_00000000_' + 'a' * 43, revoked, expired, 'x' * 10_000, 'mlp__', token + ' ', token.upper()):
        with pytest.raises(ServingError) as e: guard.admit(wrong, 'predict')
        said.add(e.value.detail)
        assert wrong not in e.value.detail
    assert len(said) == 1
    assert guard.admit(token, 'predict') == key


def test_scopes(tmp_path):
    token, _ = create_key(tmp_path/'keys.json', 'one', ('viewer',))
    guard = Guard(tmp_path/'keys.json')
    assert refused(guard, token) == 'forbidden' and guard.admit(token, ('predict', 'viewer'))
    with pytest.raises(Problem): create_key(tmp_path/'keys.json', 'x', ('root',))
    with pytest.raises(Problem): create_key(tmp_path/'keys.json', 'x', ())
    with pytest.raises(Problem): needs('root')


def test_a_mishap_with_the_file_never_opens_the_door(tmp_path):
    path, now = tmp_path/'keys.json', [0.]
    token, key = create_key(path, 'one')
    guard = Guard(path, clock=lambda: now[0])
    good = path.read_text()
    def later(): now[0] += 2
    path.write_text('{"version": 1, "keys": [')
    later()
    assert guard.admit(token, 'predict') and guard.fault and refused(guard, None) == 'unauthorized'
    path.write_text(good)
    later()
    assert guard.admit(token, 'predict') and not guard.fault
    path.unlink()
    later()
    assert refused(guard, token) == refused(guard, None) == 'unauthorized'
    path.write_text(good)
    later()
    assert guard.admit(token, 'predict') == key


def test_a_file_of_revoked_keys_is_no_invitation(tmp_path):
    _, key = create_key(tmp_path/'keys.json', 'one')
    revoke_key(tmp_path/'keys.json', key.id)
    assert refused(Guard(tmp_path/'keys.json'), None) == 'unauthorized'
    assert Guard(tmp_path/'none.json').admit(None, 'predict') is None


def test_a_server_becomes_guarded_when_its_first_key_is_made(tmp_path):
    now = [0.]
    guard = Guard(tmp_path/'keys.json', clock=lambda: now[0])
    assert guard.admit(None, 'predict') is None
    token, _ = create_key(tmp_path/'keys.json', 'one')
    now[0] += 2
    assert refused(guard, None) == 'unauthorized' and guard.admit(token, 'predict')


@settings(deadline=None, max_examples=80)
@given(st.floats(.1, 100), st.integers(1, 50), st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_a_bucket_lets_through_its_burst_and_its_rate_and_no_more(rate, burst, gaps):
    bucket, now, passed = [0.], 1000., 0
    for gap in gaps:
        now += gap
        passed += take(bucket, 0, rate, burst, now) == 0
    assert passed <= burst + rate * (now - 1000.) + 1e-6
    assert passed >= min(len(gaps), burst)


def test_who_waits_as_long_as_told_gets_through():
    bucket = [0.]
    while not (wait := take(bucket, 0, 3., 2, 10.)): pass
    assert take(bucket, 0, 3., 2, 10. + wait * .99) > 0 and take(bucket, 0, 3., 2, 10. + wait) == 0


def test_listening():
    for host in ('0.0.0.0', '::', '192.168.1.5', 'example.org', ''):
        assert not is_loopback(host)
        with pytest.raises(Problem): check_listening(host, Guard())
    for host in ('127.0.0.1', '127.9.9.9', '::1', 'localhost'): check_listening(host, Guard())


def test_tokens_in_headers():
    assert token_of(b'Bearer abc') == token_of('bearer abc') == token_of(None, 'abc') == 'abc'
    assert token_of(None) is None and token_of('') is None


def test_damaged_files_are_named(tmp_path):
    for text in ('[]', '{"version": 9, "keys": []}', '{"version": 1, "keys": [{"id": "x"}]}', 'nonsense'):
        (tmp_path/'k.json').write_text(text)
        with pytest.raises(Problem, match='k.json'): Guard(tmp_path/'k.json')
