"""What a program in a process of its own starts with to count the kernels that numba compiles, in ``Count.n``."""

COUNT = """
from numba.core import event
class Count(event.Listener):
    n = 0
    def on_start(self, _): Count.n += 1
    def on_end(self, _): pass
event.register("numba:compile", Count())
"""
