"""Checks the templates of an operator with example values, before a person opens a page."""
