"""The command line: `falco-correlator` and its subcommands.

Belongs here: arguments, exit codes and output on a terminal. Does not: anything the service needs at run time.
"""
