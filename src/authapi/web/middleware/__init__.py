"""ASGI middleware around every route, of authapi and of the importing application."""
