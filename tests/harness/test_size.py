"""scripts/size.py on small trees."""

import size


def measure(root, text):
    (root / "src" / "base").mkdir(parents=True)
    (root / "src" / "base" / "a.c").write_text(text)
    return size.measure(root)


def body(lines):
    return "{\n" + "    x();\n" * lines + "}\n"


def test_functions_are_found_with_their_first_line(tmp_path):
    text = ("#include <a.h>\n\nstatic const char *const names[] = {\n    \"a\",\n};\n\n"
            "struct a {\n    int b;\n};\n\n/* c */\nstatic int f(void)\n" + body(1)
            + "\nint *g(int a,\n       int b)\n" + body(3))
    functions, files = measure(tmp_path, text)
    assert [(f.where, f.name, f.lines) for f in functions] == [
        ("src/base/a.c:12", "f", 4), ("src/base/a.c:17", "g", 7)]
    assert files[0].lines == 23
    assert size.complain(functions, size.MAX_FUNCTION) == 0


def test_long_function_is_refused(tmp_path):
    functions, _ = measure(tmp_path, "/* f. */\nint f(void)\n" + body(78))
    assert size.complain(functions, size.MAX_FUNCTION) == 1


def test_longest_allowed_function(tmp_path):
    functions, _ = measure(tmp_path, "int f(void)\n" + body(77))
    assert (functions[0].lines, size.complain(functions, size.MAX_FUNCTION)) == (80, 0)


def test_reason_excuses_a_function(tmp_path):
    text = "/*\n * f.\n * size: one row a state\n */\nint f(void)\n" + body(90)
    functions, _ = measure(tmp_path, text)
    assert size.complain(functions, size.MAX_FUNCTION) == 0


def test_empty_reason_excuses_nothing(tmp_path):
    functions, _ = measure(tmp_path, "/* size: */\nint f(void)\n" + body(90))
    assert size.complain(functions, size.MAX_FUNCTION) == 1


def test_long_file_wants_a_reason_at_its_head(tmp_path):
    _, files = measure(tmp_path, "/* a. */\n" + "int a;\n" * 600)
    assert size.complain(files, size.MAX_FILE) == 1
    (tmp_path / "b").mkdir()
    _, files = measure(tmp_path / "b", "/* a. size: a table */\n" + "int a;\n" * 600)
    assert size.complain(files, size.MAX_FILE) == 0
