"""Second factors of the caller: authenticator apps, recovery codes and passkeys."""
