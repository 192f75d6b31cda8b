"""`python -m sidecar` is `falco-correlator`."""

from sidecar.cli import main

main(prog_name="falco-correlator")
