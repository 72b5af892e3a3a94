"""Makes the golden files of pictures: small files of every kind, and what Python makes of them.

    python -m venv venv && venv/bin/pip install -r xtask/golden/requirements.txt
    venv/bin/python xtask/golden/pictures.py [FILES MODELS]

`crates/s3t-data/tests/golden-pictures` gets the files, `cases.json` with one case a line, and `expected.bin` with the pixels
that `load_image` and `ViTImageProcessorPil` of transformers give, one case behind the other, as rows of interleaved channels.
A case has

- `file`: the file;
- `kind`: what it shows, for the report of the largest difference;
- `channels`, `steps`: what is done with it behind `load_image`; 3 and nothing by default;
- `height`, `width`: the result's; or `refused`: what Pillow says, or that it reads the file all the same.

`crates/s3t/tests/golden-pictures` gets two tiny ViT models with `cases.json`: a model, a picture of the folder above, a
preprocessor_config.json, and the logits. Made with Pillow 13.0.0, torch 2.15.0 and transformers 5.24.0.
"""

import io
import json
import random
import shutil
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy
import torch
import transformers
from PIL import Image, TiffImagePlugin
from transformers.image_utils import load_image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
ROOT = Path(__file__).parents[2] / "crates"
GIVEN = [Path(folder) for folder in sys.argv[1:3]]
FOLDER, MODELS = GIVEN or (ROOT / "s3t-data/tests/golden-pictures", ROOT / "s3t/tests/golden-pictures")
SIZES = [(1, 1), (5, 3), (8, 8), (17, 13), (31, 24)]

cases, expected = [], bytearray()


def picture(width, height, seed=0, noise=60):
    y, x = numpy.mgrid[0:height, 0:width]
    ramps = [x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1), (x + y) * 255 / max(width + height - 2, 1)]
    values = numpy.stack(ramps, -1) * 0.7 + numpy.random.RandomState(seed).randint(0, noise, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype("uint8"))


def coloured(mode, width, height, seed=0):
    """A picture of a mode, with other values in every channel."""
    if mode in ("1", "L", "P"):
        return picture(width, height, seed).convert(mode)
    shape = (height, width, len(mode.removesuffix("X")))
    return Image.fromarray(numpy.random.RandomState(seed).randint(0, 256, shape).astype("uint8"), mode)


def rgb(path, steps=None, channels=3):
    image = load_image(str(path))
    if channels == 1:
        image = image.convert("L")
    fields = {"do_rescale": False, "do_normalize": False, "do_resize": False, **(steps or {})}
    values = ViTImageProcessorPil(**fields)(images=image)["pixel_values"][0]
    return numpy.moveaxis(numpy.asarray(values).astype("uint8"), 0, -1)


def add(name, data, kind, steps=None, rust=None, channels=3):
    """A file with what Python reads."""
    path = FOLDER / name
    if data is not None:
        assert not path.exists(), name
        path.write_bytes(data)
    values = rgb(path, steps, channels)
    case = {"file": name, "kind": kind, "height": values.shape[0], "width": values.shape[1]}
    if rust or channels != 3:
        case |= {"channels": channels, "steps": rust or {"resize": None, "crop": None}}
    cases.append(case)
    expected.extend(values.tobytes())


def refuse(name, data, kind):
    """A file that is refused, with Pillow's opinion."""
    path = FOLDER / name
    assert not path.exists(), name
    path.write_bytes(data)
    try:
        rgb(path)
        said = "read by Pillow"
    except Exception as error:
        said = f"{type(error).__name__}: {error}".replace(str(FOLDER), "")[:80]
    cases.append({"file": name, "kind": kind, "refused": said})


def saved(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation, kind=3, endian=">"):
    value = struct.pack(endian + ("HH" if kind == 3 else "I"), *([orientation, 0] if kind == 3 else [orientation]))
    head = b"MM\0*" if endian == ">" else b"II*\0"
    return b"Exif\0\0" + head + struct.pack(endian + "IHHHI", 8, 1, 0x0112, kind, 1) + value + b"\0" * 4


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'


# JPEG


def jpeg_by_hand(width, height, factors, seed):
    """A baseline JPEG with random coefficients and any sampling factors, which Pillow cannot write."""
    choose = random.Random(seed)
    out, bits = bytearray(b"\xff\xd8"), []
    segment = lambda marker, data: out.extend(bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data)
    segment(0xDB, b"\0" + bytes([6] + [9] * 63))
    layers = b"".join(bytes([i + 1, h << 4 | v, 0]) for i, (h, v) in enumerate(factors))
    segment(0xC0, struct.pack(">BHHB", 8, height, width, len(factors)) + layers)
    # Codes of four bits for all symbols: sizes of DC, and of AC the end and sizes behind up to one zero.
    dc, ac = list(range(9)), [0x00, 0x01, 0x02, 0x03, 0x04, 0x11, 0x12]
    segment(0xC4, b"\0" + bytes([0, 0, 0, len(dc)] + [0] * 12) + bytes(dc))
    segment(0xC4, b"\x10" + bytes([0, 0, 0, len(ac)] + [0] * 12) + bytes(ac))
    segment(0xDA, bytes([len(factors)]) + b"".join(bytes([i + 1, 0]) for i in range(len(factors))) + b"\0\x3f\0")
    put = lambda value, count: bits.extend((value >> (count - 1 - i)) & 1 for i in range(count))

    def number(value, size):
        put(value if value >= 0 else value + (1 << size) - 1, size)

    before = [0] * len(factors)
    across = -(-width // (8 * max(h for h, _ in factors)))
    down = -(-height // (8 * max(v for _, v in factors)))
    for _ in range(across * down):
        for layer, (h, v) in enumerate(factors):
            for _ in range(h * v):
                value = choose.randint(-120, 120)
                difference = value - before[layer]
                before[layer] = value
                size = abs(difference).bit_length()
                put(size, 4)
                number(difference, size) if size else None
                for _ in range(choose.randint(0, 8)):
                    size = choose.randint(1, 4)
                    run = choose.randint(0, 1) if size < 3 else 0
                    put(ac.index(run << 4 | size), 4)
                    number(choose.choice([-1, 1]) * choose.randint(1 << (size - 1), (1 << size) - 1), size)
                put(0, 4)
    bits.extend([1] * (-len(bits) % 8))
    coded = bytes(int("".join(map(str, bits[at : at + 8])), 2) for at in range(0, len(bits), 8))
    out.extend(coded.replace(b"\xff", b"\xff\0") + b"\xff\xd9")
    return bytes(out)


def jpegs():
    count = 0
    for width, height in SIZES:
        for subsampling in range(3):
            for options in ({"quality": 90}, {"quality": 35, "progressive": True}):
                image = picture(width, height, count, 60 if count % 2 else 256)
                name = f"{width}x{height}-{subsampling}-q{options['quality']}.jpg"
                kind = f"JPEG 4:{['4:4', '2:2', '2:0'][subsampling]}"
                add(name, saved(image, "jpeg", subsampling=subsampling, **options), kind)
                count += 1
    for width, height in SIZES[2:]:
        add(f"{width}x{height}-grey.jpg", saved(picture(width, height).convert("L"), "jpeg"), "JPEG grey")
        inks = saved(coloured("CMYK", width, height), "jpeg", quality=85)
        add(f"{width}x{height}-cmyk.jpg", inks, "JPEG CMYK")
        place = inks.index(b"Adobe\0") + 11
        assert inks[place] in (0, 2)
        other = inks[:place] + bytes([2 - inks[place]]) + inks[place + 1 :]
        add(f"{width}x{height}-ycck.jpg", other, "JPEG YCCK")
        add(f"{width}x{height}-rgb.jpg", saved(picture(width, height, 3), "jpeg", keep_rgb=True), "JPEG RGB")
    image = picture(31, 24, 5)
    add("restarts.jpg", saved(image, "jpeg", restart_marker_blocks=1), "JPEG 4:2:0")
    add("optimised.jpg", saved(image, "jpeg", optimize=True, quality=60), "JPEG 4:2:0")
    add("trailing.jpg", saved(image, "jpeg") + b"more bytes", "JPEG 4:2:0")
    add("comment.jpg", saved(image, "jpeg", comment=b"a comment with \xff\xd9 in it"), "JPEG 4:2:0")
    for name, factors in [
        ("440", [(1, 2), (1, 1), (1, 1)]),
        ("411", [(4, 1), (1, 1), (1, 1)]),
        ("410", [(4, 2), (1, 1), (1, 1)]),
        ("441", [(1, 4), (1, 1), (1, 1)]),
        ("422-of-chroma", [(2, 2), (2, 1), (1, 2)]),
        ("420", [(2, 2), (1, 1), (1, 1)]),
    ]:
        for width, height in SIZES[2:]:
            add(f"{width}x{height}-{name}.jpg", jpeg_by_hand(width, height, factors, width), f"JPEG {name}")
    for orientation in range(1, 10):
        data = saved(picture(5, 3, orientation), "jpeg", subsampling=0, exif=exif(orientation))
        add(f"turned-{orientation}.jpg", data, "orientation")
    add("turned-long.jpg", saved(picture(5, 3), "jpeg", exif=exif(6, 4, "<")), "orientation")
    add("turned-xmp.jpg", saved(picture(5, 3), "jpeg", xmp=XMP.format(8).encode()), "orientation")
    both = saved(picture(5, 3), "jpeg", exif=exif(6), xmp=XMP.format(8).encode())
    add("turned-both.jpg", both, "orientation")
    garbage = saved(picture(5, 3), "jpeg", exif=b"Exif\0\0 is not TIFF data")
    add("exif-garbage.jpg", garbage, "orientation")
    frames = [picture(17, 13, 1), picture(17, 13, 2)]
    add("frames-mpo.jpg", saved(frames[0], "mpo", save_all=True, append_images=frames[1:]), "several pictures")

    for base, options in (("baseline", {}), ("progressive", {"progressive": True}), ("grey", {})):
        image = picture(48, 40, 7)
        data = saved(image.convert("L") if base == "grey" else image, "jpeg", **options)
        for number, length in enumerate([len(data) // 4, len(data) // 2, len(data) - 40, len(data) - 2, len(data) - 1]):
            refuse(f"truncated-{base}-{number}.jpg", data[:length], "truncated")


# PNG


def png(colour, depth, rows, interlaced=False, palette=None, more=(), level=9):
    """A PNG of rows of samples, by hand: Pillow writes neither 16-bit colours nor interlaced ones."""
    height, width, samples = rows.shape

    def packed(rows):
        lines = bytearray()
        for line in rows:
            flat = line.reshape(-1).astype(int)
            lines.append(0)
            if depth == 16:
                lines.extend(struct.pack(f">{len(flat)}H", *flat))
            else:
                joined = "".join(f"{value:0{depth}b}" for value in flat)
                joined += "0" * (-len(joined) % 8)
                lines.extend(int(joined[at : at + 8], 2) for at in range(0, len(joined), 8))
        return bytes(lines)

    passes = [rows]
    if interlaced:
        steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        passes = [rows[top::down, left::across] for left, top, across, down in steps]
    data = b"".join(packed(part) for part in passes if part.size)
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [chunk(b"IHDR", head)] + ([chunk(b"PLTE", palette)] if palette is not None else [])
    chunks += [chunk(*of) for of in more] + [chunk(b"IDAT", zlib.compress(data, level)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pngs():
    noise = numpy.random.RandomState(3)
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    for colour, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            for interlaced in (False, True):
                width, height = (17, 13) if interlaced else (11, 6)
                rows = noise.randint(0, 1 << depth, (height, width, samples[colour]))
                if depth == 16 and colour == 0:
                    rows[:3] //= 200
                palette = noise.bytes(3 << depth) if colour == 3 else None
                name = f"colour{colour}-{depth}bit{'-interlaced' * interlaced}.png"
                add(name, png(colour, depth, rows, interlaced, palette), f"PNG colour type {colour}, {depth} bits")
    rows = noise.randint(0, 16, (6, 11, 1))
    colours = noise.bytes(48)
    add("palette-alpha.png", png(3, 8, rows, False, colours, [(b"tRNS", bytes([0, 128, 255]))]), "PNG palette")
    add("palette-transparent.png", png(3, 8, rows, False, colours, [(b"tRNS", b"\xff\0")]), "PNG palette")
    add("palette-short.png", png(3, 8, rows, False, colours[:15]), "PNG palette")
    add("key-grey.png", png(0, 8, rows, more=[(b"tRNS", b"\0\3")]), "PNG transparent colour")
    key = png(2, 8, noise.randint(0, 2, (6, 11, 3)), more=[(b"tRNS", b"\0\1\0\1\0\1")])
    add("key-rgb.png", key, "PNG transparent colour")
    add("gamma.png", png(2, 8, noise.randint(0, 256, (6, 11, 3)), more=[(b"gAMA", struct.pack(">I", 100000))]), "PNG gamma")
    for orientation in (1, 3, 6, 8):
        add(f"turned-{orientation}.png", saved(picture(5, 3), "png", exif=exif(orientation)), "orientation")
    rows = noise.randint(0, 256, (3, 5, 3))
    text = lambda name, *body: (name, b"".join(body))
    profile = b"\nexif\n      26\n" + exif(6).hex().encode()
    xmp = XMP.format(5).encode()
    for name, chunk in {
        "itxt": text(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0", xmp),
        "itxt-packed": text(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0", zlib.compress(xmp)),
        "text": text(b"tEXt", b"XML:com.adobe.xmp\0", xmp),
        "profile": text(b"zTXt", b"Raw profile type exif\0\0", zlib.compress(profile)),
    }.items():
        add(f"turned-{name}.png", png(2, 8, rows, more=[chunk]), "orientation")
    frames = [picture(17, 13, 1), picture(17, 13, 2)]
    add("frames.png", saved(frames[0], "png", save_all=True, append_images=frames[1:]), "several pictures")
    default = saved(frames[0], "png", save_all=True, append_images=frames[1:], default_image=True)
    add("frames-default.png", default, "several pictures")

    data = saved(picture(48, 40, 7), "png")
    for number, length in enumerate([20, 40, len(data) // 4, len(data) // 2, len(data) - 13, len(data) - 12, len(data) - 1]):
        refuse(f"truncated-{number}.png", data[:length], "truncated")
    place = data.index(b"IDAT") + 60
    refuse("broken-data.png", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], "broken")
    refuse("broken-header.png", data[:20] + bytes([data[20] ^ 1]) + data[21:], "broken")
    end = data.index(b"IEND") - 8
    refuse("broken-checksum.png", data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:], "broken")
    short = png(2, 8, noise.randint(0, 256, (6, 11, 3)))
    taller = bytearray(short)
    taller[23] = 9
    taller[29:33] = struct.pack(">I", zlib.crc32(taller[12:29]))
    refuse("rows-missing.png", bytes(taller), "truncated")
    adler = bytearray(short)
    at = short.index(b"IEND") - 9
    adler[at] ^= 1
    start = short.index(b"IDAT")
    adler[at + 1 : at + 5] = struct.pack(">I", zlib.crc32(adler[start : at + 1]))
    refuse("broken-sum.png", bytes(adler), "broken")
    for number, length in enumerate((0, 1, 5, 769, 771)):
        refuse(f"palette-of-{length}.png", png(3, 8, numpy.zeros((4, 4, 1)), False, b"\1" * length), "broken")
    refuse("palette-missing.png", png(3, 8, numpy.zeros((4, 4, 1))), "broken")
    refuse("exif-garbage.png", png(2, 8, rows, more=[(b"eXIf", b"no TIFF data")]), "broken")


# GIF, BMP, TIFF, WebP


def gifs():
    for width, height in SIZES:
        add(f"{width}x{height}.gif", saved(picture(width, height).convert("P"), "gif"), "GIF")
    add("grey.gif", saved(picture(17, 13).convert("L"), "gif"), "GIF")
    add("one-bit.gif", saved(picture(17, 13).convert("1"), "gif"), "GIF")
    few = picture(17, 13).quantize(7)
    add("few-colours.gif", saved(few, "gif", interlace=0), "GIF")
    data = saved(few, "gif", transparency=2)
    add("transparent.gif", data, "GIF")
    frames = [picture(17, 13, seed).quantize(12) for seed in (1, 2)]
    add("frames.gif", saved(frames[0], "gif", save_all=True, append_images=frames[1:], duration=50), "several pictures")
    # A picture on a larger screen, with and without a transparent colour, and one that reaches over the screen.
    for name, source in (("offset", saved(few, "gif")), ("offset-transparent", data)):
        larger = bytearray(source)
        larger[6:10] = struct.pack("<HH", 25, 20)
        at = larger.index(b"," + bytes(4) + struct.pack("<HH", 17, 13))
        larger[at + 1 : at + 5] = struct.pack("<HH", 3, 2)
        add(f"{name}.gif", bytes(larger), "GIF")
    smaller = bytearray(saved(few, "gif"))
    smaller[6:10] = struct.pack("<HH", 9, 9)
    add("over-the-screen.gif", bytes(smaller), "GIF")
    data = saved(picture(48, 40, 7).quantize(200), "gif")
    for number, length in enumerate([12, 400, len(data) // 2, len(data) - 20, len(data) - 3, len(data) - 1]):
        refuse(f"truncated-{number}.gif", data[:length], "truncated")


def bmp(width, height, bits, rows, compression=0, masks=b"", palette=b""):
    offset = 54 + len(masks) + len(palette)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(rows), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + head + masks + palette + rows


def bmps():
    for width, height in SIZES:
        add(f"{width}x{height}.bmp", saved(picture(width, height), "bmp"), "BMP")
    for mode in ("1", "L", "P", "RGBA"):
        add(f"{mode.lower()}.bmp", saved(coloured(mode, 17, 13), "bmp"), "BMP")
    few = picture(17, 13).quantize(9)
    add("few-colours.bmp", saved(few, "bmp"), "BMP")
    data = bytearray(saved(picture(17, 13), "bmp"))
    data[22:26] = struct.pack("<i", -13)
    add("top-down.bmp", bytes(data), "BMP")
    noise = numpy.random.RandomState(4)
    add("x1r5g5b5.bmp", bmp(10, 6, 16, noise.bytes(120)), "BMP of 16 bits")
    add("r5g6b5.bmp", bmp(10, 6, 16, noise.bytes(120), 3, struct.pack("<III", 0xF800, 0x7E0, 0x1F)), "BMP of 16 bits")
    add("x8r8g8b8.bmp", bmp(10, 6, 32, noise.bytes(240)), "BMP")
    add("b8g8r8x8.bmp", bmp(10, 6, 32, noise.bytes(240), 3, struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00)), "BMP")
    palette = noise.bytes(64)
    add("four-bits.bmp", bmp(10, 6, 4, noise.bytes(8 * 6), palette=palette), "BMP")
    add("one-bit-colours.bmp", bmp(10, 6, 1, noise.bytes(4 * 6), palette=palette[:8]), "BMP")
    runs = b"".join(bytes([4, row % 16, 0, 6, *range(6), 0, 0]) for row in range(6)) + b"\0\1"
    refuse("run-lengths.bmp", bmp(10, 6, 8, runs, 1, palette=palette), "unsupported")
    data = saved(picture(48, 40, 7), "bmp")
    for number, length in enumerate([30, 54, len(data) // 2, len(data) - 144, len(data) - 1]):
        refuse(f"truncated-{number}.bmp", data[:length], "truncated")


def tiffs():
    for width, height in SIZES:
        add(f"{width}x{height}.tif", saved(picture(width, height), "tiff"), "TIFF")
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            data = saved(coloured(mode, 17, 13), "tiff", compression=compression)
            add(f"{mode.lower()}-{(compression or 'raw').replace('tiff_', '')}.tif", data, f"TIFF {mode}")
    values = numpy.random.RandomState(5).randint(0, 600, (13, 17)).astype("uint16")
    for compression in (None, "tiff_lzw"):
        data = saved(Image.fromarray(values), "tiff", compression=compression)
        add(f"grey16-{(compression or 'raw').replace('tiff_', '')}.tif", data, "TIFF 16 bits")
    predicted = saved(picture(17, 13), "tiff", compression="tiff_lzw", tiffinfo={317: 2})
    add("predictor.tif", predicted, "TIFF")
    add("strips.tif", saved(picture(31, 24), "tiff", compression="tiff_adobe_deflate", strip_size=200), "TIFF")
    for orientation in (1, 2, 5, 6, 8):
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[0x0112] = orientation
        add(f"turned-{orientation}.tif", saved(picture(5, 3), "tiff", tiffinfo=info), "orientation")
    frames = [picture(17, 13, 1), picture(17, 13, 2)]
    add("frames.tif", saved(frames[0], "tiff", save_all=True, append_images=frames[1:]), "several pictures")
    # White is zero, and two and four bits, as patches of what Pillow writes.
    shorts = lambda tag, value: struct.pack("<HHIHH", tag, 3, 1, value, 0)

    def patched(data, **tags):
        at = struct.unpack("<I", data[4:8])[0]
        out = bytearray(data)
        for index in range(struct.unpack("<H", data[at : at + 2])[0]):
            place = at + 2 + 12 * index
            tag = struct.unpack("<H", data[place : place + 2])[0]
            if f"t{tag}" in tags:
                out[place : place + 12] = shorts(tag, tags[f"t{tag}"])
        return bytes(out)

    grey = saved(picture(16, 13).convert("L"), "tiff")
    add("white-is-zero.tif", patched(grey, t262=0), "TIFF L")
    add("white-is-zero-bit.tif", patched(saved(picture(17, 13).convert("1"), "tiff"), t262=0), "TIFF 1")
    add("four-bits.tif", patched(grey, t258=4), "TIFF L")
    add("two-bits.tif", patched(grey, t258=2), "TIFF L")
    add("four-bits-white.tif", patched(grey, t258=4, t262=0), "TIFF L")
    data = saved(coloured("RGBA", 17, 13), "tiff")
    add("premultiplied.tif", patched(data, t338=1), "TIFF RGBA")
    add("fourth-unused.tif", patched(data, t338=0), "TIFF RGBA")
    for mode in ("I", "F"):
        values = numpy.random.RandomState(6).randint(0, 500, (3, 5)).astype("int32" if mode == "I" else "float32")
        refuse(f"{mode.lower()}-samples.tif", saved(Image.fromarray(values), "tiff"), "unsupported")
    refuse("jpeg-inside.tif", saved(picture(17, 13), "tiff", compression="jpeg"), "unsupported")
    refuse("fax-inside.tif", saved(picture(17, 13).convert("1"), "tiff", compression="group4"), "unsupported")
    refuse("filled-from-below.tif", patched(saved(picture(17, 13), "tiff", tiffinfo={266: 1}), t266=2), "unsupported")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
        data = saved(picture(48, 40, 7), "tiff", compression=compression)
        for number, length in enumerate([6, 60, len(data) // 2, len(data) - 200]):
            refuse(f"truncated-{compression}-{number}.tif", data[:length], "truncated")


def webps():
    for width, height in SIZES:
        add(f"{width}x{height}-lossy.webp", saved(picture(width, height, 2), "webp", quality=70), "WebP lossy")
        add(f"{width}x{height}-lossless.webp", saved(picture(width, height, 2), "webp", lossless=True), "WebP lossless")
    for options in ({"quality": 20}, {"lossless": True}, {"lossless": True, "exact": True}):
        data = saved(coloured("RGBA", 17, 13, 3), "webp", **options)
        add(f"alpha-{'-'.join(options)}.webp", data, "WebP alpha")
    add("noise.webp", saved(picture(31, 24, 3, 256), "webp", quality=5), "WebP lossy")
    for orientation in (1, 6):
        add(f"turned-{orientation}.webp", saved(picture(5, 3), "webp", exif=exif(orientation)), "orientation")
    add("turned-xmp.webp", saved(picture(5, 3), "webp", xmp=XMP.format(4).encode()), "orientation")
    frames = [picture(17, 13, 1), picture(17, 13, 2)]
    for name, frames in {"": frames, "-alpha": [coloured("RGBA", 17, 13, seed) for seed in (1, 2)]}.items():
        data = saved(frames[0], "webp", save_all=True, append_images=frames[1:], lossless=True)
        add(f"frames{name}.webp", data, "several pictures")
    for base, options in {"lossy": {}, "lossless": {"lossless": True}}.items():
        data = saved(picture(48, 40, 7), "webp", **options)
        for number, length in enumerate([16, len(data) // 4, len(data) // 2, len(data) - 10, len(data) - 1]):
            refuse(f"truncated-{base}-{number}.webp", data[:length], "truncated")


def others():
    refuse("text.jpg", b"this is a text\n", "no picture")
    refuse("empty.png", b"", "no picture")
    refuse("other.ppm", saved(picture(5, 3), "ppm"), "no picture")


# Resizing, cropping, grey

FILTERS = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]


def resized(file, kind, fields, rust, channels=3):
    add(file, None, kind, fields, rust, channels)


def steps():
    (FOLDER / "plain.png").write_bytes(saved(picture(30, 24, 9, 120), "png"))
    (FOLDER / "tall.png").write_bytes(saved(picture(13, 37, 9, 256), "png"))
    exact = lambda h, w: {"exact": {"height": h, "width": w}}
    for number, name in enumerate(FILTERS):
        for file, height, width in [("plain.png", 8, 8), ("plain.png", 37, 41), ("tall.png", 20, 9), ("tall.png", 37, 5)]:
            fields = {"do_resize": True, "size": {"height": height, "width": width}, "resample": number}
            rust = {"resize": {"size": exact(height, width), "filter": name}, "crop": None}
            resized(file, f"resize {name}", fields, rust, 1 if height == 20 else 3)
    for file in ("plain.png", "tall.png"):
        for size, rust in [
            ({"shortest_edge": 10}, {"shortest_edge": 10}),
            ({"shortest_edge": 10, "longest_edge": 11}, {"edges": {"shortest": 10, "longest": 11}}),
            ({"max_height": 12, "max_width": 9}, {"within": {"max_height": 12, "max_width": 9}}),
        ]:
            fields = {"do_resize": True, "size": size, "resample": 3}
            resized(file, "sizes", fields, {"resize": {"size": rust, "filter": "bicubic"}, "crop": None})
    # Pillow resizes columns first where more than twice as many rows as columns go away.
    for height, width in [(9, 12), (12, 13), (36, 13), (13, 2), (13, 1), (36, 14)]:
        fields = {"do_resize": True, "size": {"height": height, "width": width}, "resample": 3}
        rust = {"resize": {"size": exact(height, width), "filter": "bicubic"}, "crop": None}
        resized("tall.png", "order", fields, rust)
    for height, width in [(8, 8), (9, 7), (40, 41), (24, 31), (25, 10), (13, 36)]:
        for file in ("plain.png", "tall.png"):
            fields = {"do_center_crop": True, "crop_size": {"height": height, "width": width}}
            resized(file, "crop", fields, {"resize": None, "crop": [height, width]})
    for file in ("plain.png", "colour6-8bit.png", "31x24-cmyk.jpg", "few-colours.gif", "colour0-16bit.png"):
        resized(file, "grey", {}, None, 1)


# Models


def vit(channels, side):
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=side, patch_size=4,
        num_channels=channels, num_labels=3,
    )
    torch.manual_seed(4)
    model = transformers.ViTForImageClassification(config)
    generator = torch.Generator().manual_seed(channels)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


def models():
    shutil.rmtree(MODELS, ignore_errors=True)
    rows = []
    for channels, side in ((3, 8), (1, 8)):
        folder = MODELS / f"vit-{channels}"
        model = vit(channels, side)
        model.save_pretrained(folder)
        base = {
            "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": side, "width": side},
            "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": [0.5] * channels, "image_std": [0.5] * channels,
        }
        cropped = {"do_center_crop": True, "crop_size": {"height": side, "width": side}}
        changes = [
            {}, *({"resample": number} for number in (0, 1, 3, 4, 5)), {"size": side}, {"size": [side, side]},
            {"size": {"height": 10, "width": 11}, **cropped}, {"size": {"shortest_edge": 10}, **cropped},
            {"size": 9, "default_to_square": False, **cropped}, {"size": {"shortest_edge": 9, "longest_edge": 10}, **cropped},
            {"size": {"max_height": 5, "max_width": 30}, **cropped, "crop_size": side}, {"do_resize": False, **cropped},
            {"do_resize": None, **cropped}, {"do_normalize": False}, {"do_rescale": False, "image_mean": 120.0, "image_std": 60},
            {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * channels}, {"crop_size": 5}, {"do_pad": False, "pad_size": 9},
            {"image_mean": [0.485, 0.456, 0.406][:channels], "image_std": [0.229, 0.224, 0.225][:channels]},
            {"data_format": "channels_last", "device": "cpu", "a_note": 3},
        ]
        if channels == 3:
            changes += [{"do_convert_rgb": True}, {"image_processor_type": "ViTFeatureExtractor"}]
        for number, change in enumerate(changes):
            for file in ["plain.png", ["turned-6.jpg", "31x24-2-q90.jpg", "alpha-quality.webp"][number % 3]]:
                preprocessor = {**base, **change}
                path = folder / "preprocessor_config.json"
                path.write_text(json.dumps(preprocessor))
                image = load_image(str(FOLDER / file))
                image = image if channels == 3 else image.convert("L")
                pixels = ViTImageProcessorPil.from_pretrained(folder)(images=image, return_tensors="pt")["pixel_values"]
                logits = model(pixel_values=pixels).logits[0].tolist()
                rows.append({"model": folder.name, "file": file, "preprocessor": preprocessor, "logits": logits})
                path.unlink()
    (MODELS / "cases.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for part in (jpegs, pngs, gifs, bmps, tiffs, webps, others, steps):
        part()
    (FOLDER / "cases.json").write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")
    (FOLDER / "expected.bin").write_bytes(bytes(expected))
    models()
    files = {case["file"] for case in cases}
    print(f"{len(files)} files, {len(cases)} cases, {sum('refused' in case for case in cases)} refused")
    for case in cases:
        if case.get("refused") == "read by Pillow":
            print("read by Pillow:", case["file"])


if __name__ == "__main__":
    main()
