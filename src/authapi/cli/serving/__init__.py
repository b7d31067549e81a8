"""`authapi serve`: the server, its shutdown, and its logs."""
