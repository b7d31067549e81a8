"""Representations of responses: OAuth errors, WebSocket refusals, entity tags, event files."""
