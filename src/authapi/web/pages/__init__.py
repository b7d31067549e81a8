"""/account: plain pages where the links in mail lead, for applications that have none of their own.

They need no script. A GET changes nothing, as programs that look at mail follow links too: a button
does. `texts` are what they say, `page.html` is their form, `forms` what each of them does,
`refusals` how errors look there.
"""
