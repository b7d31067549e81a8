"""HTTP in, HTTP out: resolver, routes, errors, edge, and the OpenAPI document."""
