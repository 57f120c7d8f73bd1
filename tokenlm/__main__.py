"""`python -m tokenlm`, the same as the command `tokenlm`."""

from tokenlm.cli import main

main()
