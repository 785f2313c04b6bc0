"""A tiny H.264 encoder for pictures made of flat 16x16 tiles (constrained baseline).

A video needs real H.264 to play in browsers, and a real encoder is no dependency anybody wants for a
simulator. Each tile of one colour is a macroblock: predicted from the tile above or to the left when that
has the same colour (one byte), spelt out as raw samples (I_PCM) otherwise, and skipped when it is as in the
frame before. Names in comments are those of the standard (ITU-T H.264, clause 7.3).
"""

from __future__ import annotations

TILE = 16
PROFILE_BASELINE, CONSTRAINT_SETS, LEVEL_3_1 = 66, 0xC0, 31

Colour = tuple[int, int, int]  # Y, Cb, Cr
Picture = list[list[Colour]]  # rows of tiles

_I_PCM, _VERTICAL, _HORIZONTAL = 25, 1, 2  # mb_type in an I slice
_FIRST_INTRA_TYPE_IN_P = 5
_FRAME_NUM_BITS = 8


class Bits:
    """Writes bits, most significant first, and Exp-Golomb codes."""

    def __init__(self) -> None:
        self._done = bytearray()
        self._pending, self._count = 0, 0

    def u(self, value: int, bits: int) -> None:
        """An unsigned number of so many bits."""
        self._pending = self._pending << bits | value
        self._count += bits
        if self._count >= 8:
            rest = self._count % 8
            self._done += (self._pending >> rest).to_bytes(self._count // 8, "big")
            self._pending &= (1 << rest) - 1
            self._count = rest

    def ue(self, *values: int) -> None:
        """Unsigned Exp-Golomb codes. Every signed one here is zero, whose code is the same."""
        for value in values:
            self.u(value + 1, 2 * (value + 1).bit_length() - 1)

    def align(self) -> None:
        if self._count:
            self.u(0, 8 - self._count)

    def raw(self, body: bytes) -> None:
        """Whole bytes, on a byte boundary."""
        self._done += body

    def finished(self) -> bytes:
        """Everything written, closed with the stop bit."""
        self.u(1, 1)
        self.align()
        return bytes(self._done)


def sequence_parameters(columns: int, rows: int) -> bytes:
    """The SPS of pictures of so many tiles."""
    bits = Bits()
    bits.u(PROFILE_BASELINE << 16 | CONSTRAINT_SETS << 8 | LEVEL_3_1, 24)
    bits.ue(
        0, _FRAME_NUM_BITS - 4, 2, 1
    )  # id, log2_max_frame_num - 4, pic_order_cnt_type, max_num_ref_frames
    bits.u(0, 1)
    bits.ue(columns - 1, rows - 1)
    bits.u(0b11_00, 4)  # frames only, direct_8x8_inference; no cropping, no VUI
    return _nal(0x67, bits)


def picture_parameters() -> bytes:
    """The PPS: CAVLC, one slice group, deblocking under the control of the slices."""
    bits = Bits()
    bits.ue(0, 0)
    bits.u(0, 2)
    bits.ue(0, 0, 0)
    bits.u(0, 3)
    bits.ue(0, 0, 0)  # initial QP, QS and chroma offset, all in the middle
    bits.u(0b100, 3)  # deblocking_filter_control_present
    return _nal(0x68, bits)


def key_frame(picture: Picture) -> bytes:
    """An IDR picture."""
    bits = Bits()
    bits.ue(0, 7, 0)  # first_mb, slice_type I, PPS id
    bits.u(0, _FRAME_NUM_BITS)
    bits.ue(0)  # idr_pic_id
    bits.u(0, 2)  # dec_ref_pic_marking
    bits.ue(0, 1)  # slice_qp_delta, deblocking off
    raw_above = [False] * len(picture[0])
    for row, tiles in enumerate(picture):
        raw_left = False
        for column, colour in enumerate(tiles):
            above = picture[row - 1][column] if row else None
            left = tiles[column - 1] if column else None
            is_raw = colour not in (above, left)
            if is_raw:
                _raw_tile(bits, _I_PCM, colour)
            else:
                neighbours = ([raw_left] if column else []) + ([raw_above[column]] if row else [])
                _predicted_tile(bits, vertical=colour == above, coefficients_near=any(neighbours))
            raw_left = raw_above[column] = is_raw
    return _nal(0x65, bits)


def next_frame(picture: Picture, before: Picture, number: int) -> bytes:
    """A P picture: tiles that changed, and the rest skipped. ``number`` counts from the key frame."""
    bits = Bits()
    bits.ue(0, 5, 0)  # first_mb, slice_type P, PPS id
    bits.u(number % (1 << _FRAME_NUM_BITS), _FRAME_NUM_BITS)
    bits.u(0, 3)  # no override of references, no reordering, sliding window
    bits.ue(0, 1)  # slice_qp_delta, deblocking off
    skipped = 0
    for tiles, tiles_before in zip(picture, before, strict=True):
        for colour, colour_before in zip(tiles, tiles_before, strict=True):
            if colour == colour_before:
                skipped += 1
                continue
            bits.ue(skipped)  # mb_skip_run
            _raw_tile(bits, _FIRST_INTRA_TYPE_IN_P + _I_PCM, colour)
            skipped = 0
    if skipped:
        bits.ue(skipped)
    return _nal(0x61, bits)


def _raw_tile(bits: Bits, mb_type: int, colour: Colour) -> None:
    luma, blue, red = colour
    bits.ue(mb_type)
    bits.align()
    bits.raw(bytes([luma]) * 256 + bytes([blue]) * 64 + bytes([red]) * 64)


def _predicted_tile(bits: Bits, *, vertical: bool, coefficients_near: bool) -> None:
    """An Intra_16x16 macroblock without residual: the neighbour's edge, all the way across."""
    bits.ue(_VERTICAL if vertical else _HORIZONTAL)
    bits.ue(2 if vertical else 1, 0)  # intra_chroma_pred_mode, mb_qp_delta
    # coeff_token of an empty DC block; which code it has depends on the neighbours, and an I_PCM
    # neighbour counts as full (nC 8 or 16) whatever it shows.
    if coefficients_near:
        bits.u(0b000011, 6)
    else:
        bits.u(1, 1)


def _nal(header: int, bits: Bits) -> bytes:
    """A NAL unit; 0x03 is put in wherever the payload would look like a start code."""
    body, zeros = bytearray([header]), 0
    for byte in bits.finished():
        if zeros == 2 and byte <= 3:
            body.append(3)
            zeros = 0
        body.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(body)
