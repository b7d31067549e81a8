"""The checks of `authapi doctor`."""
