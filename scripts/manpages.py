"""Manual pages from the tables of the code and from docs/man/words.txt: {file name: text}."""

import re
from itertools import groupby

import tables

DATE = "2026-11-26"  # of the last change to words.txt or to this file
WORDS = tables.ROOT / "docs" / "man" / "words.txt"
HEADERS = ("include/dekhand.h", "include/dekhand_admin.h")
# `code`, a page(1), an option in running text.
MARKED = re.compile(r"`([^`]+)`|\b([\w.-]+)(\(\d\))|(?<!\w)(--?[a-z][\w-]*)")


# ---- roff ---------------------------------------------------------------------------------------

def escaped(text):
    """A text without marks; no line of it is a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def bold(text):
    return f"\\fB{escaped(text)}\\fR"


def marked(text):
    """Running text: `code`, options and pages in bold; other hyphens stay hyphens."""
    out, at = [], 0
    for match in MARKED.finditer(text):
        code, page, section, option = match.groups()
        out.append(text[at:match.start()].replace("\\", "\\e"))
        out.append(bold(page) + section if page else bold(code or option))
        at = match.end()
    out.append(text[at:].replace("\\", "\\e"))
    whole = "".join(out)
    return "\\&" + whole if whole[:1] in (".", "'") else whole


def literal(lines):
    return [".nf", ".RS 4", *(escaped(line) if line else ".sp" for line in lines), ".RE", ".fi"]


def tagged(tag, text):
    return [".TP", tag, marked(text)]


def title(name, section):
    version = tables.run("version").strip()
    return ['.\\" Made by `make docs` from the tables of the code and from docs/man/words.txt.',
            f'.TH {escaped(name.upper())} {section} "{DATE}" "{version}" "dekhand manual"']


def named(name, summary):
    return [".SH NAME", f"{escaped(name)} \\- {marked(summary)}"]


def see_also(names):
    return [".SH SEE ALSO", ",\n".join(f"{bold(name)}({section})" for name, section in names)]


# ---- words.txt ----------------------------------------------------------------------------------

def read_words():
    """{page: {heading: lines}}"""
    pages, lines = {}, []
    for line in WORDS.read_text().splitlines():
        if line.startswith("# "):
            sections = pages[line[2:]] = {}
        elif line.startswith("## "):
            lines = sections[line[3:]] = []
        else:
            lines.append(line)
    return pages


def section(heading, lines):
    out = [f".SH {heading}"]
    blocks = [list(block) for blank, block in groupby(lines, key=lambda line: not line.strip())
              if not blank]
    for number, block in enumerate(blocks):
        out += [".PP"] if number > 0 else []
        if block[0].startswith("    "):
            out += literal([line[4:] for line in block])
        else:
            out += [marked(line) for line in block]
    return out


def worded(words, *headings):
    return [line for heading in headings if heading in words
            for line in section(heading, words[heading])]


# ---- commands -----------------------------------------------------------------------------------

def option_words(option):
    arg = f" \\fI{escaped(option.arg)}\\fR" if option.arg else ""
    letter = bold("-" + option.letter) + arg + ", " if option.letter else ""
    return letter + bold("--" + option.name) + arg


def synopsis(command, common):
    parts = [bold("dekhand " + command.name)]
    for option in command.options:
        if option.name not in common:
            arg = f" \\fI{escaped(option.arg)}\\fR" if option.arg else ""
            parts.append(f"[{bold('--' + option.name)}{arg}]")
    return [".HP 4", " ".join([*parts, "[\\fIcommon options\\fR]"])]


def command_page(name, group, common, words):
    summary = group[0].summary if len(group) == 1 else SUMMARIES.get(
        name, ", ".join(command.name.split()[1] for command in group))
    out = [*title(f"dekhand-{name}", 1), *named(f"dekhand-{name}", summary), ".SH SYNOPSIS"]
    for command in group:
        out += synopsis(command, common)
    out += [*worded(words, "DESCRIPTION"), ".SH OPTIONS"]
    for command in group:
        own = [option for option in command.options if option.name not in common]
        if len(group) > 1:
            out += [f".SS {escaped('dekhand ' + command.name)}",
                    marked(command.summary[:1].upper() + command.summary[1:] + ".")]
        for option in own:
            out += tagged(option_words(option), option.help)
    out += [".SS Common options"] if len(group) > 1 or own else []
    for option in (option for option in group[0].options if option.name in common):
        out += tagged(option_words(option), option.help)
    out += [".PP", marked("Every setting that has a flag may be given too: see dekhand.env(5).")]
    out += [*exit_status(), *worded(words, "EXAMPLES"),
            *see_also([("dekhand", 1), ("dekhand.env", 5), ("dekhand-errors", 7)])]
    return "\n".join(out) + "\n"


SUMMARIES = {"keys": "list key versions, look at one tenant's, export a data key",
             "audit": "read the log, export it, and find out whether it is to be believed",
             "registry": "the registry's id, pin, seals and anchor; take an older copy on purpose",
             "completion": "print a script that completes dekhand's words in a shell"}


def exit_status():
    out = [".SH EXIT STATUS"]
    for code, text in tables.EXIT_CODES:
        out += tagged(bold(str(code)), text[:1].upper() + text[1:] + ".")
    return out


def overview(groups, common, words):
    out = [*title("dekhand", 1), *named("dekhand", "a data key for every tenant"), ".SH SYNOPSIS",
           f"{bold('dekhand')} \\fIcommand\\fR [\\fIoptions\\fR]", *worded(words, "DESCRIPTION"),
           ".SH COMMANDS"]
    for name, group in groups:
        for command in group:
            out += tagged(bold(command.name), command.summary[:1].upper() +
                          f"{command.summary[1:]}: see dekhand-{name}(1).")
    out += [".SH OPTIONS", "Every command has these."]
    for option in (option for option in groups[0][1][0].options if option.name in common):
        out += tagged(option_words(option), option.help)
    pages = [(f"dekhand-{name}", 1) for name, _ in groups]
    out += [*exit_status(), *worded(words, "FILES", "EXAMPLES"),
            *see_also([*pages, ("dekhand.env", 5), ("dekhand-errors", 7), ("libdekhand", 3)])]
    return "\n".join(out) + "\n"


# ---- settings and errors ------------------------------------------------------------------------

def setting_text(row):
    parts = [row.help + "."]
    if row.type == "INT":
        parts.append(f"From {row.least} to {row.most} {row.unit}.")
    if row.default is not None:
        parts.append(f"Default: {row.default}.")
    if row.flag:
        parts.append(f"Flag: `--{row.flag}`.")
    return " ".join(parts)


def settings_page(words):
    out = [*title("dekhand.env", 5), *named("dekhand.env", "settings of dekhand"),
           *worded(words, "DESCRIPTION"), ".SH SETTINGS"]
    for row in tables.settings():
        out += tagged(bold(row.name), setting_text(row)[:1].upper() + setting_text(row)[1:])
    out += [".SH FILES", bold("./.env"), ".br", bold("/etc/dekhand/dekhand.env"),
            *worded(words, "EXAMPLES"), *see_also([("dekhand", 1), ("dekhand-config", 1)])]
    return "\n".join(out) + "\n"


def errors_page(words):
    out = [*title("dekhand-errors", 7), *named("dekhand-errors", "what each error of dekhand means"),
           *worded(words, "DESCRIPTION"), ".SH ERRORS"]
    for row in tables.errors():
        again = " Retryable." if row.retryable == "true" else ""
        out += [*tagged(bold(row.name), f"{row.text[:1].upper()}{row.text[1:]}.{again}"), ".sp",
                marked(f"What to do: {row.todo}."), ".sp",
                f"Exit code {row.exit}; in C {bold('DEKHAND_' + row.name)}, {row.number}."]
    out += [*exit_status(), *see_also([("dekhand", 1), ("libdekhand", 3)])]
    return "\n".join(out) + "\n"


# ---- the library --------------------------------------------------------------------------------

def library_page(headers):
    out = [*title("libdekhand", 3), *named("libdekhand", headers[0][0][0].split(": ")[1].rstrip(".")),
           ".SH SYNOPSIS", *literal([f"#include <{path.split('/')[1]}>" for path in HEADERS]),
           ".PP", marked("Link with `pkg-config --cflags --libs dekhand`."), ".SH DESCRIPTION"]
    for number, paragraph in enumerate(headers[0][0][1:]):
        out += [".PP"] * (number > 0) + [marked(paragraph)]
    for heading, (_, calls, _) in zip(("FUNCTIONS", "FUNCTIONS FOR OPERATORS"), headers,
                                      strict=True):
        out += [f".SH {heading}", ".ad l", ".nh"]
        for call in calls:
            out += [line for prototype in call.prototypes
                    for line in (".HP 4", bold(prototype).replace(" *", "\\ *"))]
            out += [line for text in call.text for line in (".IP", marked(text))]
    out.append(".SH TYPES")
    for _, _, types in headers:
        for text in types:
            out += literal(text.splitlines()) + [".PP"]
    out.pop()
    out += see_also([("dekhand", 1), ("dekhand.env", 5), ("dekhand-errors", 7)])
    return "\n".join(out) + "\n"


def library_pages():
    headers = [tables.header(path) for path in HEADERS]
    names = [name for _, calls, _ in headers for call in calls for name in call.names]
    found = {f"{name}.3": ".so man3/libdekhand.3\n" for name in names}
    return found | {"libdekhand.3": library_page(headers)}


def pages():
    commands = list(tables.commands())
    words = read_words()
    groups = [(name, list(group)) for name, group in
              groupby(commands, key=lambda command: command.name.split()[0])]
    common = set.intersection(*({option.name for option in command.options}
                                for command in commands))
    found = {f"dekhand-{name}.1": command_page(name, group, common,
                                               words.get(f"dekhand-{name}", {}))
             for name, group in groups}
    found["dekhand.1"] = overview(groups, common, words["dekhand"])
    found["dekhand.env.5"] = settings_page(words["dekhand.env"])
    found["dekhand-errors.7"] = errors_page(words["dekhand-errors"])
    return found | library_pages()
