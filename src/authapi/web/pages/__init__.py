"""/account: plain pages where the links in mail lead, for applications that have none of their own.

They need no script. A GET changes nothing, as programs that check mail follow links too. They also
submit forms, so each form asks for something that is typed: a password, or an address that the page
does not show. `texts` are what they say, `page.html` is their form, `forms` what each of them does,
`refusals` how errors look there.
"""
