"""The pages: templates, texts, languages, files and addresses. `web.routes.pages` has the handlers.

The pages work without JavaScript. A GET request changes nothing, because mail scanners follow
links. `site` has what an installation has of its own, `rendering` makes responses, `error_pages`
renders errors.
"""
