"""Photos by address: real servers on loopback, which only an argument (no setting) makes count as public."""
import asyncio, datetime, ipaddress, ssl

import pytest
from hypothesis import given, strategies as st

from mlproject.serving.fetching import FetchRules, Fetcher, check_url, host_allowed, is_public
from mlproject.serving.inputs import Incoming, Request
from mlproject.serving.limits import Limits
from mlproject.serving.schemas import ServingError

LOOPBACK = (ipaddress.ip_network('127.0.0.0/8'),)
FOX = b'\xff\xd8\xff' + bytes(range(256)) * 40

class Server:
    "A server whose answers are bytes by path, or coroutines that write; remembers the requests."
    def __init__(self, answers: dict, address='127.0.0.1', tls=None): self.answers, self.address, self.tls, self.heads, self.wrote = answers, address, tls, [], 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, self.address, 0, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self
    async def __aexit__(self, *_): self.server.close()

    async def serve(self, reader, writer):
        try:
            while True:
                self.heads.append((await reader.readuntil(b'\r\n\r\n')).decode())
                answer = self.answers[self.heads[-1].split()[1]]
                if callable(answer): await answer(self, writer)
                else: writer.write(answer)
                await writer.drain()
                if callable(answer): break
        except (ConnectionError, asyncio.IncompleteReadError): pass
        finally: writer.close()

def ok(body=FOX, *lines): return ('HTTP/1.1 200 OK\r\n' + ''.join(l + '\r\n' for l in (f'Content-Length: {len(body)}', *lines)) + '\r\n').encode() + body
def to(where, status=302): return f'HTTP/1.1 {status} Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n'.encode()

def names(table, calls=None):
    async def resolver(host, port):
        if calls is not None: calls.append(host)
        found = table.get(host, [])
        return found.pop(0) if found and isinstance(found[0], list) else found
    return resolver

def fetcher(port, table=None, calls=None, trusted=LOOPBACK, limits=None, **options):
    return Fetcher(limits or Limits(urls=('images.org', '*.images.org'), photo_bytes=100_000), FetchRules(**dict(ports=(port,), seconds=5.) | options.pop('rules', {})),
                   resolver=names({'images.org': ['127.0.0.1'], 'a.images.org': ['127.0.0.1']} if table is None else table, calls), trusted=trusted, **options)

def told(f, url) -> ServingError:
    async def go():
        with pytest.raises(ServingError) as caught: await f.fetch(url, 'photos[0].url')
        await f.close()
        return caught.value
    return go()

def served(answers, path='/fox', table=None, **options):
    "The error of fetching `path` from a server, and the server."
    async def go():
        async with Server(answers) as s: return await told(fetcher(s.port, table, **options), f'http://images.org:{s.port}{path}'), s
    return asyncio.run(go())

def test_a_photo_is_fetched_with_the_right_host_and_nothing_more():
    async def go():
        async with Server({'/fox?a=b': ok()}) as s:
            f = fetcher(s.port)
            assert await f.fetch(f'http://images.org:{s.port}/fox?a=b#part') == FOX
            await f.close()
            return s
    s = asyncio.run(go())
    head = s.heads[0].lower()
    assert head.startswith('get /fox?a=b http/1.1') and f'host: images.org:{s.port}\r\n' in head and 'accept-encoding: identity' in head
    assert 'cookie' not in head and 'authorization' not in head

@pytest.mark.parametrize('status', [301, 302, 303, 307, 308])
def test_redirects_are_followed_within_the_list(status):
    async def go():
        async with Server({}) as s:
            s.answers |= {'/1': to('/2', status), '/2': to(f'http://a.images.org:{s.port}/fox', status), '/fox': ok()}
            f = fetcher(s.port)
            assert await f.fetch(f'http://images.org:{s.port}/1') == FOX
            await f.close()
    asyncio.run(go())

@pytest.mark.parametrize('where', ['http://169.254.169.254/latest/meta-data/', 'http://127.0.0.1/', 'http://localhost/', 'http://[::1]/', 'http://[::ffff:10.0.0.1]/', 'http://2130706433/', 'http://0x7f.1/', 'https://evil.net/',
                                   'file:///etc/passwd', 'gopher://images.org/', 'ftp://images.org/', '//evil.net/', 'http://images.org@evil.net/', 'http://user:pw@images.org/', 'http://images.org:22/', 'http://images.org.evil.net/', 'javascript:alert(1)', 'http://[', 'http://images.org:99999/', '\\\\evil.net\\x'])
def test_a_redirect_out_of_the_list_is_refused(where):
    e, s = served({'/fox': to(where)}, rules={})
    assert e.code == 'url_refused' and e.field == 'photos[0].url' and len(s.heads) == 1

def test_a_redirect_to_an_allowed_name_with_a_private_address_is_refused():
    for address in ('10.0.0.1', '169.254.169.254', '::1', 'fe80::1%eth0', '::ffff:192.168.1.1', '0.0.0.0', 'nonsense'):
        async def go():
            async with Server({}) as s:
                s.answers['/fox'] = to(f'http://inside.images.org:{s.port}/')
                return await told(fetcher(s.port, {'images.org': ['127.0.0.1'], 'inside.images.org': [address]}), f'http://images.org:{s.port}/fox')
        e = asyncio.run(go())
        assert e.code == 'url_refused' and 'not public' in e.detail and address not in e.detail

def test_circles_end():
    e, s = served({'/fox': to('/fox')})
    assert e.code == 'url_refused' and len(s.heads) == 4

def test_a_name_is_resolved_once_and_that_address_is_used():
    "Rebinding: public when it is checked, the metadata service a moment later. There is no later: one look, one address."
    calls = []
    async def go():
        async with Server({'/fox': ok()}, '127.0.0.2') as s:
            f = fetcher(s.port, {'images.org': [['127.0.0.2'], ['169.254.169.254'], ['127.0.0.1']]}, calls)
            assert await f.fetch(f'http://images.org:{s.port}/fox') == FOX
            await f.close()
            return await told(f2 := fetcher(s.port, {'images.org': [['169.254.169.254']]}), f'http://images.org:{s.port}/fox')
    e = asyncio.run(go())
    assert calls == ['images.org'] and e.code == 'url_refused'

def test_one_inner_address_among_public_ones_is_too_many():
    e, s = served({'/fox': ok()}, table={'images.org': ['8.8.8.8', '10.0.0.1']})
    assert e.code == 'url_refused' and not s.heads

def test_the_next_address_is_tried_when_one_is_deaf():
    async def go():
        async with Server({'/fox': ok()}, '127.0.0.2') as s:
            f = fetcher(s.port, {'images.org': ['127.0.0.3', '127.0.0.2']})
            assert await f.fetch(f'http://images.org:{s.port}/fox') == FOX
            await f.close()
    asyncio.run(go())

def test_loopback_is_refused_whatever_the_list_says():
    "The system's own resolver, the list with localhost on it, no argument for tests: nothing arrives."
    async def go():
        async with Server({'/fox': ok()}) as s:
            f = Fetcher(Limits(urls=('localhost', '127.0.0.1')), FetchRules(ports=(s.port,)))
            errors = [await told(f, f'http://{host}:{s.port}/fox') for host in ('localhost', '127.0.0.1')]
            return errors, s
    errors, s = asyncio.run(go())
    assert [e.code for e in errors] == ['url_refused'] * 2 and not s.heads

def test_nothing_is_fetched_by_default():
    assert asyncio.run(told(Fetcher(Limits()), 'https://images.org/fox.jpg')).code == 'url_refused'

def test_proxies_of_the_environment_are_not_used(monkeypatch):
    async def go():
        async with Server({'/fox': ok()}) as s, Server({}) as proxy:
            for name in ('http_proxy', 'HTTP_PROXY', 'ALL_PROXY'): monkeypatch.setenv(name, f'http://127.0.0.1:{proxy.port}')
            f = fetcher(s.port)
            assert await f.fetch(f'http://images.org:{s.port}/fox') == FOX and not proxy.heads
            await f.close()
    asyncio.run(go())

async def endless(server, writer):
    writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
    for _ in range(2000):
        writer.write(b'4000\r\n' + bytes(0x4000) + b'\r\n')
        await writer.drain()
        server.wrote += 0x4000
async def drip(server, writer):
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
    for _ in range(200):
        writer.write(b'x')
        await writer.drain()
        await asyncio.sleep(.05)
async def silent(server, writer): await asyncio.sleep(5)
async def hang_up(server, writer): writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort')
async def long_head(server, writer):
    writer.write(b'HTTP/1.1 200 OK\r\n')
    for _ in range(2000):
        writer.write(b'X-A: ' + b'x' * 1000 + b'\r\n')
        await writer.drain()

@pytest.mark.parametrize('answer,code', [
    (endless, 'too_large'), (ok(bytes(100_001)), 'too_large'), (b'HTTP/1.1 200 OK\r\nContent-Length: ' + b'9' * 500 + b'\r\n\r\n', 'too_large url_failed'), (drip, 'url_failed'), (silent, 'url_failed'), (hang_up, 'url_failed'), (long_head, 'url_failed'),
    (b'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', 'url_failed'), (b'HTTP/1.1 204 No Content\r\n\r\n', 'url_failed'), (b'HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n', 'url_failed'), (b'SSH-2.0-OpenSSH_9.2\r\n' * 9, 'url_failed'), (b'\0' * 99 + b'\r\n\r\n', 'url_failed'),
    (ok(FOX, 'Content-Encoding: gzip'), 'url_failed'), (ok(FOX, 'Content-Encoding: br, gzip'), 'url_failed'), (b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef', 'url_failed'), (b'HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n', 'url_failed')])
def test_a_bad_answer_is_that_photos_error(answer, code):
    e, s = served({'/fox': answer}, rules=dict(seconds=.7))
    assert e.code in code and 400 <= e.status < 500 and e.field == 'photos[0].url'
    assert s.wrote < 8_000_000   # what lies in the sockets' buffers

def test_a_host_without_an_address_or_without_a_server():
    assert served({}, table={})[0].code == 'url_failed'
    assert asyncio.run(told(fetcher(1), 'http://images.org:1/')).code == 'url_failed'

def certificate(folder, *hosts):
    "A self-signed certificate for the hosts: (server's context, client's context)."
    x509 = pytest.importorskip('cryptography.x509')
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])]), datetime.datetime.now(datetime.timezone.utc)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1).not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), False).add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256()))
    (folder / 'cert.pem').write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / 'key.pem').write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / 'cert.pem', folder / 'key.pem')
    return server, ssl.create_default_context(cafile=folder / 'cert.pem')

def test_tls_verifies_the_name_not_the_address(tmp_path):
    server, client = certificate(tmp_path, 'images.org')
    asked = []
    server.sni_callback = lambda socket, name, context: asked.append(name)
    async def go():
        async with Server({'/fox': ok(), '/down': None}, tls=server) as s:
            s.answers['/down'] = to(f'http://images.org:{s.port}/fox')
            f = fetcher(s.port, tls=client)
            assert await f.fetch(f'https://images.org:{s.port}/fox') == FOX
            down = await told(f, f'https://images.org:{s.port}/down')
            return down, await told(fetcher(s.port, tls=client), f'https://a.images.org:{s.port}/fox'), await told(fetcher(s.port), f'https://images.org:{s.port}/fox')
    down, other, unknown = asyncio.run(go())
    assert set(asked) == {'images.org', 'a.images.org'}
    assert down.code == 'url_refused' and 'https to http' in down.detail
    assert other.code == unknown.code == 'url_failed'   # another name; a certificate that nobody vouches for

def test_a_request_is_filled_in_order_and_each_photo_has_its_own_error():
    async def go():
        async with Server({'/1': ok(b'one'), '/2': ok(b'two'), '/empty': ok(b'')}) as s:
            f, base = fetcher(s.port), f'http://images.org:{s.port}'
            sent = [Incoming('a', url=base + '/1'), Incoming('b', b'bytes'), Incoming('c', url='http://evil.net/'), Incoming('d', url=base + '/2', id='x'), Incoming('e', url=base + '/empty'), Incoming('f', error=ServingError('empty'))]
            filled = await f.fill(Request(tuple(sent), top_k=7))
            await f.close()
            return filled
    r = asyncio.run(go())
    assert [p.data for p in r.photos] == [b'one', b'bytes', None, b'two', None, None] and r.top_k == 7 and r.photos[3].id == 'x'
    assert [p.error and p.error.code for p in r.photos] == [None, None, 'url_refused', None, 'empty', 'empty'] and not any(p.url for p in r.photos)

def test_the_photos_of_a_request_together_have_a_limit():
    async def go():
        async with Server({'/fox': ok()}) as s:
            f = fetcher(s.port, limits=Limits(urls=('images.org',), body_bytes=3 * len(FOX)), rules=dict(at_once=1))
            filled = await f.fill(Request(tuple(Incoming(str(i), url=f'http://images.org:{s.port}/fox') for i in range(8))))
            await f.close()
            return filled
    found = asyncio.run(go()).photos
    assert sum(p.data is not None for p in found) == 3 and {p.error.code for p in found if p.error} == {'too_large'}

@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_what_it_carries(ip):
    assert is_public(ip) == is_public(f'::ffff:{ip}') == is_public(ipaddress.IPv6Address(int(ipaddress.ip_address('64:ff9b::')) + int(ip)))
    if any(ip in ipaddress.ip_network(n) for n in ('0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16', '224.0.0.0/3')): assert not is_public(ip)

@given(st.ip_addresses(v=6, network='::/8') | st.ip_addresses(v=6, network='fc00::/6') | st.ip_addresses(v=6, network='2001::/23') | st.ip_addresses(v=6, network='2002::/16'))
def test_special_ipv6_addresses_are_not_public(ip):
    if ip.ipv4_mapped is None: assert not is_public(ip) or ip in ipaddress.ip_network('2001::/23')

@given(st.text(max_size=60) | st.builds('http://{}/{}'.format, st.text(max_size=20), st.text(max_size=20)) | st.builds('https://images.org{}'.format, st.text(max_size=20)))
def test_any_text_is_an_allowed_address_or_refused(url):
    try: parts = check_url(url, ('images.org', '*.images.org'))
    except ServingError as e: assert e.code == 'url_refused' and e.detail.isprintable()
    else: assert parts.scheme in ('http', 'https') and host_allowed(parts.netloc, ('images.org', '*.images.org')) and parts.geturl().isascii()

@pytest.mark.parametrize('url', ['https://user@images.org/', 'https://user:pw@images.org/', 'https://@images.org/', 'https://images.org:8080/', 'https://images.org:0/', 'ftp://images.org/', 'https:///images.org/', 'https:images.org', '//images.org/', 'images.org/',
                                 'https://images.org.evil.net/', 'https://evil.net#images.org', 'https://evil.net?@images.org/', 'https://evil.net\\\\@images.org/', 'https://images.org\n.evil.net/', 'https://images.org /', 'https://im\u0430ges.org/', 'https://[::1]/', 'https://images.org/' + 'x' * 2048])
def test_an_address_outside_the_list_is_refused(url):
    assert check_url('https://images.org/', ('images.org',)).port is None
    with pytest.raises(ServingError, match='url_refused'): check_url(url, ('images.org',))

def test_a_suffix_is_below_not_beside():
    assert host_allowed('a.b.images.org', ['*.images.org']) and not host_allowed('images.org', ['*.images.org'])
    assert not host_allowed('evilimages.org', ['*.images.org', 'images.org']) and not host_allowed('', ['*.images.org'])
