"""An asynchronous application with tables of its own beside those of authapi."""
