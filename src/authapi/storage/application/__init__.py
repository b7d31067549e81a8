"""Connections that belong to the application: its engine, its Session, and joined transactions."""
