"""EMA's Triton kernels. Needs Triton; `triton_ema` launches them.

A program has one map of a group, or a few in `input_gradient`, and takes its channels in NB blocks of KB.
Values that a program reads again should come from the cache. All sums are in float32, and no kernel uses
atomic additions, so that a repeated call gives equal bits.

Shape letters: N maps (batch x groups), K channels of one group, KB channels of a block, H rows and W columns
and their next powers of two HP and WP, L = H + W, M = H * W pixels. X, GRAD, OUT and D_X have any type and
the strides S_BATCH, S_CHANNEL, S_ROW, S_COLUMN; all other tensors are contiguous, and float32 but for MAP.
"""

# Triton compiles these functions; their arguments are pointers, numbers or `tl.constexpr`.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

import triton
import triton.language as tl


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _map_offset(n, K: tl.constexpr, GROUPS: tl.constexpr, S_BATCH, S_CHANNEL):
    """Return where a map's first channel begins."""
    return (n // GROUPS).to(tl.int64) * S_BATCH + (n % GROUPS).to(tl.int64) * K * S_CHANNEL


@triton.jit
def _gates(LOGITS, n, k, h, w, K: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Return the gates of rows (KB, HP) and of columns (KB, WP)."""
    base = LOGITS + n.to(tl.int64) * ((H + W) * K) + k[:, None]
    rows = tl.load(base + h[None, :] * K, mask=(k < K)[:, None] & (h < H)[None, :], other=0.0)
    columns = tl.load(base + (H + w)[None, :] * K, mask=(k < K)[:, None] & (w < W)[None, :], other=0.0)
    return _sigmoid(rows), _sigmoid(columns)


@triton.jit
def _tile(h, w, k, K: tl.constexpr, H: tl.constexpr, W: tl.constexpr):
    """Return a mask of the block's places that hold a pixel of a channel, (KB, HP, WP)."""
    return (k < K)[:, None, None] & (h < H)[None, :, None] & (w < W)[None, None, :]


@triton.jit
def _places(h, w, k, S_CHANNEL, S_ROW, S_COLUMN):
    """Return the offsets of a block's pixels within a map, (KB, HP, WP)."""
    return k[:, None, None] * S_CHANNEL + h[None, :, None] * S_ROW + w[None, None, :] * S_COLUMN


@triton.jit
def means(
    X, MEANS, WINDOWS, S_BATCH, S_CHANNEL, S_ROW, S_COLUMN,
    K: tl.constexpr, H: tl.constexpr, W: tl.constexpr, GROUPS: tl.constexpr,
    KB: tl.constexpr, NB: tl.constexpr, HP: tl.constexpr, WP: tl.constexpr,
):  # fmt: skip
    """Write the means of rows and columns (N, L, K), and the mean of each tap's window (N, K, 9)."""
    n = tl.program_id(0)
    h = tl.arange(0, HP)
    w = tl.arange(0, WP)
    x_of_map = X + _map_offset(n, K, GROUPS, S_BATCH, S_CHANNEL)
    part: tl.constexpr = 1.0 / (H * W)
    for block in range(NB):
        k = block * KB + tl.arange(0, KB)
        places = _places(h, w, k, S_CHANNEL, S_ROW, S_COLUMN)
        x = tl.load(x_of_map + places, mask=_tile(h, w, k, K, H, W), other=0.0).to(tl.float32)
        rows = tl.sum(x, 2)
        columns = tl.sum(x, 1)
        to_means = MEANS + n.to(tl.int64) * ((H + W) * K) + k[:, None]
        mask_rows = (k < K)[:, None] & (h < H)[None, :]
        mask_columns = (k < K)[:, None] & (w < W)[None, :]
        tl.store(to_means + h[None, :] * K, rows * (1.0 / W), mask=mask_rows)
        tl.store(to_means + (H + w)[None, :] * K, columns * (1.0 / H), mask=mask_columns)

        # A tap that looks up never sees the last row, and so on; a corner is lost by two of them once.
        total = tl.sum(columns, 1)
        top = tl.sum(tl.where((h == 0)[None, :], rows, 0.0), 1)
        bottom = tl.sum(tl.where((h == H - 1)[None, :], rows, 0.0), 1)
        left = tl.sum(tl.where((w == 0)[None, :], columns, 0.0), 1)
        right = tl.sum(tl.where((w == W - 1)[None, :], columns, 0.0), 1)
        corner = x_of_map + k * S_CHANNEL
        top_left = tl.load(corner, mask=k < K, other=0.0).to(tl.float32)
        top_right = tl.load(corner + (W - 1) * S_COLUMN, mask=k < K, other=0.0).to(tl.float32)
        corner += (H - 1) * S_ROW
        bottom_left = tl.load(corner, mask=k < K, other=0.0).to(tl.float32)
        bottom_right = tl.load(corner + (W - 1) * S_COLUMN, mask=k < K, other=0.0).to(tl.float32)
        window = WINDOWS + n.to(tl.int64) * (9 * K) + k * 9
        tl.store(window, (total - bottom - right + bottom_right) * part, mask=k < K)
        tl.store(window + 1, (total - bottom) * part, mask=k < K)
        tl.store(window + 2, (total - bottom - left + bottom_left) * part, mask=k < K)
        tl.store(window + 3, (total - right) * part, mask=k < K)
        tl.store(window + 4, total * part, mask=k < K)
        tl.store(window + 5, (total - left) * part, mask=k < K)
        tl.store(window + 6, (total - top - right + top_right) * part, mask=k < K)
        tl.store(window + 7, (total - top) * part, mask=k < K)
        tl.store(window + 8, (total - top - left + top_left) * part, mask=k < K)


@triton.jit
def apply(
    X, LOGITS, SCALE, OFFSET, KERNEL, OUT, MAP, eps, S_BATCH, S_CHANNEL, S_ROW, S_COLUMN,
    K: tl.constexpr, H: tl.constexpr, W: tl.constexpr, GROUPS: tl.constexpr,
    KB: tl.constexpr, NB: tl.constexpr, HP: tl.constexpr, WP: tl.constexpr,
):  # fmt: skip
    """Write the gated maps, and each map's gate (N, M) in the type of MAP.

    SCALE (N, K) and OFFSET (N): the weights of the normalised channels, and the constant term. KERNEL (K, 9):
    the local kernel folded to one output channel.
    """
    n = tl.program_id(0)
    h = tl.arange(0, HP)
    w = tl.arange(0, WP)
    start = _map_offset(n, K, GROUPS, S_BATCH, S_CHANNEL)
    part: tl.constexpr = 1.0 / (H * W)
    total = tl.zeros([HP, WP], tl.float32) + tl.load(OFFSET + n)
    for block in range(NB):
        k = block * KB + tl.arange(0, KB)
        tile = _tile(h, w, k, K, H, W)
        places = X + start + _places(h, w, k, S_CHANNEL, S_ROW, S_COLUMN)
        x = tl.load(places, mask=tile, other=0.0).to(tl.float32)
        rows, columns = _gates(LOGITS, n, k, h, w, K, H, W)
        gated = x * rows[:, :, None] * columns[:, None, :]
        mean = tl.sum(tl.sum(gated, 2), 1) * part
        gated = tl.where(tile, gated - mean[:, None, None], 0.0)
        variance = tl.sum(tl.sum(gated * gated, 2), 1) * part
        scale = tl.load(SCALE + n.to(tl.int64) * K + k, mask=k < K, other=0.0) / tl.sqrt(variance + eps)
        total += tl.sum(gated * scale[:, None, None], 0)
        for tap in range(9):
            down = tap // 3 - 1
            right = tap % 3 - 1
            inside = ((h + down >= 0) & (h + down < H))[:, None] & ((w + right >= 0) & (w + right < W))[
                None, :
            ]
            neighbour = places + down * S_ROW + right * S_COLUMN
            x = tl.load(neighbour, mask=tile & inside[None, :, :], other=0.0).to(tl.float32)
            weight = tl.load(KERNEL + k * 9 + tap, mask=k < K, other=0.0)
            total += tl.sum(x * weight[:, None, None], 0)
    gate = _sigmoid(total)
    to_map = MAP + n.to(tl.int64) * (H * W) + h[:, None] * W + w[None, :]
    tl.store(to_map, gate.to(MAP.dtype.element_ty), mask=(h < H)[:, None] & (w < W)[None, :])
    for block in range(NB):
        k = block * KB + tl.arange(0, KB)
        tile = _tile(h, w, k, K, H, W)
        places = start + _places(h, w, k, S_CHANNEL, S_ROW, S_COLUMN)
        x = tl.load(X + places, mask=tile, other=0.0).to(tl.float32)
        tl.store(OUT + places, (x * gate[None, :, :]).to(OUT.dtype.element_ty), mask=tile)


@triton.jit
def gate_gradient(
    X, GRAD, LOGITS, SCALE, MAP, D_MAP, D_TOTAL, D_LOGITS, PRODUCT, FACTORS, eps,
    S_BATCH, S_CHANNEL, S_ROW, S_COLUMN,
    K: tl.constexpr, H: tl.constexpr, W: tl.constexpr, GROUPS: tl.constexpr,
    KB: tl.constexpr, NB: tl.constexpr, HP: tl.constexpr, WP: tl.constexpr,
):  # fmt: skip
    """Write the gradients of maps before the sigmoid (N, M), their sums (N), those of gate logits (N, L, K).

    PRODUCT (N, K) is the sum of the map's gradient times each normalised channel. From FACTORS (N, 3, K),
    `input_gradient` computes that of the gated channels: factor 0 (the map's + factor 1 - factor 2 gated).
    """
    n = tl.program_id(0)
    h = tl.arange(0, HP)
    w = tl.arange(0, WP)
    start = _map_offset(n, K, GROUPS, S_BATCH, S_CHANNEL)
    part: tl.constexpr = 1.0 / (H * W)
    d_map = tl.zeros([HP, WP], tl.float32)
    for block in range(NB):
        k = block * KB + tl.arange(0, KB)
        tile = _tile(h, w, k, K, H, W)
        places = start + _places(h, w, k, S_CHANNEL, S_ROW, S_COLUMN)
        x = tl.load(X + places, mask=tile, other=0.0).to(tl.float32)
        grad = tl.load(GRAD + places, mask=tile, other=0.0).to(tl.float32)
        d_map += tl.sum(x * grad, 0)
    in_map = (h < H)[:, None] & (w < W)[None, :]
    of_map = n.to(tl.int64) * (H * W) + h[:, None] * W + w[None, :]
    gate = tl.load(MAP + of_map, mask=in_map, other=0.0).to(tl.float32)
    d_map *= gate * (1.0 - gate)
    tl.store(D_MAP + of_map, d_map, mask=in_map)
    d_total = tl.sum(tl.sum(d_map, 1), 0)
    tl.store(D_TOTAL + n, d_total)
    for block in range(NB):
        k = block * KB + tl.arange(0, KB)
        tile = _tile(h, w, k, K, H, W)
        places = start + _places(h, w, k, S_CHANNEL, S_ROW, S_COLUMN)
        x = tl.load(X + places, mask=tile, other=0.0).to(tl.float32)
        rows, columns = _gates(LOGITS, n, k, h, w, K, H, W)
        gated = x * rows[:, :, None] * columns[:, None, :]
        mean = tl.sum(tl.sum(gated, 2), 1) * part
        centred = tl.where(tile, gated - mean[:, None, None], 0.0)
        inverse = 1.0 / tl.sqrt(tl.sum(tl.sum(centred * centred, 2), 1) * part + eps)
        product = tl.sum(tl.sum(centred * d_map[None, :, :], 2), 1) * inverse
        of_channel = n.to(tl.int64) * K + k
        scale = tl.load(SCALE + of_channel, mask=k < K, other=0.0) * inverse
        slope = product * inverse * part
        constant = mean * slope - d_total * part
        tl.store(PRODUCT + of_channel, product, mask=k < K)
        factors = FACTORS + n.to(tl.int64) * (3 * K) + k
        tl.store(factors, scale, mask=k < K)
        tl.store(factors + K, constant, mask=k < K)
        tl.store(factors + 2 * K, slope, mask=k < K)
        d_gate = d_map[None, :, :] + constant[:, None, None] - gated * slope[:, None, None]
        d_gate *= x * scale[:, None, None]
        d_rows = tl.sum(d_gate * columns[:, None, :], 2) * rows * (1.0 - rows)
        d_columns = tl.sum(d_gate * rows[:, :, None], 1) * columns * (1.0 - columns)
        to_logits = D_LOGITS + n.to(tl.int64) * ((H + W) * K) + k[:, None]
        tl.store(to_logits + h[None, :] * K, d_rows, mask=(k < K)[:, None] & (h < H)[None, :])
        tl.store(to_logits + (H + w)[None, :] * K, d_columns, mask=(k < K)[:, None] & (w < W)[None, :])


@triton.jit
def input_gradient(
    X, GRAD, LOGITS, MAP, D_MAP, D_MEANS, D_WINDOWS, FACTORS, KERNEL, D_X, D_KERNEL, N,
    S_BATCH, S_CHANNEL, S_ROW, S_COLUMN,
    K: tl.constexpr, H: tl.constexpr, W: tl.constexpr, GROUPS: tl.constexpr, PER: tl.constexpr,
    KB: tl.constexpr, NB: tl.constexpr, HP: tl.constexpr, WP: tl.constexpr,
):  # fmt: skip
    """Write the gradient of X, and each program's part of the gradient of KERNEL (programs, K, 9).

    A program takes PER maps. D_MEANS (N, L, K) and D_WINDOWS (N, K, 9) are gradients of what `means` writes.
    """
    program = tl.program_id(0)
    h = tl.arange(0, HP)
    w = tl.arange(0, WP)
    taps = tl.arange(0, 16)
    part: tl.constexpr = 1.0 / (H * W)
    in_map = (h < H)[:, None] & (w < W)[None, :]
    for block in range(NB):
        k = block * KB + tl.arange(0, KB)
        tile = _tile(h, w, k, K, H, W)
        d_kernel = tl.zeros([KB, 16], tl.float32)
        for step in range(tl.minimum(PER, N - program * PER)):
            n = program * PER + step
            places = _map_offset(n, K, GROUPS, S_BATCH, S_CHANNEL) + _places(
                h, w, k, S_CHANNEL, S_ROW, S_COLUMN
            )
            x = tl.load(X + places, mask=tile, other=0.0).to(tl.float32)
            grad = tl.load(GRAD + places, mask=tile, other=0.0).to(tl.float32)
            of_map = n.to(tl.int64) * (H * W) + h[:, None] * W + w[None, :]
            gate = tl.load(MAP + of_map, mask=in_map, other=0.0).to(tl.float32)
            d_map = tl.load(D_MAP + of_map, mask=in_map, other=0.0)
            factors = FACTORS + n.to(tl.int64) * (3 * K) + k
            scale = tl.load(factors, mask=k < K, other=0.0)
            constant = tl.load(factors + K, mask=k < K, other=0.0)
            slope = tl.load(factors + 2 * K, mask=k < K, other=0.0)
            rows, columns = _gates(LOGITS, n, k, h, w, K, H, W)
            both = rows[:, :, None] * columns[:, None, :]
            d_x = d_map[None, :, :] + constant[:, None, None] - x * both * slope[:, None, None]
            d_x = d_x * scale[:, None, None] * both + grad * gate[None, :, :]
            means_of = D_MEANS + n.to(tl.int64) * ((H + W) * K) + k[:, None]
            d_rows = tl.load(means_of + h[None, :] * K, mask=(k < K)[:, None] & (h < H)[None, :], other=0.0)
            d_columns = tl.load(
                means_of + (H + w)[None, :] * K, mask=(k < K)[:, None] & (w < W)[None, :], other=0.0
            )
            d_x += d_rows[:, :, None] * (1.0 / W) + d_columns[:, None, :] * (1.0 / H)
            for tap in range(9):
                # The pixel is what this tap of the output at (h - down, w - right) sees.
                down = tap // 3 - 1
                right = tap % 3 - 1
                inside = in_map & ((h - down >= 0) & (h - down < H))[:, None]
                inside = inside & ((w - right >= 0) & (w - right < W))[None, :]
                shifted = tl.load(D_MAP + of_map - down * W - right, mask=inside, other=0.0)
                weight = tl.load(KERNEL + k * 9 + tap, mask=k < K, other=0.0)
                window = tl.load(D_WINDOWS + n.to(tl.int64) * (9 * K) + k * 9 + tap, mask=k < K, other=0.0)
                seen = tl.where(inside[None, :, :], (window * part)[:, None, None], 0.0)
                d_x += shifted[None, :, :] * weight[:, None, None] + seen
                of_tap = tl.sum(tl.sum(x * shifted[None, :, :], 2), 1)
                d_kernel += tl.where((taps == tap)[None, :], of_tap[:, None], 0.0)
            tl.store(D_X + places, d_x.to(D_X.dtype.element_ty), mask=tile)
        to_kernel = D_KERNEL + program.to(tl.int64) * (9 * K) + k[:, None] * 9 + taps[None, :]
        tl.store(to_kernel, d_kernel, mask=(k < K)[:, None] & (taps < 9)[None, :])
