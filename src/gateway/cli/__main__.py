"""`python -m gateway.cli` where the script is not installed."""

from gateway.cli import main

main()
