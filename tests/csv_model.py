"""The rules of a CSV file for dekhand, byte by byte and slowly: what its answers are compared with.

PostgreSQL's rules: a row ends with LF or CR LF outside quotes, or with the file; an unquoted empty
cell is NULL, `""` the empty string. A row is bad when a quote is never closed, stands inside an
unquoted cell or is followed by text, and when the row has not as many cells as the header.
"""

import re
from dataclasses import dataclass

TENANT = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
VALUE = re.compile(rb"dk1\.[1-9][0-9]*\.[A-Za-z0-9_-]+")
BOM = b"\xef\xbb\xbf"


@dataclass
class Cell:
    """Where the content stands in the row, without the quotes around it."""

    start: int
    end: int
    quoted: bool

    def is_null(self):
        return not self.quoted and self.start == self.end


@dataclass
class Row:
    raw: bytes
    cells: list
    sound: bool

    def value(self, i):
        cell = self.cells[i]
        text = self.raw[cell.start:cell.end]
        return text.replace(b'""', b'"') if cell.quoted else text


def _quoted(data, i):
    """(the cell, where it is over, is it sound); data[i] is its opening quote."""
    end = i + 1
    while True:
        end = data.find(b'"', end)
        if end < 0:
            return Cell(i + 1, len(data), True), len(data), False
        if data[end + 1:end + 2] != b'"':
            break
        end += 2
    after = end + 1
    sound = data[after:after + 1] in (b"", b",", b"\n") or data[after:after + 2] == b"\r\n"
    return Cell(i + 1, end, True), _next_stop(data, after), sound


def _plain(data, i):
    stop = _next_stop(data, i)
    text = data[i:stop]
    cut = text.endswith(b"\r") and data[stop:stop + 1] == b"\n"
    return Cell(i, stop - cut, False), stop, b'"' not in text


def _next_stop(data, i):
    """The next comma, line feed or end."""
    while i < len(data) and data[i:i + 1] not in (b",", b"\n"):
        i += 1
    return i


def _row(data):
    """The first row of data."""
    cells, sound, i = [], True, 0
    while True:
        cell, i, good = (_quoted if data[i:i + 1] == b'"' else _plain)(data, i)
        cells.append(cell)
        sound = sound and good
        if data[i:i + 1] != b",":
            return Row(data[:i + 1], cells, sound)
        i += 1


def rows(data):
    """Every row of a file, the header included; a byte order mark stays before it."""
    found = []
    while data:
        found.append(_row(data))
        data = data[len(found[-1].raw):]
    return found


class Table:
    """A file with a header, and which of its rows are good for encrypting."""

    def __init__(self, data):
        self.mark = BOM if data.startswith(BOM) else b""
        self.header, *self.rows = rows(data[len(self.mark):])
        self.names = [self.header.value(i).decode() for i in range(len(self.header.cells))]

    def indexes(self, columns):
        return [self.names.index(name) for name in columns]

    def is_good(self, row, tenant_column):
        if not row.sound or len(row.cells) != len(self.names):
            return False
        return tenant_column is None or bool(
            TENANT.fullmatch(row.value(self.names.index(tenant_column))))

    def split(self, tenant_column):
        """(the file of the good rows, the bad rows), byte for byte."""
        good = [row.raw for row in self.rows if self.is_good(row, tenant_column)]
        bad = [row.raw for row in self.rows if not self.is_good(row, tenant_column)]
        return self.mark + self.header.raw + b"".join(good), b"".join(bad)

    def blanked(self, columns):
        """The file with `*` for each value of these columns: all that encrypting leaves alone."""
        out = self.mark + self.header.raw
        for row in self.rows:
            at = 0
            for i in sorted(self.indexes(columns)):
                cell = row.cells[i]
                if not cell.is_null():
                    out += row.raw[at:cell.start] + b"*"
                    at = cell.end
            out += row.raw[at:]
        return out

    def values(self, columns):
        """The values of these columns that are not NULL."""
        return [row.value(i) for row in self.rows for i in self.indexes(columns)
                if not row.cells[i].is_null()]
