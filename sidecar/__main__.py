"""`python -m sidecar` is `falco-correlator`."""

from sidecar.cli.main import main

main(prog_name="falco-correlator")
