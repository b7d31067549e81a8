"""Speed beside peers, in one run. See README.md; authapi imports nothing of this."""
