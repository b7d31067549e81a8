"""The measured applications. Those of other projects run in an environment without authapi."""
