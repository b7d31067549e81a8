"""Routes that depend on mail: e-mail addresses, password resets, invitations, foreign logins.

They are one unit, which is not installed if the service sends no mail.
"""
