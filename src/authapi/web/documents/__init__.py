"""Public documents: files that browsers keep, and parts of the OpenAPI document."""
