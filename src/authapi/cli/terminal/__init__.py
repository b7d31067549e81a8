"""What commands read from a terminal and write to it, or to a pipe in its place.

On a terminal, tables and progress are of rich. Otherwise the text is plain, without an import of
it: a program reads `--json`, or the lines of `--plain`.
"""
