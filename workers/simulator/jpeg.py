"""Photos: a coloured gradient with a few legible lines on it."""

from __future__ import annotations

import colorsys
import io

from PIL import Image, ImageDraw, ImageFont, ImageOps

QUALITY = 80


def draw_photo(width: int, height: int, hue: int, lines: list[str]) -> bytes:
    """A JPEG of that size; ``hue`` in degrees, lines centred."""
    shade = Image.linear_gradient("L").resize((width, height))
    picture = ImageOps.colorize(shade, _rgb(hue, 0.95), _rgb(hue + 60, 0.45)).convert("RGB")
    pen = ImageDraw.Draw(picture)
    step = height / (len(lines) + 1)
    for place, line in enumerate(lines, start=1):
        pen.text((width / 2, step * place), line, fill="white", anchor="mm", font=_font(line, width, step))
    body = io.BytesIO()
    picture.save(body, "JPEG", quality=QUALITY)
    return body.getvalue()


def _font(line: str, width: int, step: float) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """As large as fits into 85 % of the width and half of a line's room."""
    unit = ImageFont.load_default(100)
    share = unit.getlength(line or " ") / 100
    return ImageFont.load_default(max(8, min(width * 0.85 / share, step / 2)))


def _rgb(hue: int, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, 0.65, value)
    return round(red * 255), round(green * 255), round(blue * 255)
