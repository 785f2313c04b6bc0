"""Videos: the lines in large pixels with a bar that fills up, as H.264 in a minimal MP4 (ISO 14496-12)."""

from __future__ import annotations

import colorsys
import struct

from PIL import Image, ImageDraw, ImageFont

from .h264 import (
    CONSTRAINT_SETS,
    LEVEL_3_1,
    PROFILE_BASELINE,
    TILE,
    Colour,
    Picture,
    key_frame,
    next_frame,
    picture_parameters,
    sequence_parameters,
)

COLUMNS, ROWS = 45, 80  # tiles: 720x1280 pixels
FRAMES_PER_SECOND = 5
_BAR_ROWS = range(ROWS - 6, ROWS - 4)
_LETTERS_A_LINE = 7
_IDENTITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def draw_video(hue: int, lines: list[str], seconds: int) -> bytes:
    """An MP4 of that length, 720x1280, silent; ``moov`` in front so that it plays while it loads."""
    frames = _frames(hue, lines, seconds * FRAMES_PER_SECOND)
    samples = [struct.pack(">I", len(frame)) + frame for frame in frames]
    kind = _box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
    offset = len(kind) + len(_movie(samples, seconds, 0)) + 8
    return kind + _movie(samples, seconds, offset) + _box(b"mdat", *samples)


def _frames(hue: int, lines: list[str], count: int) -> list[bytes]:
    before = _picture(hue, lines, 0)
    frames = [key_frame(before)]
    for number in range(1, count):
        picture = _picture(hue, lines, COLUMNS * number // (count - 1))
        frames.append(next_frame(picture, before, number))
        before = picture
    return frames


def _picture(hue: int, lines: list[str], bar: int) -> Picture:
    """Text on a plain ground, one tile a dot of the letters; ``bar`` tiles of the progress bar are filled."""
    ground, ink = _colour(hue, 0.55), _colour(hue + 180, 1.0)
    dots = _lettering(tuple(lines))
    picture = [[ink if dots.getpixel((x, y)) else ground for x in range(COLUMNS)] for y in range(ROWS)]
    for row in _BAR_ROWS:
        picture[row][:bar] = [ink] * bar
    return picture


def _lettering(lines: tuple[str, ...]) -> Image.Image:
    pieces = [
        line[at : at + _LETTERS_A_LINE] for line in lines for at in range(0, len(line), _LETTERS_A_LINE)
    ]
    dots, font = Image.new("1", (COLUMNS, ROWS)), ImageFont.load_default_imagefont()
    ImageDraw.Draw(dots).multiline_text((2, 1), "\n".join(pieces), fill=1, font=font, spacing=1)
    return dots


def _colour(hue: int, value: float) -> Colour:
    """Video-range YCbCr (BT.601) of a hue in degrees."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, 0.6, value)
    luma = 16 + 65.5 * red + 128.6 * green + 25.0 * blue
    return (
        round(luma),
        round(128 - 37.8 * red - 74.2 * green + 112 * blue),
        round(128 + 112 * red - 93.8 * green - 18.2 * blue),
    )


def _movie(samples: list[bytes], seconds: int, offset: int) -> bytes:
    """The ``moov`` box: one video track whose samples lie in one chunk at ``offset``."""
    ticks, width, height = seconds * 1000, COLUMNS * TILE, ROWS * TILE
    header = struct.pack(">4I2H", 0, 0, 1000, ticks, 1, 0)[:16] + struct.pack(">IH10x", 0x10000, 0x100)
    track = (
        struct.pack(">5I8x4H", 0, 0, 1, 0, ticks, 0, 0, 0, 0)
        + _IDENTITY
        + struct.pack(">2I", width << 16, height << 16)
    )
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">4I2H", 0, 0, 1000, ticks, 0x55C4, 0)),
        _full(b"hdlr", b"\0\0\0\0vide" + bytes(12) + b"VideoHandler\0"),
        _box(
            b"minf",
            _full(b"vmhd", bytes(8), flags=1),
            _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1))),
            _sample_table(samples, width, height, offset),
        ),
    )
    return _box(
        b"moov",
        _full(b"mvhd", header + _IDENTITY + bytes(24) + struct.pack(">I", 2)),
        _box(b"trak", _full(b"tkhd", track, flags=3), media),
    )


def _sample_table(samples: list[bytes], width: int, height: int, offset: int) -> bytes:
    count = len(samples)
    return _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), _avc1(width, height)),
        _full(b"stts", struct.pack(">3I", 1, count, 1000 // FRAMES_PER_SECOND)),
        _full(b"stss", struct.pack(">2I", 1, 1)),
        _full(b"stsc", struct.pack(">4I", 1, 1, count, 1)),
        _full(b"stsz", struct.pack(f">2I{count}I", 0, count, *map(len, samples))),
        _full(b"stco", struct.pack(">2I", 1, offset)),
    )


def _avc1(width: int, height: int) -> bytes:
    """The sample entry with the decoder's configuration (ISO 14496-15)."""
    sps, pps = sequence_parameters(COLUMNS, ROWS), picture_parameters()
    configuration = (
        bytes([1, PROFILE_BASELINE, CONSTRAINT_SETS, LEVEL_3_1, 0xFF, 0xE1])
        + struct.pack(">H", len(sps))
        + sps
        + b"\x01"
        + struct.pack(">H", len(pps))
        + pps
    )
    entry = struct.pack(">6xH16x2H2I4xH32x2H", 1, width, height, 0x480000, 0x480000, 1, 24, 0xFFFF)
    return _box(b"avc1", entry, _box(b"avcC", configuration))


def _box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, parts))) + kind + b"".join(parts)


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)
