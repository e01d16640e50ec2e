"""`dekhand completion bash|zsh|fish`: the scripts complete what `--help` tells, in the shells."""

import json
import os
import pty
import re
import subprocess
import threading

import pytest

from cli_tool import SCHEMAS, Cli, told

SHELLS = ("bash", "zsh", "fish")
TERMINALS = ("bash", "zsh", "zsh, installed")
# What may follow these, and where a file may.
WORDS = {"--operation": json.loads((SCHEMAS / "audit-entry.json").read_text())
         ["properties"]["operation"]["enum"],
         **{option: ["local", "aws-kms", "azure-key-vault"]
            for option in ("--provider", "--secondary-provider", "--to", "--drop")}, "--log": ["text", "json"],
         "--format": ["text", "md", "html", "json"]}
FILES = ("--output", "-o", "--rejects", "--env-file", "--anchor-file")


def options_of(cli, command):
    """{option: whether it wants a value} of `dekhand COMMAND --help`, letters too."""
    found = {}
    for letter, name, arg in re.findall(r"^  (-\w)?,? +--([\w-]+)(?: ([A-Z]\S*))? ",
                                        cli.ok(*command.split(), "--help").decode(), re.M):
        for option in filter(None, (letter, f"--{name}")):
            found[option] = bool(arg)
    return found


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    return Cli(tmp_path_factory.mktemp("completion"))


@pytest.fixture(scope="module")
def commands(cli):
    """{command: its options} of everything that `dekhand --help` lists."""
    names = re.findall(r"^  (\S+(?: \S+)?)  +\S", cli.ok("--help").decode(), re.M)
    assert len(names) > 12
    return {name: options_of(cli, name) for name in names}


@pytest.fixture(scope="module")
def scripts(cli, tmp_path_factory):
    """A folder with the three scripts, and with files to complete."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in SHELLS:
        (folder / f"dekhand.{shell}").write_bytes(cli.ok("completion", shell))
    (folder / "functions").mkdir()
    (folder / "functions" / "_dekhand").write_bytes((folder / "dekhand.zsh").read_bytes())
    (folder / "here").mkdir()
    (folder / "here" / "some file.csv").touch()
    (folder / "here" / "some folder").mkdir()
    return folder


def ask(argv, scripts, lines):
    """Runs a shell that answers each line with words and an empty line; a list of sets."""
    done = subprocess.run(argv, input="".join(f"{line}\n" for line in lines), timeout=120,
                          cwd=scripts / "here", capture_output=True, text=True, check=False,
                          env={"PATH": os.environ["PATH"], "HOME": str(scripts)})
    assert done.returncode == 0 and done.stderr == "", told(done)
    return [set(answer.split("\n")) - {""} for answer in done.stdout.split("\0")[:-1]]


BASH = """
source "$0"
complete -p dekhand | grep -q 'complete -F _dekhand dekhand' || exit 9
while IFS= read -r line; do
    IFS=' ' read -r -a COMP_WORDS <<< "$line"
    [[ $line != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _dekhand
    printf '%s\\n' "${COMPREPLY[@]}"
    printf '\\0'
done
"""

FISH = """
source $argv[1]
while read -l line
    complete -C "$line"
    printf '\\0'
end
"""


def bash(scripts, lines):
    return ask(["bash", "--noprofile", "--norc", "-c", BASH, scripts / "dekhand.bash"], scripts,
               lines)


def fish(scripts, lines):
    argv = ["fish", "--no-config", "-c", FISH, scripts / "dekhand.fish"]
    return [{word.split("\t")[0] for word in answer} for answer in ask(argv, scripts, lines)]


class Terminal:
    """A shell on a terminal: keys go in, and at ^T the line as it stands comes out."""

    def __init__(self, argv, env, cwd):
        self.master, slave = pty.openpty()
        self.answers, theirs = map(os.fdopen, os.pipe(), ("r", "w"))
        number = theirs.fileno()
        self.shell = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, pass_fds=[number],
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "ANSWERS": str(number), **env})
        os.close(slave)
        theirs.close()
        self.screen = b""
        self.reader = threading.Thread(target=self._read_screen)
        self.reader.start()
        assert self.answers.readline() == "ready\n"

    def _read_screen(self):
        try:
            while data := os.read(self.master, 4096):
                self.screen += data
        except OSError:
            pass  # the shell has ended

    def complete(self, typed):
        os.write(self.master, typed.encode() + b"\t\x14")
        answer = self.answers.readline()
        assert answer, self.screen[-2000:]
        return answer[:-1]

    def close(self):
        self.shell.kill()
        self.shell.wait(timeout=30)
        self.reader.join(timeout=30)
        self.answers.close()
        os.close(self.master)


ZSHRC = """
fpath=($FUNCTIONS $fpath)
autoload -Uz compinit
compinit -D -u
[[ -z $SCRIPT ]] || source $SCRIPT
LISTMAX=100000
unsetopt auto_menu beep
answer() { print -r -u $ANSWERS -- "$BUFFER"; BUFFER= }
zle -N answer
bindkey '^T' answer
zle-line-init() { print -u $ANSWERS ready }
zle -N zle-line-init
"""

BASHRC = """
source "$SCRIPT"
answer() { printf '%s\\n' "$READLINE_LINE" >&"$ANSWERS"; READLINE_LINE= READLINE_POINT=0; }
bind -x '"\\C-t": answer'
bind 'set bell-style none'
bind 'set completion-query-items 0'
bind 'set page-completions off'
echo ready >&"$ANSWERS"
"""


@pytest.fixture(scope="module")
def terminals(scripts, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / ".zshrc").write_text(ZSHRC)
    (home / "bashrc").write_text(BASHRC)
    started = {}
    zsh = ["zsh", "-d", "-i"]
    for name, argv, env in (
            ("bash", ["bash", "--noprofile", "--rcfile", home / "bashrc", "-i"],
             {"SCRIPT": str(scripts / "dekhand.bash")}),
            ("zsh", zsh, {"SCRIPT": str(scripts / "dekhand.zsh")}),
            ("zsh, installed", zsh, {"FUNCTIONS": str(scripts / "functions")})):
        env.update(HOME=str(home), ZDOTDIR=str(home))
        started[name] = Terminal(argv, env, scripts / "here")
    yield started
    for terminal in started.values():
        terminal.close()


def first_words(commands):
    return {name.split()[0] for name in commands}


@pytest.mark.parametrize("shell", [bash, fish])
def test_every_command_is_offered(shell, scripts, commands):
    firsts = sorted(first_words(commands))
    offered, *second = shell(scripts, ["dekhand ", *(f"dekhand {name} " for name in firsts)])
    assert {word for word in offered if word[0] != "-"} == set(firsts)
    for name, words in zip(firsts, second, strict=True):
        expected = {other.split()[1] for other in commands if other.startswith(f"{name} ")}
        assert {word for word in words if word[0] != "-"} == expected, name


@pytest.mark.parametrize("shell", [bash, fish])
def test_every_option_of_every_command_is_offered(shell, scripts, commands):
    answers = shell(scripts, [f"dekhand {name} --" for name in commands])
    for (name, options), offered in zip(commands.items(), answers, strict=True):
        assert offered == {option for option in options if option.startswith("--")}, name


@pytest.mark.parametrize("shell", [bash, fish])
def test_values_are_words_files_or_nothing(shell, scripts, commands):
    asked = [(name, option, f"dekhand {name} {option} ") for name, options in commands.items()
             for option, valued in options.items() if valued]
    answers = shell(scripts, [line for _, _, line in asked])
    assert {option for _, option, _ in asked} >= {*WORDS, *FILES, "--tenant", "--state-dir"}
    for (_, option, line), offered in zip(asked, answers, strict=True):
        offered = {word.replace("\\ ", " ").rstrip("/") for word in offered}
        expected = (set(WORDS[option]) if option in WORDS else
                    {"some file.csv", "some folder"} if option in FILES else
                    {"some folder"} if option == "--state-dir" else set())
        assert offered == expected, line


@pytest.mark.parametrize("shell", TERMINALS)
def test_a_terminal_completes_every_word(shell, terminals, commands):
    terminal = terminals[shell]
    for name, options in commands.items():
        typed = "dekhand " + name[:-1]
        rivals = [other for other in commands if other.startswith(name[:-1])]
        assert terminal.complete(typed) == f"dekhand {name} ", typed
        assert rivals == [name]
        for option in options:
            typed = f"dekhand {name} {option[:-1]}"
            rivals = [other for other in options if other.startswith(option[:-1])]
            if len(rivals) == 1:
                assert terminal.complete(typed).rstrip(" =") == f"dekhand {name} {option}", typed


@pytest.mark.parametrize("shell", TERMINALS)
@pytest.mark.parametrize("typed, completed", [
    ("dekhand audit list --operation comp", "dekhand audit list --operation compromise "),
    ("dekhand audit list --operation=comp", "dekhand audit list --operation=compromise "),
    ("dekhand init --log=j", "dekhand init --log=json "),
    ("dekhand encrypt -o some\\ fi", "dekhand encrypt -o some\\ file.csv "),
    ("dekhand decrypt --output some\\ fi", "dekhand decrypt --output some\\ file.csv "),
    ("dekhand keys list --state-dir s", "dekhand keys list --state-dir some\\ folder/"),
    ("dekhand keys list --tenant s", "dekhand keys list --tenant s"),
    ("dekhand nosuch --t", "dekhand nosuch --t"),
])
def test_a_terminal_completes_values(shell, terminals, typed, completed):
    assert terminals[shell].complete(typed) == completed


def test_words_that_are_offered_are_taken(cli):
    cli.ok("init")
    for operation in WORDS["--operation"]:
        cli.ok("audit", "list", "--operation", operation)
    for word in WORDS["--log"]:
        cli.ok("keys", "list", "--log", word)
    cli.ok("keys", "list", "--provider", "local")
    for word in WORDS["--provider"][1:]:  # each is one, and wants its settings
        assert "is required" in cli.fails(2, "keys", "list", "--provider", word)


def test_another_shell_is_refused(cli):
    assert "bash, zsh, fish" in cli.fails(2, "completion", "tcsh")
    assert "bash, zsh, fish" in cli.fails(2, "completion")
