"""`python -m transect …`, and so `torchrun -m transect train …`: the same commands as `transect`."""

from transect.cli.main import main

main()
