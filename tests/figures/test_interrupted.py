"""Ctrl-C while VTK is imported or draws: it arrives, and VTK neither crashes nor complains."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("pyvista")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")

IMPORT = """
import signal, sys, time
from arcuate.figures.scene import import_pyvista
from arcuate.commands.stopping import stoppable
try:
    with stoppable():
        print("ready", flush=True)
        import_pyvista()
        time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
"""

DRAW = """
import os, random, signal, threading, time
import numpy as np
from arcuate.figures.meshes import glyphs, whole_sphere
from arcuate.figures.scene import Scene
from arcuate.commands.stopping import stoppable
from arcuate.numerics.sphere import get_sphere

vertices, faces, _ = whole_sphere(get_sphere("repulsion200"))
colors = np.full((len(vertices), 3), 200, np.uint8)
ball = np.pad(np.ones((5, 5, 5)), 3)

def draw():
    scene = Scene((200, 200))
    scene.add_mesh(glyphs(np.ones((3, len(vertices))), np.arange(9.0).reshape(3, 3), vertices, faces, colors))
    scene.add_contour(ball, np.ones(3), 0.5, 10, "red", 0.5)
    scene.look(np.array([0.0, 0, 1]), np.array([0.0, 1, 0]))
    scene.add_labels(("L", "R", "P", "A"))
    return scene.picture()

expected = draw()
begin = time.perf_counter()
draw()
seconds = time.perf_counter() - begin
moments = random.Random(0)
stops = 0
for _ in range(N_STOPS):
    try:
        with stoppable():
            threading.Timer(moments.uniform(0.001, seconds), os.kill, (os.getpid(), signal.SIGINT)).start()
            draw()
            time.sleep(10)
    except KeyboardInterrupt:
        stops += 1
print(stops, np.array_equal(draw(), expected))
"""


@pytest.mark.parametrize("n_stops", [8, pytest.param(60, marks=pytest.mark.long)])
def test_an_interrupt_while_vtk_is_imported_arrives(n_stops: int) -> None:
    moments = np.random.default_rng(0).uniform(0, 0.8, n_stops)
    for moment in moments:
        command = [sys.executable, "-c", IMPORT]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(signal.SIGTERM)
        output, error = process.communicate()
        assert (process.returncode, output, error) == (0, "stopped\n", "")


@pytest.mark.parametrize("n_stops", [60, pytest.param(1500, marks=pytest.mark.long)])
def test_an_interrupt_while_vtk_draws_arrives_and_the_next_picture_is_right(n_stops: int) -> None:
    code = DRAW.replace("N_STOPS", str(n_stops))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{n_stops} True\n"), done.stderr
    assert "ERR" not in done.stderr
    assert "Exception" not in done.stderr
