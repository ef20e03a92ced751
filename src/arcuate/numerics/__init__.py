"""Mathematics on arrays; knows no MRI words.

Two things must be settled before the first kernel is decorated or a process forks, so they are done here, where every
module with kernels comes by: where compiled kernels are kept, and how kernels go on in a forked process.
"""

from arcuate.numerics.kernel_cache import settle_kernel_cache
from arcuate.numerics.threads import keep_kernels_usable_after_a_fork

settle_kernel_cache()
keep_kernels_usable_after_a_fork()
