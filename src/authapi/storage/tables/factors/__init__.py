"""Queries on second factors, and on logins that wait for one."""
