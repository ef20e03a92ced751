"""The command line itself: help, versions, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

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


def test_importing_arcuate_is_quick_enough_to_not_be_noticed() -> None:
    """No time limit in a test: what costs time is what is loaded, so that is what is checked."""
    code = "import sys, arcuate; print(len(sys.modules))"
    start = time.perf_counter()
    loaded = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    print(f"import arcuate: {time.perf_counter() - start:.2f} s with the interpreter, {loaded} modules")
    assert loaded < 1500


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no interval timer")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_ctrl_c_that_python_loses_is_raised_again_and_does_not_disturb_the_cleaning(number: signal.Signals) -> None:
    code = f"""
import os, time, click
from arcuate import cli
from arcuate.commands import stopping

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.05)

@click.command()
def work():
    swallows = Swallows()
    del swallows
    print("went on", flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep(3 * stopping.ASK_AGAIN)
        print("cleaned up", flush=True)

cli.app = work
cli.main([])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (130, "went on\ncleaned up\n"), done.stderr
    assert "stopped; what is finished is kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr


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
