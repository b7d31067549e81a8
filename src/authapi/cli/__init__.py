"""The command line: a module per command group. An error is one line on stderr and exit code 1."""
