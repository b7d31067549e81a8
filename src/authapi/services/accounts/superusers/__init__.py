"""What superusers do to the accounts of other people, in transactions that check the superuser."""
