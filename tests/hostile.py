"""Hostile and odd requests, made by code: what a stranger may send, and which HTTP statuses are right for it.

`hostile()` lists them for every test that wants to send them somewhere: through `read_request`, or through a server's door."""
import base64, io, json, struct, zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Callable

import cv2
import numpy as np
from PIL import Image, ImageCms

MIB = 2**20
JSON, FORM, RAW = 'application/json', 'multipart/form-data; boundary=cut', 'application/octet-stream'
GOOD, SYNTAX, LARGE, KIND, UNFIT = 200, 400, 413, 415, 422

@dataclass(frozen=True)
class Hostile:
    "One request and the statuses that are right for it."
    name: str
    content_type: str | None
    make: Callable[[], bytes]
    expected: frozenset
    query: str = ''
    heavy: bool = False   # seconds to make

    @cached_property
    def body(self) -> bytes: return self.make()

# pictures and their parts
def encoded(image, kind='JPEG', **options) -> bytes:
    image.save(out := io.BytesIO(), kind, **options)
    return out.getvalue()

def scene(width=320, height=240, mode='RGB') -> Image.Image:
    x = (np.arange(width) * 255 // width).astype(np.uint8)[None]
    y = (np.arange(height) * 255 // height).astype(np.uint8)[:, None]
    bands = [np.broadcast_to(b, (height, width)) for b in (x, y, x // 2 + y // 2, np.uint8(200))]
    n = len(Image.new(mode, (1, 1)).getbands())
    return Image.fromarray(np.dstack(bands[:n]), mode) if n > 1 else Image.fromarray(bands[0].copy()).convert(mode)

def noise(width, height, bands=3): return np.random.default_rng(0).integers(0, 256, (height, width, bands), dtype=np.uint8)
@lru_cache
def photo() -> bytes: return encoded(scene(), quality=90)
def half(data: bytes) -> bytes: return data[:len(data) // 2]
def in_middle(data: bytes, what: bytes) -> bytes: return data[:len(data) // 2] + what + data[len(data) // 2 + len(what):]

def segment(marker: int, content: bytes) -> bytes: return bytes([0xff, marker]) + struct.pack('>H', len(content) + 2) + content
def with_segments(*parts: bytes) -> bytes: return (p := photo())[:2] + b''.join(parts) + p[2:]
def claiming(width, height, **options) -> bytes:
    data = bytearray(encoded(scene(), **options))
    at = next(data.index(m) for m in (b'\xff\xc2', b'\xff\xc0') if m in data)
    data[at + 5:at + 9] = struct.pack('>HH', height, width)
    return bytes(data)
def frame_marker(marker: int) -> bytes: return (d := bytearray(photo())).replace(b'\xff\xc0', bytes([0xff, marker]), 1)
def scans(n: int, width=320, height=240) -> bytes:
    "A progressive JPEG whose last scan comes n times."
    data = encoded(scene(width, height), progressive=True)
    last = data[data.rindex(b'\xff\xda'):-2]
    return data[:-2] + last * n + data[-2:]
def profile(name: bytes = b'qQQB') -> bytes:
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    return made.replace(b's\0R\0G\0B', b'q\0Q\0Q\0B').replace(b'sRGB', name)
def rotated(n: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = n
    return exif
def overlapping_tags(n: int, size: int) -> bytes:
    "A TIFF structure whose n tags all claim the same `size` bytes."
    return (b'II*\0' + struct.pack('<I', 8 + size) + bytes(size) + struct.pack('<H', n)
            + b''.join(struct.pack('<HHII', 1 + i, 7, size, 8) for i in range(n)) + bytes(4))

def chunk(kind: bytes, content: bytes) -> bytes: return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
SIGNATURE = b'\x89PNG\r\n\x1a\n'
def png(*chunks: bytes, width=100, height=100, depth=8, colour=2, interlace=0, data: bytes | None = None) -> bytes:
    ihdr = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, interlace))
    data = zlib.compress(bytes((1 + 3 * width) * height)) if data is None else data
    return SIGNATURE + ihdr + b''.join(chunks) + chunk(b'IDAT', data) + chunk(b'IEND', b'')
def interlaced(width, height) -> bytes:
    "Adam7, 16 bits, with alpha and a profile: the dearest PNG."
    rows = 0
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        across, down = -(-(width - x0) // dx), -(-(height - y0) // dy)
        rows += down * (1 + 8 * across)
    packer = zlib.compressobj(1)
    packed = packer.compress(bytes(rows)) + packer.flush()
    return png(chunk(b'iCCP', b'p\0\0' + zlib.compress(profile())), width=width, height=height, depth=16, colour=6, interlace=1, data=packed)

def gif(*blocks: bytes, width=100, height=100) -> bytes:
    data = encoded(scene(100, 100, 'L'), 'GIF')
    start = data.index(b'\x2c', 13)
    return data[:6] + struct.pack('<HH', width, height) + data[10:start] + b''.join(blocks) + data[start:]
def bmp(width, height, bits=24, compression=0, header=40, body=b'') -> bytes:
    return (b'BM' + struct.pack('<IHHI', 54 + len(body), 0, 0, 54 + (1024 if bits == 8 else 0)) + struct.pack('<IiiHHIIiiII', header, width, height, 1, bits, compression, len(body), 0, 0, 256 if bits == 8 else 0, 0)
            + (bytes(1024) if bits == 8 else b'') + body)
def tiff(*tags, body=b'') -> bytes:
    "Little-endian TIFF of (tag, type, count, value); the body lies at offset 8."
    return b'II*\0' + struct.pack('<I', 8 + len(body)) + body + struct.pack('<H', len(tags)) + b''.join(struct.pack('<HHII', *t) for t in sorted(tags)) + bytes(4)
def tiff_strips(n: int) -> bytes:
    offsets = struct.pack('<I', 8) * n
    return tiff((256, 4, 1, 100), (257, 4, 1, 100), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, n, 8), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, n, 8), body=offsets)
def webp_canvas(side: int) -> bytes:
    size = struct.pack('<I', side - 1)[:3]
    return b'RIFF' + struct.pack('<I', 22) + b'WEBPVP8X' + struct.pack('<I', 10) + bytes(4) + size * 2

def pictures() -> dict:
    "name -> (how the file is made, statuses)."
    ok, no, never = {GOOD}, {KIND}, {UNFIT, KIND, LARGE}
    return {
        # not photos, whatever they are called
        'text': (lambda: b'hello, I am a photo', no), 'html': (lambda: b'<!DOCTYPE html><script>alert(1)</script>', no), 'zeros': (lambda: bytes(4096), no),
        'svg': (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', no), 'svg-entities': (lambda: b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "&#65;">]><svg>&a;</svg>', no),
        'svg-gzip': (lambda: zlib.compress(b'<svg/>', wbits=31), no), 'pdf': (lambda: b'%PDF-1.7\n' + bytes(99), no), 'zip': (lambda: b'PK\3\4' + bytes(99), no), 'mp4': (lambda: b'\0\0\0\x18ftypmp42' + bytes(99), no),
        'random-bytes': (lambda: b'\x07' + np.random.default_rng(1).bytes(9999), no), 'heic': (lambda: b'\0\0\0\x18ftypheic' + bytes(99), no), 'avif': (lambda: b'\0\0\0\x18ftypavif' + bytes(99), no),
        'jpeg2000': (lambda: b'\0\0\0\x0cjP  \r\n\x87\n' + bytes(99), no), 'jpeg-xl': (lambda: b'\xff\x0a' + bytes(99), no), 'icon': (lambda: b'\0\0\1\0' + bytes(99), no), 'photoshop': (lambda: b'8BPS' + bytes(99), no),
        'bigtiff': (lambda: b'II+\0\x08\0\0\0' + bytes(99), no), 'eps': (lambda: b'%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) run', no), 'ppm-huge': (lambda: b'P6 99999 99999 255\n', no),
        # JPEG
        'jpeg-soi-only': (lambda: b'\xff\xd8\xff', never), 'jpeg-half': (lambda: half(photo()), {UNFIT}), 'jpeg-damaged': (lambda: in_middle(photo(), b'\xff\xc4\0\2' + bytes(64)), {UNFIT, KIND}),
        'jpeg-claims-65500': (lambda: claiming(65500, 65500), {LARGE}), 'jpeg-claims-7000': (lambda: claiming(7000, 7000), {UNFIT}), 'jpeg-progressive-claims-7000': (lambda: claiming(7000, 7000, progressive=True), {LARGE, UNFIT}),
        'jpeg-no-size': (lambda: claiming(0, 0), never), 'jpeg-tiny': (lambda: encoded(scene(1, 1)), {UNFIT}), 'jpeg-100-scans': (lambda: scans(100), {UNFIT}), 'jpeg-12-bit': (lambda: photo().replace(b'\xff\xc0\0\x11\x08', b'\xff\xc0\0\x11\x0c'), never),
        'jpeg-arithmetic': (lambda: frame_marker(0xc9), never), 'jpeg-lossless': (lambda: frame_marker(0xc3), never), 'jpeg-hierarchical': (lambda: frame_marker(0xc5), never),
        'jpeg-two-frames': (lambda: (p := photo())[:(at := p.index(b'\xff\xc0'))] + p[at:at + 19] + p[at:], never), 'jpeg-cmyk': (lambda: encoded(scene(mode='CMYK')), ok), 'jpeg-grey': (lambda: encoded(scene(mode='L')), ok),
        'jpeg-rotated': (lambda: encoded(scene(), exif=rotated(6)), ok), 'jpeg-rotation-99': (lambda: encoded(scene(), exif=rotated(99)), ok), 'jpeg-exif-garbage': (lambda: with_segments(segment(0xe1, b'Exif\0\0' + bytes(range(256)) * 9)), ok),
        'jpeg-exif-overlapping': (lambda: with_segments(segment(0xe1, b'Exif\0\0' + overlapping_tags(2500, 30_000))), ok), 'jpeg-profile-garbage': (lambda: with_segments(segment(0xe2, b'ICC_PROFILE\0\1\1' + bytes(9999))), ok),
        'jpeg-profile': (lambda: encoded(scene(), icc_profile=profile()), ok), 'jpeg-profile-8MB': (lambda: with_segments(*(segment(0xe2, b'ICC_PROFILE\0' + bytes([i, 130]) + bytes(65_000)) for i in range(1, 131))), ok),
        'jpeg-2M-comments': (lambda: with_segments(b'\xff\xfe\0\2' * 2_000_000), {UNFIT}), 'jpeg-comments-between-scans': (lambda: (p := encoded(scene(), progressive=True))[:(at := p.rindex(b'\xff\xda'))] + b'\xff\xfe\0\2' * 2_000_000 + p[at:], {UNFIT}),
        'jpeg-fill-bytes': (lambda: with_segments(b'\xff' * 9_000_000), {GOOD, UNFIT}), 'jpeg-restarts': (lambda: photo()[:-2] + b'\xff\xd0' * 4_000_000 + b'\xff\xd9', {GOOD, UNFIT}), 'jpeg-nested-soi': (lambda: b'\xff\xd8' * 1_000_000 + photo(), {UNFIT}),
        'jpeg-and-zip': (lambda: photo() + b'PK\3\4' + bytes(999) + b'PK\5\6' + bytes(18), ok), 'jpeg-and-html': (lambda: with_segments(segment(0xfe, b'--><script>alert(1)</script>')), ok), 'jpeg-and-php': (lambda: photo() + b'<?php system($_GET[0]); ?>', ok),
        'jpeg-needle': (lambda: encoded(scene(20_000, 16)), ok), 'jpeg-and-8MB': (lambda: photo() + bytes(8 * MIB), ok),
        # PNG
        'png': (lambda: encoded(scene(), 'PNG'), ok), 'png-16-bit': (lambda: encoded(Image.fromarray(np.linspace(0, 65535, 60 * 80).reshape(60, 80).astype(np.uint16)), 'PNG'), ok), 'png-palette-alpha': (lambda: encoded(scene().quantize(16), 'PNG', transparency=3), ok),
        'png-alpha': (lambda: encoded(scene(mode='RGBA'), 'PNG'), ok), 'png-1-bit': (lambda: encoded(scene(mode='1'), 'PNG'), ok), 'apng': (lambda: encoded(scene(), 'PNG', save_all=True, append_images=[scene(320, 240, 'RGB').rotate(90)] * 5), ok), 'png-profile': (lambda: encoded(scene(), 'PNG', icc_profile=profile()), ok),
        'png-claims-60000': (lambda: png(width=60_000, height=60_000, data=zlib.compress(bytes(10**6))), {LARGE}), 'png-12MP': (lambda: png(width=4000, height=3000, data=b''), {LARGE}), 'png-no-width': (lambda: png(width=0), {UNFIT}), 'png-depth-3': (lambda: png(depth=3), never),
        'png-200MB-of-pixels': (lambda: png(data=zlib.compress(bytes(200_000_000), 9)), {GOOD, UNFIT}), 'png-too-few-pixels': (lambda: png(data=zlib.compress(bytes(99))), {UNFIT}), 'png-text-bombs': (lambda: png(*[chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(900_000)))] * 500), {GOOD, UNFIT}),
        'png-profile-bomb': (lambda: png(chunk(b'iCCP', b'a\0\0' + zlib.compress(bytes(100_000_000)))), {GOOD, UNFIT}), 'png-exif-overlapping': (lambda: png(chunk(b'eXIf', overlapping_tags(60_000, 8_000_000))), {GOOD, UNFIT}), 'png-800k-chunks': (lambda: png(chunk(b'tEXt', b'') * 800_000), {UNFIT}),
        'png-800k-pixel-chunks': (lambda: png(chunk(b'IDAT', b'') * 800_000), {UNFIT}), 'png-bad-checksum': (lambda: in_middle(encoded(scene(), 'PNG'), b'\0\0\0\0'), {UNFIT}), 'png-half': (lambda: half(encoded(scene(), 'PNG')), {UNFIT}), 'png-no-end': (lambda: encoded(scene(), 'PNG')[:-12], {UNFIT}),
        'png-huge-chunk': (lambda: SIGNATURE + b'\xff\xff\xff\xffIHDR', {UNFIT}), 'png-and-html': (lambda: encoded(scene(), 'PNG') + b'<script>alert(1)</script>', ok), 'png-signature-only': (lambda: SIGNATURE, {UNFIT}),
        # GIF
        'gif': (lambda: gif(), ok), 'gif-claims-65535': (lambda: gif(width=65535, height=65535), {LARGE}), 'gif-frame-beyond-screen': (lambda: gif(width=16, height=16), {GOOD, UNFIT}), 'gif-4M-comment-blocks': (lambda: gif(b'\x21\xfe' + b'\1x' * 4_000_000 + b'\0'), {UNFIT}),
        'gif-2M-comments': (lambda: gif(b'\x21\xfe\1x\0' * 1_800_000), {UNFIT}), 'gif-9MB-garbage': (lambda: gif(b'\0' * 9_000_000), {UNFIT}), 'gif-long-comment': (lambda: gif(b'\x21\xfe' + (b'\xff' + b'x' * 255) * 9000 + b'\0'), {GOOD, UNFIT}), 'gif-half': (lambda: half(gif()), {UNFIT}),
        'gif-500-frames': (lambda: encoded(scene(64, 64, 'P'), 'GIF', save_all=True, append_images=[scene(64, 64, 'P').rotate(i) for i in range(1, 500)]), ok), 'gif-and-javascript': (lambda: b'GIF89a/*' + bytes(20) + b'*/=1;alert(1)', never), 'gif-no-picture': (lambda: b'GIF89a' + struct.pack('<HHBBB', 99, 99, 0, 0, 0) + b';', {UNFIT}),
        # BMP, TIFF, WebP
        'bmp': (lambda: encoded(scene(), 'BMP'), ok), 'bmp-claims-60000': (lambda: bmp(60_000, -60_000), {LARGE}), 'bmp-run-length-bomb': (lambda: bmp(3000, 3000, 8, 1, body=b'\1\5' * 4_000_000), {KIND}), 'bmp-embedded-jpeg': (lambda: bmp(99, 99, 24, 4), {KIND}), 'bmp-3-bits': (lambda: bmp(99, 99, 3, body=bytes(9999)), never),
        'bmp-negative-width': (lambda: bmp(-99, 99, body=bytes(30_000)), never), 'bmp-header-only': (lambda: b'BM', {UNFIT}), 'bmp-strange-header': (lambda: bmp(99, 99, header=0xffffffff), never),
        'tiff': (lambda: encoded(scene(), 'TIFF'), ok), 'tiff-lzw-cmyk': (lambda: encoded(scene(mode='CMYK'), 'TIFF', compression='tiff_lzw'), ok), 'tiff-2M-strips': (lambda: tiff_strips(2_000_000), {UNFIT}), 'tiff-65535-tags': (lambda: tiff(*((i, 3, 1, 1) for i in range(65_535))), {UNFIT}),
        'tiff-jpeg-inside': (lambda: encoded(scene(), 'TIFF', compression='jpeg'), {KIND}), 'tiff-fax': (lambda: encoded(scene(mode='1'), 'TIFF', compression='group4'), {KIND}), 'tiff-lzma': (lambda: encoded(scene(), 'TIFF', compression='lzma'), {KIND}), 'tiff-float': (lambda: encoded(Image.fromarray(np.ones((99, 99), np.float32)), 'TIFF'), {KIND}),
        'tiff-directory-beyond-end': (lambda: b'II*\0\xff\xff\xff\x7f' + bytes(99), {UNFIT}), 'tiff-directory-is-itself': (lambda: b'II*\0\0\0\0\0' + bytes(99), {UNFIT}), 'tiff-claims-huge': (lambda: tiff((256, 4, 1, 2**31), (257, 4, 1, 2**31), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 8)), {LARGE, UNFIT}),
        'tiff-pages': (lambda: encoded(scene(), 'TIFF', save_all=True, append_images=[scene()] * 9), ok), 'tiff-overlapping': (lambda: overlapping_tags(500, 9_000_000), {UNFIT}),
        'webp': (lambda: encoded(scene(), 'WEBP'), ok), 'webp-animated': (lambda: encoded(scene(), 'WEBP', save_all=True, append_images=[scene().rotate(i) for i in range(1, 9)]), ok), 'webp-canvas-16M': (lambda: webp_canvas(2**24), {LARGE}), 'webp-canvas-2800': (lambda: webp_canvas(2800), {UNFIT}), 'webp-half': (lambda: half(encoded(scene(), 'WEBP')), {UNFIT}),
        'webp-length-lies': (lambda: (d := encoded(scene(), 'WEBP'))[:4] + b'\xff\xff\xff\x7f' + d[8:], {UNFIT}), 'webp-no-picture': (lambda: b'RIFF\4\0\0\0WEBP', {UNFIT}), 'webp-lossless-alpha': (lambda: encoded(scene(mode='RGBA'), 'WEBP', lossless=True), ok),
    }

def dear() -> dict:
    "The dearest photos of each format at its limit of pixels."
    ok = {GOOD}
    return {
        'jpeg-50MP': (lambda: encoded(scene(8160, 6120), quality=95, subsampling=0), ok), 'jpeg-50MP-rotated-profile': (lambda: encoded(scene(8160, 6120), quality=80, exif=rotated(6), icc_profile=profile()), ok), 'jpeg-10MP-profile-rotated': (lambda: encoded(scene(3640, 2740), quality=95, subsampling=0, exif=rotated(8), icc_profile=profile()), ok),
        'jpeg-cmyk-20MP': (lambda: encoded(scene(5160, 3870, 'CMYK'), quality=80), ok), 'jpeg-cmyk-4MP': (lambda: encoded(scene(2300, 1730, 'CMYK'), quality=80), ok), 'jpeg-progressive-24MP': (lambda: encoded(scene(5656, 4242), progressive=True, quality=90), ok), 'jpeg-progressive-444-39MP': (lambda: encoded(scene(7200, 5400), progressive=True, quality=80, subsampling=0), {LARGE}),
        'jpeg-noise-9MB': (lambda: cv2.imencode('.jpg', noise(3600, 3000), [1, 80])[1].tobytes(), ok),
        'jpeg-progressive-noise-9MB': (lambda: cv2.imencode('.jpg', noise(3300, 2800), [1, 85, 2, 1])[1].tobytes(), ok), 'jpeg-32-scans-12MP': (lambda: scans(22, 4000, 3000), {GOOD, UNFIT}), 'jpeg-needle-50MP': (lambda: encoded(scene(65_500, 760), quality=80), {GOOD, LARGE}),
        'png-10MP-noise': (lambda: encoded(Image.fromarray(noise(1790, 1790)), 'PNG', compress_level=1), ok), 'png-10MP-alpha': (lambda: encoded(scene(3640, 2740, 'RGBA'), 'PNG', compress_level=1, icc_profile=profile()), ok), 'png-10MP-interlaced-16-bit-alpha-profile': (lambda: interlaced(3640, 2740), ok),
        'gif-10MP': (lambda: encoded(scene(3640, 2740, 'L'), 'GIF', transparency=3), ok), 'webp-8MP': (lambda: encoded(scene(3200, 2500), 'WEBP', quality=95, method=0, icc_profile=profile()), ok), 'webp-8MP-lossless-alpha': (lambda: encoded(scene(3200, 2500, 'RGBA'), 'WEBP', lossless=True, method=0), ok),
        'webp-8MP-noise-rotated-profile': (lambda: encoded(Image.fromarray(noise(3200, 2500) // 2), 'WEBP', quality=40, method=0, exif=rotated(6), icc_profile=profile()), ok), 'png-10MP-alpha-rotated-profile': (lambda: encoded(scene(3640, 2740, 'RGBA'), 'PNG', compress_level=1, exif=rotated(6), icc_profile=profile()), ok),
        'tiff-10MP-deflate-alpha': (lambda: encoded(scene(3640, 2740, 'RGBA'), 'TIFF', compression='tiff_adobe_deflate', icc_profile=profile()), ok), 'bmp-3MP': (lambda: encoded(scene(2150, 1610), 'BMP'), ok),
    }

# requests
def part(name: str, content: bytes, filename: str | None = None, extra: str = '') -> bytes:
    about = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else '')
    return f'--cut\r\nContent-Disposition: {about}\r\n{extra}\r\n'.encode('utf-8', 'surrogateescape') + content + b'\r\n'
def form(*parts: bytes, end: bytes = b'--cut--\r\n') -> bytes: return b''.join(parts) + end
def b64(data: bytes) -> str: return base64.b64encode(data).decode()
def request(*items, **members) -> bytes: return json.dumps(dict(photos=list(items or [dict(data=b64(photo()))])) | members).encode()

def forms() -> dict:
    ok, one = {GOOD}, lambda: part('photos', photo(), 'fox.jpg')
    return {
        'form': (FORM, lambda: form(one(), part('photos', photo(), 'wolf.jpg'), part('top_k', b'3')), ok), 'form-no-boundary': ('multipart/form-data', lambda: form(one()), {SYNTAX}), 'form-other-boundary': ('multipart/form-data; boundary=other', lambda: form(one()), {SYNTAX}),
        'form-long-boundary': ('multipart/form-data; boundary=' + 'b' * 200, lambda: form(one()), {SYNTAX}), 'form-empty': (FORM, lambda: b'', {SYNTAX}), 'form-no-parts': (FORM, lambda: b'--cut--\r\n', {UNFIT}), 'form-cut-in-photo': (FORM, lambda: form(one())[:500], {SYNTAX}),
        'form-cut-at-end': (FORM, lambda: form(one())[:-6], {SYNTAX}), 'form-10000-parts': (FORM, lambda: form(part('photos', b'x') * 10_000), {LARGE}), 'form-33-photos': (FORM, lambda: form(one() * 33), {LARGE}), 'form-false-boundaries': (FORM, lambda: form(part('photos', b'\r\n--cut-' * 3_000_000)), {SYNTAX}),
        'form-boundary-prefixes': (FORM, lambda: form(part('photos', b'\r\n--cu' * 4_000_000)), {LARGE}), 'form-short-boundary': ('multipart/form-data; boundary=-', lambda: b'---\r\n' + b'\r\n' * 9_000_000, {SYNTAX, LARGE, UNFIT}), 'form-unknown-field': (FORM, lambda: form(one(), part('debug', b'1')), {UNFIT}),
        'form-top_k-twice': (FORM, lambda: form(one(), part('top_k', b'1'), part('top_k', b'2')), {UNFIT}), 'form-top_k-long': (FORM, lambda: form(one(), part('top_k', b'1' * 10**6)), {UNFIT}), 'form-top_k-and-query': (FORM, lambda: form(one(), part('top_k', b'1')), {UNFIT}, 'top_k=2'), 'form-no-name': (FORM, lambda: b'--cut\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--cut--\r\n', {SYNTAX}),
        'form-base64-part': (FORM, lambda: form(part('photos', b64(photo()).encode(), 'fox.jpg', 'Content-Transfer-Encoding: base64\r\n')), {SYNTAX}), 'form-1000-headers': (FORM, lambda: form(part('photos', b'x', extra='X-A: 1\r\n' * 1000)), {SYNTAX}), 'form-header-1MB': (FORM, lambda: form(part('photos', b'x', 'x' * MIB)), {SYNTAX}),
        'form-name-twice': (FORM, lambda: form(part('photos', photo(), extra='Content-Disposition: form-data; name="top_k"\r\n')), {SYNTAX}), 'form-header-garbage': (FORM, lambda: b'--cut\r\n\xff\xfe\0: x\r\n\r\nx\r\n--cut--\r\n', {SYNTAX}),
        'form-evil-filename': (FORM, lambda: form(part('photos', photo(), '../../etc/passwd\x1b[31m\0\udcff.jpg')), ok), 'form-bad-beside-good': (FORM, lambda: form(one(), part('photos', b'', 'empty.jpg'), part('photos', half(photo())), part('photos', b'<svg/>')), ok), 'form-only-bad': (FORM, lambda: form(part('photos', b'<svg/>')), {KIND}),
        'form-large-beside-good': (FORM, lambda: form(one(), part('photos', bytes(11 * MIB))), ok), 'form-empty-file': (FORM, lambda: form(part('photos', b'', 'fox.jpg')), {UNFIT}), 'form-form-inside': (FORM, lambda: form(part('photos', b'--in\r\n\r\nx\r\n--in--', extra='Content-Type: multipart/mixed; boundary=in\r\n')), {KIND}), 'form-boundary-quoted': ('Multipart/Form-Data; Charset=utf-8; Boundary="cut"', lambda: form(one()), ok),
        'form-preamble': (FORM, lambda: b'\r\n' * 1000 + form(one()), {GOOD, SYNTAX}), 'form-epilogue': (FORM, lambda: form(one()) + b'x' * MIB, ok), 'form-over-limit': (FORM, lambda: form(part('photos', bytes(33 * MIB))), {LARGE}),
    }

def jsons() -> dict:
    ok, good = {GOOD}, lambda: dict(data=b64(photo()))
    return {
        'json': (JSON, lambda: request(dict(good(), id='fox'), top_k=3, version='1'), ok), 'json-charset': ('application/json; charset=utf-8', lambda: request(), ok), 'json-bom': (JSON, lambda: b'\xef\xbb\xbf' + request(), ok), 'json-nulls': (JSON, lambda: request(dict(good(), id=None, url=None), version=None), ok), 'json-empty': (JSON, lambda: b'', {SYNTAX}),
        'json-cut': (JSON, lambda: request()[:-1], {SYNTAX}), 'json-two': (JSON, lambda: request() * 2, {SYNTAX}), 'json-deep-lists': (JSON, lambda: b'[' * 1_000_000, {SYNTAX, LARGE}), 'json-deep-500': (JSON, lambda: b'[' * 500 + b']' * 500, {SYNTAX, UNFIT}), 'json-deep-2000': (JSON, lambda: b'{"a":' * 1100 + b'1' + b'}' * 1100, {SYNTAX, UNFIT, LARGE}), 'json-10M-lists': (JSON, lambda: b'[' + b'[],' * 10_000_000 + b'[]]', {LARGE}),
        'json-15M-numbers': (JSON, lambda: b'{"photos":[' + b'1,' * 15_000_000 + b'1]}', {LARGE}), 'json-long-integer': (JSON, lambda: b'{"top_k":' + b'9' * 9_000_000 + b'}', {SYNTAX}), 'json-long-float': (JSON, lambda: b'{"top_k":1.' + b'9' * 9_000_000 + b'}', {SYNTAX, UNFIT}), 'json-1e999': (JSON, lambda: b'{"photos":[],"top_k":1e999}', {UNFIT}), 'json-nan': (JSON, lambda: b'{"top_k":NaN}', {SYNTAX}), 'json-infinity': (JSON, lambda: b'{"top_k":-Infinity}', {SYNTAX}),
        'json-surrogate-id': (JSON, lambda: request(dict(good(), id='fox\ud800')), ok), 'json-surrogate-data': (JSON, lambda: request(dict(data='\ud800\udfff' * 4)), {UNFIT}), 'json-surrogate-key': (JSON, lambda: b'{"\\ud800":1}', {UNFIT}), 'json-control-id': (JSON, lambda: request(dict(good(), id='\x1b[2J\0\u202e')), ok), 'json-long-id': (JSON, lambda: request(dict(good(), id='x' * 10**6)), {UNFIT}), 'json-raw-surrogate': (JSON, lambda: b'{"\xed\xa0\x80":1}', {SYNTAX}),
        'json-latin1': (JSON, lambda: '{"photos":[{"id":"é"}]}'.encode('latin-1'), {SYNTAX}), 'json-utf16': (JSON, lambda: request().decode().encode('utf-16'), {SYNTAX}), 'json-duplicate-photos': (JSON, lambda: request()[:-1] + b',' + request()[1:], {UNFIT}), 'json-duplicate-data': (JSON, lambda: request().replace(b'{"data"', b'{"data":"","data"'), {UNFIT}), 'json-unknown': (JSON, lambda: request(threshold=.1), {UNFIT}),
        'json-unknown-in-photo': (JSON, lambda: request(dict(good(), path='/etc/passwd')), {UNFIT}), 'json-proto': (JSON, lambda: b'{"__proto__":{"a":1}}', {UNFIT}), 'json-list': (JSON, lambda: b'[]', {UNFIT}), 'json-null': (JSON, lambda: b'null', {UNFIT}), 'json-string': (JSON, lambda: b'"x"', {UNFIT}), 'json-photos-object': (JSON, lambda: b'{"photos":{}}', {UNFIT}), 'json-photos-null': (JSON, lambda: b'{"photos":null}', {UNFIT}), 'json-no-photos': (JSON, lambda: b'{"photos":[]}', {UNFIT}),
        'json-1000-photos': (JSON, lambda: b'{"photos":[' + b'{"data":"x"},' * 999 + b'{"data":"x"}]}', {LARGE}), 'json-photo-string': (JSON, lambda: b'{"photos":["x"]}', {UNFIT}), 'json-photo-nothing': (JSON, lambda: b'{"photos":[{}]}', {UNFIT}), 'json-data-number': (JSON, lambda: b'{"photos":[{"data":5}]}', {UNFIT}), 'json-data-list': (JSON, lambda: b'{"photos":[{"data":[255,216]}]}', {UNFIT}), 'json-data-empty': (JSON, lambda: request(dict(data='')), {UNFIT}),
        'base64-bad-padding': (JSON, lambda: request(dict(data=b64(photo()).rstrip('=') + '===')), {UNFIT}), 'base64-url-alphabet': (JSON, lambda: request(dict(data='_-_-')), {UNFIT}), 'base64-garbage-inside': (JSON, lambda: request(dict(data=b64(photo())[:99] + '!' + b64(photo())[99:])), {UNFIT}), 'base64-stops-early': (JSON, lambda: request(dict(data='QUJD====' + b64(photo()))), {UNFIT}), 'base64-of-base64': (JSON, lambda: request(dict(data=b64(b64(photo()).encode()))), {KIND}),
        'base64-lines': (JSON, lambda: request(dict(data='\r\n'.join(b64(photo())[i:i + 76] for i in range(0, 9999, 76) if b64(photo())[i:i + 76]))), ok), 'base64-29MB-of-spaces': (JSON, lambda: request(dict(data=' ' * 29_000_000)), {UNFIT}), 'base64-20MB': (JSON, lambda: request(dict(data='A' * 20_000_000)), {LARGE}), 'base64-svg': (JSON, lambda: request(dict(data=b64(b'<svg/>'))), {KIND}), 'base64-bad-beside-good': (JSON, lambda: request(good(), dict(data='?'), dict(data='')), ok),
        'data-url': (JSON, lambda: request(dict(data='data:image/jpeg;base64,' + b64(photo()))), ok), 'data-url-plain': (JSON, lambda: request(dict(data='data:text/html,<script>')), {UNFIT}), 'data-url-no-comma': (JSON, lambda: request(dict(data='data:image/jpeg;base64' + 'x' * 10**6)), {UNFIT}), 'data-url-svg': (JSON, lambda: request(dict(data='data:image/svg+xml;base64,' + b64(b'<svg/>'))), {KIND}),
        'url-off': (JSON, lambda: request(dict(url='https://images.org/fox.jpg')), {UNFIT}), 'url-metadata': (JSON, lambda: request(dict(url='http://169.254.169.254/latest/meta-data/')), {UNFIT}), 'url-file': (JSON, lambda: request(dict(url='file:///etc/passwd')), {UNFIT}), 'url-data': (JSON, lambda: request(dict(url='data:image/jpeg;base64,' + b64(photo()))), {UNFIT}), 'url-and-data': (JSON, lambda: request(dict(good(), url='https://images.org/')), {UNFIT}), 'url-number': (JSON, lambda: request(dict(url=5)), {UNFIT}),
        **{f'top_k-{name}': (JSON, lambda value=value: b'{"photos":[],"top_k":%b}' % value, {UNFIT}) for name, value in dict(zero=b'0', negative=b'-1', large=b'1000000000', half=b'1.5', true=b'true', text=b'"5"', null=b'null', list=b'[5]').items()},
        'version-path': (JSON, lambda: request(version='../../etc'), {UNFIT}), 'version-newline': (JSON, lambda: request(version='1\n'), {UNFIT}), 'version-long': (JSON, lambda: request(version='1' * 10**6), {UNFIT}), 'version-number': (JSON, lambda: request(version=1), {UNFIT}),
        'json-emoji-30MB': (JSON, lambda: b'{"photos":[{"data":"' + '\U0001f98a'.encode() * 7_500_000 + b'"}]}', {LARGE}), 'json-umlauts-30MB': (JSON, lambda: b'{"photos":[{"data":"' + 'ж'.encode() * 15_000_000 + b'"}]}', {UNFIT, LARGE}), 'json-escapes-30MB': (JSON, lambda: b'{"photos":[{"data":"' + b'\\u0041' * 5_000_000 + b'"}]}', {KIND}), 'json-over-limit': (JSON, lambda: b' ' * (33 * MIB), {LARGE}), 'json-32MB-of-spaces': (JSON, lambda: b' ' * (32 * MIB), {SYNTAX}),
    }

def headers() -> dict:
    return {
        'raw': ('image/jpeg', photo, {GOOD}), 'raw-no-type': (None, photo, {GOOD}), 'raw-other-type': ('image/png', photo, {GOOD}), 'raw-octets': (RAW, photo, {GOOD}), 'raw-empty': ('image/jpeg', lambda: b'', {UNFIT}), 'raw-over-limit': (RAW, lambda: bytes(33 * MIB), {LARGE}), 'raw-over-photo-limit': ('image/jpeg', lambda: photo() + bytes(11 * MIB), {LARGE}), 'raw-svg-type': ('image/svg+xml', lambda: b'<svg/>', {KIND}),
        'type-text': ('text/plain', photo, {KIND}), 'type-curl': ('application/x-www-form-urlencoded', photo, {KIND}), 'type-pickle': ('application/x-pickle', lambda: b'cos\nsystem\n(S"id"\ntR.', {KIND}), 'type-json-but-photo': (JSON, photo, {SYNTAX}), 'type-form-but-photo': (FORM, photo, {SYNTAX}), 'type-nonsense': (';;;=,"', photo, {KIND}), 'type-long': ('image/jpeg; ' + 'a=b; ' * 1000, photo, {GOOD, KIND}), 'type-not-ascii': ('imägé/jpeg', photo, {KIND}), 'type-mixed': ('multipart/mixed; boundary=cut', lambda: form(part('photos', photo())), {KIND}),
        **{f'query-{name}': ('image/jpeg', photo, {status}, query) for name, query, status in (('good', 'top_k=3&version=1', GOOD), ('text', 'top_k=abc', UNFIT), ('empty', 'top_k=', UNFIT), ('twice', 'top_k=1&top_k=1', UNFIT), ('unknown', 'debug=1', UNFIT), ('100-fields', '&'.join(f'a{i}=1' for i in range(100)), SYNTAX), ('zero', 'top_k=0', UNFIT), ('digits', 'top_k=' + '9' * 5000, UNFIT), ('arabic-digit', 'top_k=%D9%A3', UNFIT), ('nul', 'version=%00', UNFIT), ('broken-escape', 'version=%zz%ff', UNFIT))},
    }

@lru_cache(maxsize=1)
def hostile() -> tuple[Hostile, ...]:
    "Every request, cheap ones first."
    made = [Hostile(name, RAW, make, frozenset(expected)) for name, (make, expected) in pictures().items()]
    made += [Hostile(name, kind, make, frozenset(expected), *rest) for name, (kind, make, expected, *rest) in (headers() | forms() | jsons()).items()]
    return (*made, *(Hostile(name, RAW, make, frozenset(expected), heavy=True) for name, (make, expected) in dear().items()))
