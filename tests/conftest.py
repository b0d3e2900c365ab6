"""Shapes written in signatures are checked in every test: the hook is installed before anything of ours is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and torch read it; two cores are shared by the workers

from jaxtyping import install_import_hook

install_import_hook("transect", "beartype.beartype")
