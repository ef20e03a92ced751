"""Inner loops on eight voxels side by side, as LLVM vectors of eight doubles.

Numba's own vectoriser does not keep several chains of eight accumulators in registers; these few loops, written
in LLVM's vector types, do. LLVM lowers the vectors to whatever the processor has (AVX-512, AVX2, SSE2, NEON), and fuses
products with sums. Arrays are flat, float64 and contiguous; line k is the eight numbers of eight voxels, at ``8 * k``.

A tile holds at most eight registers of accumulators: whole lines where a register holds eight doubles (AVX-512), else
half as many lines, or halves of lines. Each accumulator sums in the same order however a tile is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 8  # doubles of one line of cache, and of the widest register


def padded(n: int) -> int:
    """``n`` rounded up to a whole number of lines."""
    return -(-n // LINE) * LINE


_DOUBLE = ir.DoubleType()
_LINE = ir.VectorType(_DOUBLE, LINE)
_INT = ir.IntType(64)


def _pointer(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    return context.make_array(array_type)(context, builder, value).data


def _is_wide(context: Any) -> bool:
    """Whether a register of the processor that code is made for holds a line; numba's disk cache knows them apart."""
    return "+avx512f" in context.codegen().magic_tuple()[2].split(",")


def _row_groups(context: Any, n_rows: int) -> list[range]:
    """Rows whose accumulators, a line each, fit the registers together."""
    size = n_rows if _is_wide(context) else min(n_rows, 4)
    return [range(first, first + size) for first in range(0, n_rows, size)]


def _load_line(builder: Any, data: Any, number: Any, width: int = LINE) -> Any:
    address = builder.bitcast(builder.gep(data, [number]), ir.VectorType(_DOUBLE, width).as_pointer())
    return builder.load(address, align=8)


def _store_line(builder: Any, data: Any, number: Any, line: Any) -> None:
    builder.store(line, builder.bitcast(builder.gep(data, [number]), line.type.as_pointer()), align=8)


def _splat(builder: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(_LINE, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LINE), [0] * LINE)
    return builder.shuffle_vector(first, ir.Constant(_LINE, ir.Undefined), zeros)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, fused where that is fast."""
    kind = ir.FunctionType(a.type, [a.type] * 3)
    name = f"llvm.fmuladd.v{a.type.count}f64"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _accumulate(builder: Any, start: list[Any], count: Any, step: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Run ``step(k, lines) -> lines`` for k = 0 .. count-1 with the lines held in registers."""
    before = builder.basic_block
    loop, after = builder.append_basic_block("lanes.loop"), builder.append_basic_block("lanes.after")
    builder.cbranch(builder.icmp_signed(">", count, ir.Constant(_INT, 0)), loop, after)
    builder.position_at_end(loop)
    k = builder.phi(_INT)
    held = [builder.phi(first.type) for first in start]
    made = step(k, held)
    following = builder.add(k, ir.Constant(_INT, 1))
    end = builder.basic_block
    k.add_incoming(ir.Constant(_INT, 0), before)
    k.add_incoming(following, end)
    for phi, first, later in zip(held, start, made, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, end)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    results = []
    for first, later in zip(start, made, strict=True):
        phi = builder.phi(first.type)
        phi.add_incoming(first, before)
        phi.add_incoming(later, end)
        results.append(phi)
    return results


def _times_line(builder: Any, number: Any) -> Any:
    return builder.mul(number, ir.Constant(_INT, LINE))


def _triangle(builder: Any, row: Any) -> Any:
    """Line where a row of a packed lower triangle starts."""
    return builder.lshr(builder.mul(row, builder.add(row, ir.Constant(_INT, 1))), ir.Constant(_INT, 1))


def _eliminate_part(builder: Any, data: Any, at: Any, group: range, width: int) -> None:
    """Some rows of a tile of two columns in some of the lanes; ``at`` is its first row and column."""
    row, column = at

    def load(number: Any) -> Any:
        return _load_line(builder, data, _times_line(builder, number), width)

    columns = [builder.add(column, ir.Constant(_INT, c)) for c in range(2)]
    pivots = [_triangle(builder, c) for c in columns]
    rows = [_triangle(builder, builder.add(row, ir.Constant(_INT, r))) for r in group]
    places = [builder.add(r, c) for r in rows for c in columns]

    def step(k: Any, lines: list[Any]) -> list[Any]:
        minus = [builder.fneg(load(builder.add(p, k))) for p in pivots]
        of_rows = [load(builder.add(r, k)) for r in rows]
        pairs = [(a, m) for a in of_rows for m in minus]
        return [_multiply_add(builder, a, m, line) for (a, m), line in zip(pairs, lines, strict=True)]

    lines = _accumulate(builder, [load(place) for place in places], column, step)
    of_pivots = builder.add(pivots[0], column), builder.add(pivots[1], column), builder.add(pivots[1], columns[1])
    scale, factor, scale_1 = map(load, of_pivots)
    for t in range(0, len(lines), 2):
        lines[t] = builder.fmul(lines[t], scale)
        rest = _multiply_add(builder, lines[t], builder.fneg(factor), lines[t + 1])
        lines[t + 1] = builder.fmul(rest, scale_1)
    for place, line in zip(places, lines, strict=True):
        _store_line(builder, data, _times_line(builder, place), line)


def _make_eliminate(n_rows: int) -> Any:
    @intrinsic
    def eliminate(typing_context: Any, matrix: Any, row: Any, column: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = _pointer(context, builder, signature.args[0], args[0])
            width = LINE if _is_wide(context) else LINE // 2
            for group in _row_groups(context, n_rows):
                for lane in range(0, LINE, width):
                    _eliminate_part(builder, builder.gep(data, [ir.Constant(_INT, lane)]), args[1:], group, width)
            return context.get_dummy_value()

        return types.none(matrix, types.int64, types.int64), generate

    return eliminate


# columns j and j + 1 of the factor in 8 or 4 rows of a packed triangle, the inverse of each pivot being in its place
eliminate_8x2, eliminate_4x2 = _make_eliminate(8), _make_eliminate(4)


@intrinsic
def eliminate_pivots(typing_context: Any, matrix: Any, column: Any) -> Any:
    """Rows and columns j and j + 1 of the factor of a packed triangle, the inverse of each pivot in its place."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, column = _pointer(context, builder, signature.args[0], args[0]), args[1]
        width = LINE if _is_wide(context) else LINE // 2
        parts = [builder.gep(data, [ir.Constant(_INT, lane)]) for lane in range(0, LINE, width)]
        rows = [_triangle(builder, builder.add(column, ir.Constant(_INT, r))) for r in range(2)]
        places = [builder.add(rows[r], builder.add(column, ir.Constant(_INT, c))) for r, c in ((0, 0), (1, 0), (1, 1))]

        def load(part: Any, number: Any) -> Any:
            return _load_line(builder, part, _times_line(builder, number), width)

        def step(k: Any, lines: list[Any]) -> list[Any]:
            out = []
            for t, part in enumerate(parts):
                a, b = (load(part, builder.add(row, k)) for row in rows)
                minus = builder.fneg(a), builder.fneg(b)
                pairs = (a, minus[0]), (b, minus[0]), (b, minus[1])
                out += [_multiply_add(builder, *pair, lines[3 * t + i]) for i, pair in enumerate(pairs)]
            return out

        lines = _accumulate(builder, [load(part, place) for part in parts for place in places], column, step)
        for t, part in enumerate(parts):
            pivot, factor, rest = lines[3 * t : 3 * t + 3]
            scale = _inverse_root(builder, pivot)
            factor = builder.fmul(factor, scale)
            scale_1 = _inverse_root(builder, _multiply_add(builder, factor, builder.fneg(factor), rest))
            for place, line in zip(places, (scale, factor, scale_1), strict=True):
                _store_line(builder, part, _times_line(builder, place), line)
        return context.get_dummy_value()

    return types.none(matrix, types.int64), generate


def _inverse_root(builder: Any, line: Any) -> Any:
    kind = ir.FunctionType(line.type, [line.type])
    root = cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{line.type.count}f64")
    return builder.fdiv(ir.Constant(line.type, [1.0] * line.type.count), builder.call(root, [line]))


@intrinsic
def subtract_row(typing_context: Any, matrix: Any, row: Any, x: Any) -> Any:
    """``x[i] -= A[row, i] x[row]`` for i < row, lines of a packed triangle: one step of back substitution."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        matrix, x = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2))
        row = args[1]
        begin, minus = _triangle(builder, row), builder.fneg(_load_line(builder, x, _times_line(builder, row)))

        def step(k: Any, lines: list[Any]) -> list[Any]:
            place = _times_line(builder, k)
            factor = _load_line(builder, matrix, _times_line(builder, builder.add(begin, k)))
            _store_line(builder, x, place, _multiply_add(builder, factor, minus, _load_line(builder, x, place)))
            return lines

        _accumulate(builder, [], row, step)
        return context.get_dummy_value()

    return types.none(matrix, types.int64, x), generate


@intrinsic
def multiply_panel(typing_context: Any, panel: Any, start: Any, lines: Any, count: Any, out: Any, place: Any) -> Any:
    """``out[place + r] = Σ_{k<count} panel[start + 8 k + r] * lines[k]`` for r < 8; ``place`` counts lines."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        panel, lines, out = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2, 4))
        start, count, place = args[1], args[3], args[5]

        def step(k: Any, sums: list[Any], group: range) -> list[Any]:
            line = _load_line(builder, lines, _times_line(builder, k))
            at = builder.add(start, _times_line(builder, k))
            factors = [
                builder.load(builder.gep(panel, [builder.add(at, ir.Constant(_INT, r))]), align=8) for r in group
            ]
            return [_multiply_add(builder, _splat(builder, f), line, s) for f, s in zip(factors, sums, strict=True)]

        for group in _row_groups(context, LINE):
            zeros = [ir.Constant(_LINE, [0.0] * LINE) for _ in group]
            sums = _accumulate(builder, zeros, count, partial(step, group=group))
            for r, line in zip(group, sums, strict=True):
                _store_line(builder, out, _times_line(builder, builder.add(place, ir.Constant(_INT, r))), line)
        return context.get_dummy_value()

    return types.none(panel, types.int64, lines, types.int64, out, types.int64), generate


@intrinsic
def add_outer_tile(
    typing_context: Any, table: Any, width: Any, left: Any, right: Any, count: Any, out: Any, start: Any, i: Any, j: Any
) -> Any:
    """``out[start + (i+r) width + j + c] += Σ_{k<count} table[left[k], i+r] table[right[k], j+c]``, r, c < 8.

    ``table`` is flat with rows of ``width``; ``left`` and ``right`` are int64 row numbers. Lines here are eight
    neighbouring columns, not eight voxels.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table, left, right, out = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2, 3, 5))
        width, count, start, i, j = args[1], args[4], args[6], args[7], args[8]
        places = [
            builder.add(start, builder.add(builder.mul(builder.add(i, ir.Constant(_INT, r)), width), j))
            for r in range(LINE)
        ]

        def step(k: Any, sums: list[Any], group: range) -> list[Any]:
            of_left = builder.mul(builder.load(builder.gep(left, [k])), width)
            of_right = builder.mul(builder.load(builder.gep(right, [k])), width)
            line = _load_line(builder, table, builder.add(of_right, j))
            at = builder.add(of_left, i)
            factors = [
                builder.load(builder.gep(table, [builder.add(at, ir.Constant(_INT, r))]), align=8) for r in group
            ]
            return [_multiply_add(builder, _splat(builder, f), line, s) for f, s in zip(factors, sums, strict=True)]

        for group in _row_groups(context, LINE):
            begin = [_load_line(builder, out, places[r]) for r in group]
            for r, line in zip(group, _accumulate(builder, begin, count, partial(step, group=group)), strict=True):
                _store_line(builder, out, places[r], line)
        return context.get_dummy_value()

    int64 = types.int64
    return types.none(table, int64, left, right, int64, out, int64, int64, int64), generate


@intrinsic
def transpose_8(typing_context: Any, source: Any, start: Any, stride: Any, out: Any, place: Any) -> Any:
    """``out[8 (place + c) + r] = source[start + r stride + c]`` for r, c < 8: eight rows become eight lines."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, out = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 3))
        start, stride, place = args[1], args[2], args[4]
        rows = [
            _load_line(builder, source, builder.add(start, builder.mul(stride, ir.Constant(_INT, r))))
            for r in range(LINE)
        ]
        for c, line in enumerate(_transposed(builder, rows)):
            _store_line(builder, out, _times_line(builder, builder.add(place, ir.Constant(_INT, c))), line)
        return context.get_dummy_value()

    return types.none(source, types.int64, types.int64, out, types.int64), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Columns of an 8 x 8 block by three rounds of exchanging halves, quarters and eighths."""
    for distance in (4, 2, 1):
        swapped = list(rows)
        for r in range(LINE):
            if r & distance:
                continue
            low = [c if not c & distance else LINE + (c ^ distance) for c in range(LINE)]
            high = [(c | distance) if not c & distance else LINE + c for c in range(LINE)]
            swapped[r] = _shuffle(builder, rows[r], rows[r + distance], low)
            swapped[r + distance] = _shuffle(builder, rows[r], rows[r + distance], high)
        rows = swapped
    return rows


def _shuffle(builder: Any, a: Any, b: Any, index: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LINE), index))


@intrinsic
def mark_crests(
    typing_context: Any, lines: Any, neighbours: Any, n_neighbours: Any, n_lines: Any, floor: Any, marks: Any
) -> Any:
    """Bit ``lane`` of ``marks[d]``: line d is above ``floor`` and below one of its neighbours at most in that lane.

    ``neighbours`` is flat, ``n_neighbours`` int64 line numbers for each line; ``floor`` is one line; ``marks`` uint8.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines, neighbours, floor, marks = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 1, 4, 5))
        n_neighbours, n_lines = args[2], args[3]
        least = _load_line(builder, floor, ir.Constant(_INT, 0))
        with cgutils.for_range(builder, n_lines, intp=_INT) as loop:
            line = _load_line(builder, lines, _times_line(builder, loop.index))
            begin = builder.mul(loop.index, n_neighbours)

            def step(k: Any, highest: list[Any]) -> list[Any]:
                at = builder.load(builder.gep(neighbours, [builder.add(begin, k)]))
                other = _load_line(builder, lines, _times_line(builder, at))
                is_first = builder.fcmp_ordered(">", other, highest[0])
                loser = builder.select(is_first, highest[0], other)
                is_second = builder.fcmp_ordered(">", loser, highest[1])
                return [builder.select(is_first, other, highest[0]), builder.select(is_second, loser, highest[1])]

            _, second = _accumulate(builder, [least, least], n_neighbours, step)
            is_crest = builder.and_(builder.fcmp_ordered(">=", line, second), builder.fcmp_ordered(">", line, least))
            builder.store(builder.bitcast(is_crest, ir.IntType(8)), builder.gep(marks, [loop.index]))
        return context.get_dummy_value()

    return types.none(lines, neighbours, types.int64, types.int64, floor, marks), generate


@intrinsic
def hinge_slopes(typing_context: Any, w: Any, dw: Any, step: Any, count: Any, out: Any) -> Any:
    """``out[0] = Σ min(w[k] + step[0] dw[k], 0) dw[k]`` and ``out[1] = Σ dw[k]²`` where that is negative, k < count.

    All of them are lines: slope and curvature of ½ Σ min(w + step dw, 0)².
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w, dw, step, out = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 1, 2, 4))
        zero = ir.Constant(_LINE, [0.0] * LINE)
        factor = _load_line(builder, step, ir.Constant(_INT, 0))

        def add(k: Any, sums: list[Any]) -> list[Any]:
            place = _times_line(builder, k)
            slope = _load_line(builder, dw, place)
            value = _multiply_add(builder, factor, slope, _load_line(builder, w, place))
            is_below = builder.fcmp_ordered("<", value, zero)
            below = builder.select(is_below, value, zero)
            counted = builder.select(is_below, slope, zero)
            return [_multiply_add(builder, below, slope, sums[0]), _multiply_add(builder, counted, slope, sums[1])]

        for line, total in enumerate(_accumulate(builder, [zero, zero], args[3], add)):
            _store_line(builder, out, ir.Constant(_INT, LINE * line), total)
        return context.get_dummy_value()

    return types.none(w, dw, step, types.int64, out), generate


@intrinsic
def mark_negative(typing_context: Any, w: Any, count: Any, marks: Any) -> Any:
    """Bit ``lane`` of ``marks[k]``, uint8: whether lane ``lane`` of line k < count is below zero."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        w, marks = (_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2))
        zero = ir.Constant(_LINE, [0.0] * LINE)

        def mark(k: Any, _: list[Any]) -> list[Any]:
            is_negative = builder.fcmp_ordered("<", _load_line(builder, w, _times_line(builder, k)), zero)
            builder.store(builder.bitcast(is_negative, ir.IntType(8)), builder.gep(marks, [k]))
            return []

        _accumulate(builder, [], args[1], mark)
        return context.get_dummy_value()

    return types.none(w, types.int64, marks), generate
