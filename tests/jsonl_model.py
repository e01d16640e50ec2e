"""The rules of a JSONL file for dekhand, with Python's reader: what its answers are compared with.

A line ends with a line feed or with the file. It is good when it is one JSON object: UTF-8, no name
twice in one object, no half of a surrogate pair, at most 16 levels; a line of white space is none.
"""

import json
import re

VALUE = re.compile(r"dk1\.[1-9][0-9]*\.[A-Za-z0-9_-]+")
TENANT = re.compile(r"[A-Za-z0-9._:-]{1,128}")
NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")
BOM = b"\xef\xbb\xbf"
DEEPEST = 16


class Number(str):
    """A number as it is written."""


class Names(dict):
    """An object; a list could not be told from an array."""


def _object(pairs):
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return Names(pairs)


def _no_constant(text):
    raise ValueError(text)


def _look_into(value, depth):
    if isinstance(value, str):
        value.encode()  # raises for half a surrogate pair
    elif isinstance(value, (Names, list)):
        if depth > DEEPEST:
            raise ValueError("too deep")
        for child in value:
            if isinstance(value, Names):
                child.encode()
                child = value[child]
            _look_into(child, depth + 1)


def is_blank(line):
    return not line.strip(b" \t\r\n")


def read(line):
    """The object of a line, numbers as they are written; None when the line is a bad one."""
    try:
        text = line.decode("utf-8")
        if text.startswith("\ufeff"):
            return None
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant,
                           parse_int=Number, parse_float=Number)
        _look_into(found, 1)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Names) else None


def lines(data):
    """(the byte order mark, each line with its end)."""
    mark = BOM if data.startswith(BOM) else b""
    return mark, re.findall(rb"[^\n]*\n|[^\n]+\Z", data[len(mark):])


class Rules:
    """One call: which fields, and where the tenant comes from."""

    def __init__(self, fields, tenant_field=None):
        self.fields = fields
        self.tenant_field = tenant_field

    def is_good(self, line):
        found = read(line)
        if found is None:
            return False
        if self.tenant_field is not None:
            tenant = found.get(self.tenant_field)
            if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
                return False
        return all(found.get(name) is None or
                   (isinstance(found[name], str) and not isinstance(found[name], Number))
                   for name in self.fields)

    def split(self, data):
        """(the file of the good lines, the bad lines), byte for byte."""
        mark, all_lines = lines(data)
        kept = [line for line in all_lines if is_blank(line) or self.is_good(line)]
        bad = [line for line in all_lines if not is_blank(line) and not self.is_good(line)]
        return mark + b"".join(kept), b"".join(bad)

    def values(self, data):
        """The strings to encrypt, in the order of the lines and of the fields."""
        found = [read(line) for line in lines(data)[1] if not is_blank(line)]
        return [line[name] for line in found for name in self.fields if line.get(name) is not None]

    def same_but_values(self, before, after):
        """Whether two files of good lines differ in nothing but the strings of the fields."""
        return self._blanked(before) == self._blanked(after)

    def _blanked(self, data):
        mark, all_lines = lines(data)
        return mark + b"".join(line if is_blank(line) else self._blank(line) for line in all_lines)

    def _blank(self, line):
        """The line with `*` for each string of a field: found by a reader that is not ours."""
        text, out, at = line.decode(), "", 0
        for start, end in _member_strings(text, self.fields):
            out += text[at:start] + "*"
            at = end
        return (out + text[at:]).encode()


def _member_strings(text, fields):
    """(where, until where) of the content of each string member of the outermost object."""
    decoder = json.JSONDecoder()
    at = text.index("{") + 1
    while True:
        at = _skip(text, at)
        if text[at] == "}":
            return
        name, at = json.decoder.scanstring(text, at + 1)
        at = _skip(text, _skip(text, at) + 1)
        value, end = decoder.raw_decode(text, at)
        if name in fields and isinstance(value, str):
            yield at + 1, end - 1
        at = _skip(text, end)
        at += text[at] == ","


def _skip(text, at):
    while text[at] in " \t\r\n":
        at += 1
    return at
