"""Kernels that run their own copies of the functions they call, in the process that compiles them as in later ones.

numba makes machine code of a function that kernels call on its own, and once more as a copy in each kernel's module,
which LLVM optimises with the kernel. Copies that LLVM does not take into the kernel stay as symbols that may be there
many times, and calls go to the one that the process has met first: where a kernel is compiled to the code on its own,
where it is read from disk to the copy, or to that of another kernel read before. They are not optimised alike, so with
``fastmath`` they sum in another order. Here the copies of a kernel become its own, under names that nothing else has,
when LLVM has optimised them and before they are machine code: what later processes compute stays as it was.
"""

from __future__ import annotations

from typing import Any

from numba.core import codegen as numba_codegen
from numba.core import compiler as numba_compiler

__all__ = ["OwnCopies"]

_Compiler: Any = numba_compiler.Compiler
_Library: Any = getattr(numba_codegen, "JITCodeLibrary", object)


class _OwnLibrary(_Library):  # type: ignore[misc]
    """numba's container of the code of one function and of all it calls."""

    def _finalize_final_module(self) -> None:
        """Called by numba with the optimised module, before it becomes machine code.

        Functions of the kernel itself are "external", copies of others "linkonce_odr": one of any number of equal ones.
        """
        functions = list(self._final_module.functions)
        own = next((function.name for function in functions if function.linkage.name == "external"), self.name)
        for function in functions:
            if function.linkage.name == "linkonce_odr":
                function.name = f"{function.name}.of.{own}"
                function.linkage = "internal"
        super()._finalize_final_module()


class OwnCopies(_Compiler):  # type: ignore[misc]
    """numba's compiler, for ``njit(pipeline_class=OwnCopies)``.

    Which class holds the code numba does not let us choose, and ``_finalize_final_module`` is not promised: a numba
    that has no such things gets kernels as it would make them, and ``tests/numerics/test_own_copies.py`` fails.
    """

    def define_pipelines(self) -> Any:
        """numba's own; the library is found where it would be made."""
        state = self.state
        codegen = state.targetctx.codegen()
        if state.library is None and getattr(codegen, "_library_class", None) is _Library:
            state.library = _OwnLibrary(codegen, state.func_id.func_qualname)
            state.library.enable_object_caching()
        return super().define_pipelines()
