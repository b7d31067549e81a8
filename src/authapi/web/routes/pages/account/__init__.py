"""The pages of the account of the person who is signed in; `caller` says who that is."""
