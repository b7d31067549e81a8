"""/account: HTML pages for the links in mails, for applications that have no such pages.

The pages use no JavaScript. A GET request changes nothing, because mail scanners follow links. Some
scanners also submit forms, so each form requires typed input: a password, or an address that the
page does not contain. `texts` has the texts, `page.html` is the template, `error_pages` renders
errors, `web.routes.forms` handles the forms.
"""
