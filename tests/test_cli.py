"""The command line itself: help, versions, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import click
import pytest

from arcuate import cli


def _arcuate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "arcuate", *arguments], capture_output=True, text=True, check=False)


def test_version_and_help() -> None:
    assert _arcuate("--version").stdout.startswith("arcuate 0.")
    shown = _arcuate("--help").stdout
    for command in ("run", "mask", "dti"):
        assert f"  {command} " in shown


@pytest.mark.parametrize("name", cli.app.list_commands(click.Context(cli.app)))
def test_every_command_has_help_that_says_what_it_does(name: str) -> None:
    outcome = _arcuate(name, "--help")
    assert outcome.returncode == 0, outcome.stderr
    assert len(outcome.stdout.splitlines()) > 5


def test_a_terminal_without_letters_for_units_ends_nothing() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "iso8859-5"}
    command = [sys.executable, "-m", "arcuate", "run", "--help"]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert r"s/mm\xb2" in outcome.stdout


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("mask",), ("mask", "no.nii", "--out", "x.nii"), ("mask", "--wrong")]
)
def test_the_users_mistake_is_exit_2_without_a_traceback(arguments: tuple[str, ...]) -> None:
    outcome = _arcuate(*arguments)
    assert outcome.returncode == 2
    assert "Traceback" not in outcome.stderr


def test_our_bug_is_exit_1_with_a_traceback() -> None:
    code = "import arcuate.cli as c; c.app.main = lambda *a, **k: 1 / 0; c.main([])"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert outcome.returncode == 1
    assert "ZeroDivisionError" in outcome.stderr


def run_with(body: str) -> subprocess.CompletedProcess[str]:
    """A command line whose command is ``body``."""
    lines = "\n    ".join(body.strip().splitlines())
    code = f"import errno, os, sys, click\nfrom arcuate import cli\n@click.command()\ndef work():\n    {lines}\n"
    code += "cli.app = work\ncli.main([])\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("number", ["ENOSPC", "EACCES", "EROFS"])
def test_a_disk_that_takes_nothing_is_one_sentence(number: str) -> None:
    outcome = run_with(f"raise OSError(errno.{number}, os.strerror(errno.{number}), 'some/file')")
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("error: ")
    assert "(some/file); check permissions and free space" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "body",
    [
        "open('/a file that arcuate forgot')",
        "open(os.path.join(os.path.dirname(cli.__file__), 'report', 'missing.html'))",
        "raise PermissionError(errno.EACCES, 'no', os.path.join(os.path.dirname(cli.__file__), 'numerics', 'data'))",
        "raise OSError('a library that gives no number')",
    ],
)
def test_a_file_that_arcuate_itself_misses_is_our_bug_and_not_the_users(body: str) -> None:
    outcome = run_with(body)
    assert outcome.returncode == 1
    assert "Traceback" in outcome.stderr


@pytest.mark.skipif(os.name != "posix", reason="streams of POSIX")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_caller_closed_do_not_end_a_command(closed: str) -> None:
    command = f"'{sys.executable}' -m arcuate --version {closed}"
    outcome = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize("n_lines", [1, 100_000])
def test_a_pipe_that_nobody_reads_ends_the_command_quietly(n_lines: int) -> None:
    code = "import click\nfrom arcuate import cli\n@click.command()\ndef work():\n    import time; time.sleep(0.5)\n"
    code += f"    for i in range({n_lines}):\n        print(i)\ncli.app = work\ncli.main([])\n"
    pipe = f"'{sys.executable}' -c '{code}' | true; echo ${{PIPESTATUS[0]}}"
    outcome = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert (outcome.stdout, outcome.stderr) == ("141\n", "")


@pytest.mark.parametrize("wish", ["ignore", "error"])
def test_doubts_of_a_scan_are_told_whatever_is_wished_of_pythons_warnings(wish: str) -> None:
    code = "import click\nfrom arcuate import cli, errors\n@click.command()\ndef work():\n    errors.warn('a doubt')\n"
    code += "cli.app = work\ncli.main([])\n"
    environment = os.environ | {"PYTHONWARNINGS": wish}
    command = [sys.executable, "-c", code]
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "warning: a doubt\n")


def test_warnings_look_as_before_when_the_command_line_has_ended() -> None:
    code = "import warnings\nfrom arcuate import cli\nbefore = warnings.showwarning\n"
    code += "try:\n    cli.main(['--version'])\nexcept SystemExit:\n    print(warnings.showwarning is before)"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.splitlines()[-1] == "True"


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_python_loses_a_ctrl_c_a_second_one_ends_at_once(number: signal.Signals) -> None:
    code = f"""
import os, time, click
from arcuate import cli

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.05)

@click.command()
def work():
    swallows = Swallows()
    del swallows
    print("went on", flush=True)
    os.kill(os.getpid(), {int(number)})
    print("not reached", flush=True)

cli.app = work
cli.main([])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (-number, "went on\n"), done.stderr


@pytest.mark.skipif(os.name != "posix", reason="Windows sends no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_the_cleaning_of_the_first(number: signal.Signals) -> None:
    code = f"""
import os, click
from arcuate import cli

@click.command()
def work():
    try:
        os.kill(os.getpid(), {int(number)})
    finally:
        print("cleaning", flush=True)
        os.kill(os.getpid(), {int(number)})
        print("not reached", flush=True)

cli.app = work
cli.main([])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (-number, "cleaning\n"), done.stderr


def test_a_signal_that_the_caller_ignores_stays_ignored_and_handlers_come_back() -> None:
    code = """
import os, signal, click
from arcuate import cli

@click.command()
def work():
    os.kill(os.getpid(), signal.SIGINT)

cli.app = work
signal.signal(signal.SIGINT, signal.SIG_IGN)
before = signal.getsignal(signal.SIGTERM)
try:
    cli.main([])
except SystemExit as end:
    print(end.code, signal.getsignal(signal.SIGINT) == signal.SIG_IGN, signal.getsignal(signal.SIGTERM) == before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 True True\n"


@pytest.mark.skipif(os.name != "posix", reason="only a POSIX shell asks which signal ended a command")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_ends_by_the_signal_so_that_a_loop_in_a_shell_ends_too(number: signal.Signals) -> None:
    code = """
import atexit, time, click
from arcuate import __main__, cli

@click.command()
def work():
    atexit.register(print, "left nothing", flush=True)
    print("ready", flush=True)
    time.sleep(60)

cli.app = work
__main__.main()
"""
    loop = f"for subject in 1 2 3; do '{sys.executable}' -c '{code}'; echo ended with $?; done"
    process = subprocess.Popen(
        ["bash", "-c", loop],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, number)  # as a terminal does
    output, error = process.communicate()
    assert (process.returncode, output) == (-number, "left nothing\n"), error
    assert error.strip().startswith("stopped; what is finished is kept")
    assert "Traceback" not in error


@pytest.mark.parametrize(("own", "told"), [(None, "4"), ("12", "12")])
def test_threads_of_blas_do_not_spin_beside_kernels_unless_the_user_says_so(own: str | None, told: str) -> None:
    code = """
import os, sys, click
from arcuate import __main__, cli

@click.command()
def work():
    print("numpy" in sys.modules, os.environ["OPENBLAS_THREAD_TIMEOUT"])  # which is read when numpy is imported

cli.app = work
__main__.main()
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    environment |= {} if own is None else {"OPENBLAS_THREAD_TIMEOUT": own}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"False {told}\n"
