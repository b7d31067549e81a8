"""The edge: what stands around every request, ours or of the importing application."""
