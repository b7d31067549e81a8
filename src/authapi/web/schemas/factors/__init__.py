"""Models of second factors."""
