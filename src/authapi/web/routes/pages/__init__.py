"""Handlers of the pages: GET shows a page, and POST performs its form and leads to another page.

A module handles one page or a few. `flow` turns refusals into messages on the form. The pages call
the services of the routes of the API, so they allow nothing that the API refuses.
"""
